"""Every command leaves its work to a public function: with that function replaced, the command gets no further."""

import importlib
import inspect
import sys

import click
import pytest

import unimos_pipe
from unimos_pipe.cli.main import main

LINES = {  # the function that each command line calls first
    "extract --dataset icons --all": "extract_features",
    "adapt --dataset icons --src line --tgt color": "adapt_pairs",
    "sweep icons_ablation": "run_sweep",
    "sweep icons_ablation --dry-run": "plan_sweep",
    "run icons_ablation": "run_recipe",
    "run icons_ablation --dry-run": "plan_recipe",
    "report runs": "make_report",
    "rerun runs": "rerun",
    "compare one other": "compare_runs",
    "predict --run run --images folder -o out.csv": "predict",
    "predict --run run --domain sketch -o out.csv": "predict_cached",
    "export --run run --out model": "export_run",
    "photos shop phone": "run_photo_job",
    "sort run --to folder": "sort_photos",
    "review run": "review_photos",
    "label next --run run": "choose_images_to_label",
    "demo": "demo",
    "manifest ls": "list_datasets",
    "manifest show icons": "load_spec",
    "manifest scan --domain a=folder -o spec.toml": "create_dataset_spec",
    "manifest update spec.toml": "update_dataset_spec",
    "manifest unpack shard.tar -o out": "unpack_images",
    "manifest check icons": "check_dataset",
    "encoder ls": "list_encoders",
    "cache path": "default_cache",
    "cache ls --cache folder": "list_cache",
    "cache verify --cache folder": "verify_cache",
    "cache prune --cache folder": "find_prunable",
    "cache import features.npy --dataset icons --domain line --encoder-name theirs": "import_features",
    "cache combine one two --dataset icons --as both": "combine_features",
    "cache export --dataset icons --domain line -o out": "export_features",
    "bench extract --dataset icons": "bench_extract",
    "bench store": "bench_store",
    "bench adapt": "bench_adapt",
    "bench adapt --compare-rounds 1": "bench_compare_reference",
    "bench memory": "bench_memory",
    "bench methods folder": "bench_methods",
}


class Called(BaseException):
    """A public function was called; no handler of the command line takes this for a fault."""


def replace_function(monkeypatch, name: str) -> None:
    """Make a public function raise :class:`Called` wherever the command line looks it up, if the arguments fit it."""
    home = importlib.import_module(unimos_pipe._PUBLIC[name])
    function = getattr(home, name)

    def raise_called(*args, **kwargs):
        inspect.signature(function).bind(*args, **kwargs)
        raise Called(name)

    monkeypatch.setattr(unimos_pipe, name, raise_called, raising=False)
    modules = [module for key, module in sys.modules.items() if key.startswith("unimos_pipe.cli.")]
    for module in (home, *modules):
        for attribute, value in list(vars(module).items()):
            if value is function:
                monkeypatch.setattr(module, attribute, raise_called)


def leaf_commands(group: click.Group, above: str = "") -> list[str]:
    names = []
    for name, command in group.commands.items():
        names += leaf_commands(command, f"{above}{name} ") if isinstance(command, click.Group) else [above + name]
    return names


def test_every_command_has_a_line():
    lines = list(LINES)
    assert [name for name in leaf_commands(main) if not any(f"{line} ".startswith(f"{name} ") for line in lines)] == []


@pytest.mark.parametrize("line", LINES)
def test_the_command_calls_its_public_function(line, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "folder").mkdir()
    replace_function(monkeypatch, LINES[line])
    with pytest.raises(Called, match=f"^{LINES[line]}$"):
        cli(*line.split())
