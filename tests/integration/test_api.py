"""The pipeline from Python, as the README shows it, equals the command line's."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import unimos_pipe
from unimos_pipe.base import device
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.optional_deps import find_missing_packages
from unimos_pipe.methods.auto import fit_auto


def test_importing_the_package_is_light():
    code = "import sys, unimos_pipe; print('torch' in sys.modules, 'load' in dir(unimos_pipe))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True\n"
    with pytest.raises(AttributeError, match="module 'unimos_pipe' has no attribute 'nothing'"):
        _ = unimos_pipe.nothing


def test_extract_sweep_and_report_without_the_command_line(icons_cache, no_figures, tmp_path):
    """The icons, 2 pairs x 2 seeds x 2 variants; the returned means are those of the runs' result.json files."""
    pytest.importorskip("jinja2")
    shutil.copytree(icons_cache, tmp_path / "cache")
    done = unimos_pipe.extract_features(unimos_pipe.feature_set("icons", cache=tmp_path / "cache"))
    assert [report.rows for report in done.reports] == [624, 607, 567, 716]
    assert (done.precision, done.warnings) == ("fp32", ())
    recipe = unimos_pipe.Recipe(
        "small",
        "icons",
        pairs=("line->sketch", "color->solid"),
        seeds=2,
        variants=("full", "no-im"),
        options={"train": {"epochs": 3}},
    )
    plan = unimos_pipe.plan_sweep(recipe, done.features, tmp_path / "runs")
    assert (plan.runs, plan.finished, (tmp_path / "runs").exists()) == (8, 0, False)
    sweep = unimos_pipe.run_sweep(recipe, done.features, tmp_path / "runs")
    assert (len(sweep.runs), sweep.failures, sweep.pairs) == (8, (), ("line->sketch", "color->solid"))
    for variant in ("full", "no-im"):
        files = sorted((tmp_path / "runs" / "small").rglob(f"{variant}*/seed*/result.json"))
        values = [json.loads(path.read_text())["accuracy"]["last"]["accuracy"] for path in files]
        assert len(values) == 4 and 0.5 < sweep.mean(variant) < 0.9
        assert sweep.mean(variant) == pytest.approx(sum(values) / 4, abs=1e-12)
    with pytest.raises(InputError, match=r"^the sweep has no row 'none'; it has zero-shot, "):
        sweep.mean("none")
    report = unimos_pipe.make_report(sweep.folder, tmp_path / "report", cache=tmp_path / "cache")
    assert (report.page, report.runs, report.skipped) == (tmp_path / "report" / "report.html", 8, ())
    assert "no-im" in report.page.read_text(encoding="utf-8")


def test_a_recipe_from_images_to_its_page(miniature, no_figures, tmp_path):
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    assert features.missing_domains(["dark", "light"]) == ["dark", "light"]
    recipe = unimos_pipe.Recipe("mini", str(miniature.spec), seeds=1, options={"train": {"epochs": 1}})
    bound = unimos_pipe.resolve_recipe(recipe, cache=tmp_path / "cache")
    plan = unimos_pipe.plan_recipe(bound, miniature.root)
    assert (plan.missing, plan.images, plan.cache_bytes, plan.runs) == (("dark", "light"), 48, 48 * 336, 2)
    tables = []
    made = unimos_pipe.run_recipe(bound, miniature.root, tmp_path / "runs", on_sweep=tables.append)
    assert [report.encoded for report in made.extracted.reports] == [24, 24] and tables == [made.sweep]
    assert (made.report is None) == bool(find_missing_packages("report"))
    again = unimos_pipe.run_recipe(bound, None, tmp_path / "runs")  # needs no images
    assert again.extracted is None and all(run.reused for run in again.sweep.runs)
    assert again.sweep.mean("full") == made.sweep.mean("full")


def test_pairs_with_their_seeds(miniature, tmp_path):
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    features = unimos_pipe.extract_features(features, root=miniature.root).features
    training = unimos_pipe.AdaptOptions(settings={"train.epochs": 1, "train.precision": "fp64"}, seeds=(3, 4))
    runs = unimos_pipe.adapt_pairs(
        features, [("dark", "light"), ("light", "dark")], training, unimos_pipe.RunLocation(out=tmp_path / "out")
    )
    assert [run.folder.relative_to(tmp_path / "out").as_posix() for run in runs] == [
        *("dark-light/seed3", "dark-light/seed4", "light-dark/seed3", "light-dark/seed4"),
    ]
    for run in runs:
        assert run.accuracy == json.loads((run.folder / "result.json").read_text())["accuracy"]["last"]["accuracy"]
        assert load_file(run.folder / "heads.safetensors")["text_features"].dtype == np.float64
    with pytest.raises(InputError, match="data set mini has no domain 'oil'; known: dark, light"):
        unimos_pipe.adapt_pairs(features, [("dark", "oil")])


def test_training_precision_auto_is_settled_before_runs_are_told_apart(miniature, tmp_path, monkeypatch):
    """The run is the one of the precision that auto came to: its folder, its config, and what is kept of it."""
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    features = unimos_pipe.extract_features(features, root=miniature.root).features

    def sweep(precision: str) -> unimos_pipe.SweepResult:
        changed = {"train": {"epochs": 1, "precision": precision}}
        recipe = unimos_pipe.Recipe("auto", str(miniature.spec), pairs=("dark->light",), seeds=1, options=changed)
        return unimos_pipe.run_sweep(recipe, features, tmp_path / "runs")

    for able, meant in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(device, "cpu_has_bf16", lambda able=able: able)
        (run,) = sweep("auto").runs
        assert json.loads((run.folder / "config.json").read_text())["spec"]["options"]["train"]["precision"] == meant
        assert ("bf16" in str(run.folder.relative_to(tmp_path))) == able
        (same,) = sweep(meant).runs
        assert same.reused and same.folder == run.folder


def test_the_library_says_what_the_command_line_says(miniature, tmp_path, cli, capfd):
    """Counts that are not the expected ones are told and returned, and precision auto is settled, from Python too."""
    text = miniature.spec.read_text().replace("dark = {}", "dark = { images = 30 }")
    miniature.spec.write_text(text)
    spec = replace(ENCODERS["tiny"], precision="auto")
    features = unimos_pipe.feature_set(str(miniature.spec), encoder=spec, cache=tmp_path / "cache")
    done = unimos_pipe.extract_features(features, ["dark"], miniature.root)
    head = "mini/dark: 24 images, 6 fewer than the expected 30; per class: "
    assert len(done.warnings) == 1 and done.warnings[0].startswith(head)
    assert done.precision in ("fp32", "bf16", "fp16") and done.folder.name.split("_")[-1].startswith(done.precision)
    assert capfd.readouterr() == ("", "")  # nothing is printed
    args = (*miniature.args(tmp_path / "other"), "--domain", "dark", "--data-root", miniature.root)
    assert f"Warning: {done.warnings[0]}\n" in cli("extract", *args).err
    refused = cli("extract", *args, "--strict-counts")
    assert (refused.code, refused.err.splitlines()[-1]) == (2, f"Error: --strict-counts: {done.warnings[0]}")
    with pytest.raises(InputError, match=f"^strict_counts: {re.escape(done.warnings[0])}$"):
        unimos_pipe.extract_features(
            features, ["dark"], miniature.root, options=unimos_pipe.ExtractOptions(strict_counts=True)
        )


def test_a_task_has_the_dtype_of_the_precision_it_is_trained_in(miniature, tmp_path):
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    unimos_pipe.extract_features(features, root=miniature.root)
    task = unimos_pipe.make_task(features, "dark", "light", device="cpu")
    assert str(task.data.task.target.features.dtype) == "torch.float32"
    for precision, dtype in (("fp64", "torch.float64"), ("bf16", "torch.float32")):
        model = unimos_pipe.adapt_task(task, settings={"train.epochs": 1, "train.precision": precision})
        assert str(model.text.dtype) == dtype


def test_auto_is_told_which_classes_occur(icons_cache):
    features = unimos_pipe.feature_set("icons", cache=icons_cache)
    task = unimos_pipe.make_task(features, "line", "color", device="cpu")
    weights = {}
    for label_set in ("", "closed", "partial"):
        model = unimos_pipe.adapt_task(task, method="auto", label_set=label_set)
        weights[label_set] = fit_auto(task.data.task, label_set or None).output.model.weight
        assert torch.equal(model.fitted.weight, weights[label_set])
    assert torch.equal(weights[""], weights["closed"]) and not torch.equal(weights["closed"], weights["partial"])
    with pytest.raises(InputError, match=r"^unimos takes no label set; only auto does$"):
        unimos_pipe.adapt_task(task, label_set="closed")


def test_the_whole_pipeline(miniature, tmp_path, cli):
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    done = unimos_pipe.extract_features(features, root=miniature.root, compute=unimos_pipe.ComputeConfig("cpu"))
    assert (done.folder, done.batch_size) == (features.folder(), 64)
    task = unimos_pipe.make_task(features, "dark", "light", device="cpu")
    assert task.data.task.target.features.shape == (24, 128)
    epochs = []
    model = unimos_pipe.adapt_task(task, settings={"train.epochs": 3}, seed=1, on_epoch=epochs.append)
    assert [epoch.epoch for epoch in epochs] == [-1, 0, 1, 2]
    out = tmp_path / "run"
    pair = ("--src", "dark", "--tgt", "light", "--epochs", 3, "--seed", 1, "--device", "cpu")
    assert cli("adapt", *miniature.args(tmp_path / "cache"), *pair, "--out", out).code == 0
    result = json.loads((out / "result.json").read_text())["accuracy"]
    assert model.settings["about"]["accuracy"] == {
        "zero_shot": result["zero_shot"]["accuracy"],
        "last": result["last"]["accuracy"],
    }
    paths = sorted((miniature.root / "light").rglob("*.png"))
    ours, theirs = model.predict(paths), unimos_pipe.load(out, "cpu").predict(paths)
    np.testing.assert_allclose(ours.probabilities, theirs.raw, atol=1e-6)  # adapt calibrates, adapt_task does not
    with Image.open(paths[0]) as image:  # an open image answers as its file does
        assert model.predict([image, tmp_path / "none.png"]).labels == [ours.labels[0], None]


def test_faults_are_said(tmp_path):
    with pytest.raises(InputError, match="unknown encoder 'huge'; known: tiny, RN50"):
        unimos_pipe.feature_set("icons", encoder="huge", cache=tmp_path)
    with pytest.raises(InputError) as error:
        unimos_pipe.feature_set("icons", cache=tmp_path).store()
    assert str(error.value) == (
        f"no features of icons by tinyclip-r24-64_embedded in {tmp_path}. Make them first: "
        f"unimos_pipe.extract_features(features=unimos_pipe.feature_set(dataset='icons', cache={str(tmp_path)!r}))"
    )
