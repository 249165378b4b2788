"""The programs of pipelines/README.md that log runs elsewhere, with those libraries' places taken."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import unimos_pipe

README = Path(__file__).parents[2] / "pipelines" / "README.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def short(monkeypatch, icons_cache, tmp_path):
    """One epoch of one pair, from features that are there."""
    monkeypatch.setenv("UNIMOS_CACHE", str(icons_cache))
    monkeypatch.chdir(tmp_path)
    pairs, sweep = unimos_pipe.adapt_pairs, unimos_pipe.run_sweep
    training = unimos_pipe.AdaptOptions(settings={"train.epochs": 1}, calibrate=False)
    recipe = unimos_pipe.Recipe("short", "icons", pairs=("line->sketch",), seeds=1, options={"train": {"epochs": 1}})
    monkeypatch.setattr(unimos_pipe, "adapt_pairs", lambda *args, **more: pairs(*args, training, **more), raising=False)
    monkeypatch.setattr(unimos_pipe, "run_sweep", lambda name, **more: sweep(recipe, **more), raising=False)


def test_tensorboard(short, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, epoch):
            written.append((self.folder, name, float(value), epoch))

        def close(self):
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (program,) = (block for block in BLOCKS if "tensorboard" in block)
    exec(program, {})
    assert {folder for folder, *_ in written} == {"tb/line-sketch/full,epochs=1/seed0"}
    assert {(name, epoch) for _, name, _, epoch in written} >= {("accuracy", -1), ("accuracy", 0), ("im", 0)}


def test_weights_and_biases(short, monkeypatch):
    logged, module = [], ModuleType("wandb")
    module.init = lambda project: SimpleNamespace(log=logged.append, finish=lambda: logged.append(project))
    monkeypatch.setitem(sys.modules, "wandb", module)
    (program,) = (block for block in BLOCKS if "wandb" in block)
    exec(program, {})
    *epochs, end = logged
    assert end == "unimos" and [list(told) for told in epochs] == [["line->sketch/full,epochs=1/0"]] * 2
    last = epochs[1]["line->sketch/full,epochs=1/0"]
    assert last["epoch"] == 0 and {"im", "lac"} <= set(last["losses"]) and 0 < last["accuracy"]["ensemble"] < 1
