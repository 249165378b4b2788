"""A relabelled target is scored anew without training, to the bytes of a run trained on it; a relabelled source is
trained."""

import json

import numpy as np
import pytest
from factories.runs import forge, forge_json
from safetensors.numpy import load, save

import unimos_pipe
from unimos_pipe.base import atomic_io
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.write_run import FILES
from unimos_pipe.training import batched_training
from unimos_pipe.training.prediction_log import PredictionLog, from_bytes

PAIR = ("--src", "dark", "--tgt", "light", "--device", "cpu")
TOLD = "1 run(s) re-scored without training: the target's labels have changed\n"


@pytest.fixture
def own(miniature, tmp_path, cli):
    """A data set of CSV files with cached features, and ``relabel(domain, change)`` of a domain's CSV."""
    out = tmp_path / "own.toml"
    folders = [f"--domain={name}={miniature.root}/{name}" for name in ("dark", "light")]
    assert cli("manifest", "scan", *folders, "-o", out, "--encoder", "tiny").code == 0
    named = ("--dataset", out, "--cache", tmp_path / "cache")

    def relabel(domain: str, *changes: tuple[str, str]) -> None:
        table = tmp_path / f"own.{domain}.csv"
        text = table.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        table.write_text(text)
        assert "24 rows, 0 encoded, 24 reused" in cli("extract", *named, "--domain", domain, "--workers", 0).err

    assert cli("extract", *named, "--all", "--workers", 0).code == 0
    return named, relabel


@pytest.fixture
def no_training(monkeypatch):
    def trainer(*_):
        raise AssertionError("it trains")

    return lambda: monkeypatch.setattr(batched_training, "Trainer", trainer)


def contents(run) -> dict:
    """A run's files, without what times or names its company."""
    found = {name: (run / name).read_bytes() for name in FILES}
    result, config = json.loads(found["result.json"]), json.loads(found["config.json"])
    for name in ("seconds", "digest"):
        result.pop(name)
    result["files"].pop("config.json")
    (result["calibration"] or {}).pop("seconds", None)
    return found | {"result.json": result, "config.json": config}


CHANGES = [
    ("bar/0.png,bar", "bar/0.png,circle"),
    ("circle/1.png,circle", "circle/1.png,"),
    ("square/2.png,square", "square/2.png,bar"),
]


def reliability(values: dict) -> list[float]:
    """Its figures, taken out of a run's ``result.json``."""
    return [figure for part in values["result.json"].pop("reliability").values() for figure in part.values()]


@pytest.mark.parametrize("more", [(), ("--no-calibrate",)], ids=["calibrated", "raw"])
def test_it_equals_a_run_trained_on_the_new_labels(more, own, tmp_path, cli, no_training):
    named, relabel = own
    adapt = ("adapt", *named, *PAIR, "--epochs", 3, *more)
    assert cli(*adapt, "--out", tmp_path / "run").code == 0
    before = contents(tmp_path / "run")
    refused = cli(*adapt, "--out", tmp_path / "run")
    assert refused.code == 2 and "holds a finished run; add --force" in refused.err
    relabel("light", *CHANGES)
    assert cli(*adapt, "--out", tmp_path / "fresh").code == 0
    no_training()
    answer = cli(*adapt, "--out", tmp_path / "run")
    assert answer.code == 0 and TOLD in answer.err, answer.err
    after, fresh = contents(tmp_path / "run"), contents(tmp_path / "fresh")
    np.testing.assert_allclose(reliability(after), reliability(fresh), atol=1e-6)
    assert after == fresh
    assert after["result.json"]["labelled_rows"] == 23 and after["metrics.jsonl"] != before["metrics.jsonl"]
    for name in ("heads.safetensors", "sample.safetensors"):
        assert after[name] == before[name]
    assert read_run(tmp_path / "run").labelled == (23, 24)
    assert "holds a finished run" in cli(*adapt, "--out", tmp_path / "run").err


def test_another_method_is_fitted_anew(own, tmp_path, cli):
    named, relabel = own
    adapt = ("adapt", *named, *PAIR, "--method", "gda", "--out")
    assert cli(*adapt, tmp_path / "run").code == 0
    relabel("light", *CHANGES)
    assert cli(*adapt, tmp_path / "run").code == 0
    assert cli(*adapt, tmp_path / "fresh").code == 0
    assert contents(tmp_path / "run")["metrics.jsonl"] == contents(tmp_path / "fresh")["metrics.jsonl"]
    assert read_run(tmp_path / "run").labelled == (23, 24)


def test_labels_that_come_later_score_a_finished_run(own, tmp_path, cli, no_training):
    named, relabel = own
    labels = [
        (f"{name}/{row}.png,{name}", f"{name}/{row}.png,") for name in ("bar", "circle", "square") for row in range(8)
    ]
    relabel("light", *labels)
    run = tmp_path / "run"
    assert "24 rows without labels predicted" in cli("adapt", *named, *PAIR, "--epochs", 2, "--out", run).out
    assert json.loads((run / "result.json").read_text())["accuracy"] is None
    relabel("light", *[(f"{new}\n", f"{old}\n") for old, new in labels])
    no_training()
    assert cli("adapt", *named, *PAIR, "--epochs", 2, "--out", run).err.count(TOLD) == 1
    accuracy = json.loads((run / "result.json").read_text())["accuracy"]
    assert set(accuracy) == {"last", "vac", "lac", "zero_shot", "oracle_best"}
    assert "label" in read_run(run).predictions[0]


def test_a_sweep_scores_anew_what_it_keeps_and_trains_for_a_relabelled_source(
    own, tmp_path, cli, no_training, monkeypatch
):
    named, relabel = own
    recipe = tmp_path / "r.toml"
    lines = [f'name = "r"\ndataset = "{named[1]}"\npairs = ["dark->light"]\nseeds = 2', 'methods = ["unimos", "fused"]']
    recipe.write_text("\n".join([*lines, "[options.train]\nepochs = 2\n"]))
    sweep = ("sweep", recipe, "--cache", tmp_path / "cache", "--runs", tmp_path / "runs")
    assert "3 run(s) trained, 0 kept" in cli(*sweep).err
    relabel("light", *CHANGES)
    plan = cli(*sweep, "--dry-run")
    assert "3 runs, 2 finished, 0 stacks" in plan.out
    with monkeypatch.context() as patch:
        patch.setattr(batched_training, "Trainer", None)
        found = cli(*sweep)
    assert found.code == 0, found.err
    assert TOLD.replace("1 run", "2 run") in found.err and "1 run(s) trained, 2 kept" in found.err
    relabel("dark", ("bar/0.png,bar", "bar/0.png,circle"))
    assert "3 run(s) trained, 0 kept" in cli(*sweep).err


def test_a_run_killed_while_it_is_scored_is_the_old_one(own, tmp_path, cli, monkeypatch):
    named, relabel = own
    args = ("adapt", *named, *PAIR, "--epochs", 2, "--out", tmp_path / "run")
    assert cli(*args).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    relabel("light", *CHANGES)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_io, "_replace_dir", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        cli(*args)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert cli(*args).err.count(TOLD) == 1


def test_runs_of_earlier_versions_are_trained(own, tmp_path):
    """Those that kept no answers, whatever their identity."""
    named, relabel = own
    features = unimos_pipe.feature_set(str(named[1]), cache=named[3])
    recipe = unimos_pipe.Recipe("r", str(named[1]), pairs=("dark->light",), seeds=1, options={"train": {"epochs": 1}})
    (run,) = unimos_pipe.run_sweep(recipe, features, tmp_path / "runs").runs
    forge_json(run.folder, "config.json", lambda values: values.pop("training"))
    relabel("light", *CHANGES)
    (again,) = unimos_pipe.run_sweep(recipe, features, tmp_path / "runs").runs
    assert not again.reused


def test_answers_are_packed_and_read_back_and_resumed():
    rng = np.random.default_rng(0)
    for classes in (5, 300, 70_000):
        answers = rng.integers(0, classes, (4, 3, 50))
        answers[2] = answers[1]
        log = PredictionLog(classes)
        for epoch in answers[:2]:
            log.add(epoch)
        resumed = PredictionLog(classes)
        resumed.set_state(json.loads(json.dumps(log.get_state())), 50)
        for epoch in answers[2:]:
            resumed.add(epoch)
        packed = resumed.to_bytes()
        assert (from_bytes(packed, 4, 50, classes) == answers).all()
        for epochs, rows, kinds in ((3, 50, classes), (5, 50, classes), (4, 49, classes), (4, 51, classes), (4, 50, 3)):
            with pytest.raises(ValueError, match="predictions "):
                from_bytes(packed, epochs, rows, kinds)
        with pytest.raises(ValueError, match="predictions "):
            from_bytes(packed[1:], 4, 50, classes)


def test_spoilt_answers_are_trained_again(own, tmp_path):
    named, relabel = own
    features = unimos_pipe.feature_set(str(named[1]), cache=named[3])
    recipe = unimos_pipe.Recipe("r", str(named[1]), pairs=("dark->light",), seeds=1, options={"train": {"epochs": 1}})
    (run,) = unimos_pipe.run_sweep(recipe, features, tmp_path / "runs").runs
    spoilt = {"answers": np.zeros(9, np.uint8)}
    forge(run.folder, "sample.safetensors", lambda content: save({**load(content), **spoilt}))
    relabel("light", *CHANGES)
    (again,) = unimos_pipe.run_sweep(recipe, features, tmp_path / "runs").runs
    assert not again.reused and read_run(run.folder).labelled == (23, 24)
