"""Commands that reproduce runs: they parse, and recipes survive a round trip."""

import inspect
import json
import shlex
import tomllib
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from factories.runs import ENCODER_ID, write_run

import unimos_pipe
from unimos_pipe.base.errors import Call
from unimos_pipe.cli.adapt import adapt
from unimos_pipe.cli.compose_commands import command_line
from unimos_pipe.cli.main import main
from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.reproduce import recipe_toml, reproduce_calls
from unimos_pipe.runs.read_recipe import check_recipe, known_recipes, load_recipe


@pytest.fixture(autouse=True)
def running():
    """A command line that is being run, whose commands are known."""
    with click.Context(main, info_name="unimos-pipe"):
        yield


def made(root: Path) -> list[str]:
    calls = reproduce_calls(find_runs([root])[0][0], Path("out/recipes/r.toml"), None)
    for call in calls:
        if isinstance(call, Call):
            check_call(call)
    return [call if isinstance(call, str) else command_line(call) for call in calls]


def check_call(call: Call) -> None:
    """Assert that a call's function is public, and its arguments are parameters."""
    inspect.signature(getattr(unimos_pipe, call.function)).bind_partial(**call.arguments)
    for value in call.arguments.values():
        if isinstance(value, Call):
            check_call(value)


def test_runs_without_a_recipe_are_adapts_that_can_be_parsed(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "line+solid->sketch", dataset="icons", seed=seed, changed={"loss.im": False})
    for seed in (0, 2):
        write_run(tmp_path, "line->sketch", dataset="icons", seed=seed, variant="no-im")
    write_run(tmp_path, "line->sketch", dataset="icons", method="fused")
    start = f"unimos-pipe adapt --dataset icons --encoder-id {ENCODER_ID} --src {{}} --tgt sketch"
    runs = f"{tmp_path}/icons/{ENCODER_ID}/line-sketch"
    more = "--protocol transductive --no-calibrate"
    one, several = start.format("line"), start.format("line --src solid")
    lines = made(tmp_path)
    assert set(lines) == {
        f"{several} {more} --set loss.im=false --seed 1 --seeds 2 --runs {tmp_path}",
        f"{one} --variant no-im {more} --out {runs}/no-im/seed0",
        f"{one} --variant no-im {more} --seed 2 --out {runs}/no-im/seed2",
        f"{one} --method fused {more} --runs {tmp_path}",
    }
    for line in lines:
        adapt.make_context("adapt", shlex.split(line)[2:])


def test_a_data_set_of_ones_own_is_named_by_its_file(tmp_path):
    write_run(tmp_path)
    note, line = made(tmp_path)
    assert note == "# mini is a custom data set: replace mini.toml by the path of its spec"
    assert "--dataset mini.toml" in line


def test_a_sweep_is_its_recipe(tmp_path):
    root = tmp_path / "mine"
    write_run(root)
    (root / "recipe.json").write_text(json.dumps({"name": "mine", "dataset": "mini.toml"}))
    assert made(root) == [f"unimos-pipe sweep out/recipes/r.toml --runs {tmp_path}"]
    (call,) = reproduce_calls(find_runs([root])[0][0], Path("r.toml"), Path("my cache"))
    assert command_line(call) == f"unimos-pipe sweep r.toml --cache 'my cache' --runs {tmp_path}"
    assert str(call) == (
        "unimos_pipe.run_sweep(recipe=unimos_pipe.resolve_recipe(recipe='r.toml', cache='my cache'), "
        f"runs='{tmp_path}')"
    )


def test_every_recipe_comes_back_from_its_json():
    for name in known_recipes():
        recipe, _ = load_recipe(name)
        again = tomllib.loads(recipe_toml(json.loads(json.dumps(asdict(recipe)))))
        assert check_recipe(again, name)[0] == recipe
