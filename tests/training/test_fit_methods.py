"""Methods beside UniMoS as runs: their folders, what is kept, and what follows from a run."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.methods.registry import METHODS

RECIPE = """
name = "methods"
dataset = "icons"
pairs = ["line->color", "color->line"]
seeds = 2
methods = ["zero-shot", "unimos", "fused", "stata", "auto"]
label_set = "closed"
[options.train]
epochs = 2
"""


@pytest.fixture(scope="module")
def swept(cli, icons_cache, tmp_path_factory):
    """A sweep of several methods: its folder, the command that made it, and its answer."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "methods.toml").write_text(RECIPE)
    command = ("sweep", folder / "methods.toml", "--cache", icons_cache, "--runs", folder, "--show", "probes")
    answer = cli(*command)
    assert answer.code == 0, answer.err
    return folder / "methods", command, answer


def rows_of(answer) -> dict[str, list[str]]:
    lines = [line.split("│")[1:-1] for line in answer.out.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_one_table_holds_every_method_once_with_its_seconds(swept):
    folder, _, answer = swept
    rows = rows_of(answer)
    assert list(rows) == ["source-probe", "zero-shot", "UniMoS", "fused", "stata", "auto", "target probe, oracle"]
    result = json.loads(next(folder.glob("icons/*/color-line/fused/seed0/result.json")).read_text())
    assert rows["fused"][1] == f"{100 * result['accuracy']['last']['accuracy']:.1f}"
    assert float(rows["fused"][3]) >= 0 and rows["source-probe"][3] == "-"
    assert f"12 run(s) trained, 0 kept, 0 failed, in {folder}\n" in answer.err


def test_finished_runs_of_all_methods_are_kept(cli, swept):
    folder, command, first = swept
    files = {path: path.read_bytes() for path in folder.rglob("seed*/*")}
    again = cli(*command)
    assert again.out == first.out and f"0 run(s) trained, 12 kept, 0 failed, in {folder}\n" in again.err
    assert {path: path.read_bytes() for path in folder.rglob("seed*/*")} == files
    assert cli(*command, "--dry-run").out.startswith("methods: 12 runs, 12 finished, 0 stacks and 0 steps to train")


def test_a_folder_holds_what_the_method_answers(swept, icons_cache):
    folder, _, _ = swept
    features = unimos_pipe.feature_set("icons", cache=icons_cache)
    data = unimos_pipe.make_task(features, "line", "color", device="cpu").data
    for name in ("zero-shot", "fused", "stata"):
        (run,) = folder.glob(f"icons/*/line-color/{name}/seed0")
        wanted = METHODS[name].fit(data.task)
        with (run / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        classes = data.held_out.classes
        assert [row["class"] for row in rows] == [classes[k] for k in wanted.classes.tolist()]
        assert [row["label"] for row in rows] == [classes[k] for k in data.held_out.labels.tolist()]
        right = (wanted.classes.numpy() == data.held_out.labels).mean()
        assert json.loads((run / "result.json").read_text())["accuracy"]["last"]["accuracy"] == right
        (line,) = (run / "metrics.jsonl").read_text().splitlines()
        assert json.loads(line)["accuracy"] == {"ensemble": right}
        assert len(load_file(run / "sample.safetensors")["target_image"]) == len(rows)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.load_model])
def test_a_method_that_can_answers_new_rows_from_its_run_and_its_export(cli, icons_cache, tmp_path, name):
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch", "--cache", icons_cache)
    answer = cli("adapt", *pair, "--method", name, "--out", tmp_path / "run")
    assert answer.code == 0 and f"line -> sketch, {name} (transductive): accuracy {name} " in answer.out
    assert cli("export", "--run", tmp_path / "run", "--out", tmp_path / "model").code == 0
    rows = torch.from_numpy(load_file(tmp_path / "run" / "sample.safetensors")["target_image"])
    ours = unimos_pipe.load(tmp_path / "run", "cpu").predict_features(rows)
    theirs = unimos_pipe.load(tmp_path / "model", "cpu").predict_features(rows)
    assert theirs.probabilities.equal(ours.probabilities) and ours.vac is None
    out = tmp_path / "answers.csv"
    predict = ("predict", "--run", tmp_path / "model", "--domain", "sketch", "--cache", icons_cache, "-o", out)
    assert cli(*predict).out.startswith(f"{out}: 716 rows of icons/sketch; accuracy ")
    found, made = ([row[:2] for row in csv.reader(path.open())] for path in (out, tmp_path / "run" / "predictions.csv"))
    answers = json.loads((tmp_path / "run" / "result.json").read_text()).get("answers")
    if METHODS[name].transductive:
        share = sum(ours == theirs for ours, theirs in zip(found, made, strict=True)) / 717  # with the head line
        assert answers == {"predictions": name, "model": "linear head", "agreement": pytest.approx(share, abs=0.002)}
        assert (
            f"  new images: a linear head, which agrees with {name} on {100 * answers['agreement']:.1f}%" in answer.out
        )
    else:
        assert found == made and (answers is not None) == (name == "auto")
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"Method: {name}, as implemented by unimos-pipe." in card and "| this model | " in card


def test_onnx_of_another_method(cli, icons_cache, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch", "--cache", icons_cache)
    assert cli("adapt", *pair, "--method", "fused", "--out", tmp_path / "run").code == 0
    answer = cli("export", "--run", tmp_path / "run", "--out", tmp_path / "model", "--onnx")
    assert answer.code == 0, answer.err
    session = onnxruntime.InferenceSession(tmp_path / "model" / "heads.onnx")
    assert [output.name for output in session.get_outputs()] == ["probabilities", "raw"]
    rows = load_file(tmp_path / "run" / "sample.safetensors")["target_image"].astype(np.float32)
    ours = unimos_pipe.load(tmp_path / "run", "cpu").predict_features(torch.from_numpy(rows))
    for values, wanted in zip(session.run(None, {"features": rows}), (ours.probabilities, ours.raw), strict=True):
        np.testing.assert_allclose(values, wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (
            ("--method", "fused", "--variant", "no-im", "--set", "loss.alpha=2", "--seeds", 2),
            "fused takes no variant, settings, seeds; only unimos does",
        ),
        (("--method", "fused", "--label-set", "closed"), "fused takes no label set; only auto does"),
    ],
)
def test_options_that_do_not_fit_the_method_are_named(cli, icons_cache, tmp_path, more, fault):
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch", "--cache", icons_cache)
    assert cli("adapt", *pair, *more, "--out", tmp_path / "run").err == f"Error: {fault}\n"
    assert not (tmp_path / "run").exists()


def test_the_library_names_the_methods(icons_cache):
    with pytest.raises(InputError, match=r"^unknown method 'best'; known: unimos, zero-shot, "):
        unimos_pipe.AdaptOptions(method="best").method_spec("transductive")
    with pytest.raises(InputError, match=r"^label_set: expected closed or partial, got 'few'$"):
        unimos_pipe.AdaptOptions(method="auto", label_set="few").method_spec("transductive")


def test_a_report_of_one_other_method(cli, swept, icons_cache, tmp_path):
    pytest.importorskip("jinja2")
    (run,) = swept[0].glob("icons/*/line-color/fused/seed0")
    assert cli("report", run, "--out", tmp_path / "r", "--cache", icons_cache).code == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<dt>fused</dt>" in page and "Losses by term" not in page and "Modality gap" not in page
    names = {path.stem for path in (tmp_path / "r" / "figures").iterdir()}
    assert names == {"classes", "confusion"}
