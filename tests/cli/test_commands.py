"""Every command has its function in the library, and calls it."""

import inspect

import click

import unimos_pipe
from unimos_pipe.cli.main import main

FUNCTIONS = {
    "extract": ("extract_features",),
    "adapt": ("adapt_pairs",),
    "sweep": ("run_sweep",),
    "run": ("run_recipe",),
    "report": ("make_report",),
    "predict": ("predict", "predict_cached"),
    "export": ("export_run",),
    "demo": ("demo",),
    "manifest ls": ("list_datasets",),
    "manifest show": ("load_spec",),
    "manifest scan": ("describe_images",),
    "manifest check": ("check_dataset",),
    "encoder ls": ("list_encoders",),
    "cache ls": ("list_cache",),
    "cache verify": ("verify_cache",),
    "cache prune": ("prunable",),
    "cache import": ("import_features",),
    "cache export": ("export_features",),
    "bench extract": ("bench_extract",),
    "bench store": ("bench_store",),
    "bench adapt": ("bench_adapt",),
}


def commands(group: click.Group, above: str = "") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{above}{name} ")
        else:
            found[above + name] = command
    return found


def test_every_command_calls_its_public_function():
    found = commands(main)
    assert found.keys() == FUNCTIONS.keys()
    for name, functions in FUNCTIONS.items():
        source = inspect.getsource(inspect.unwrap(found[name].callback))
        for function in functions:
            assert function in dir(unimos_pipe) and callable(getattr(unimos_pipe, function))
            assert f"unimos_pipe.{function}(" in source, f"{name} does not call {function}"
