"""Calibrated runs: a companion for UniMoS that leaves the run alone, cross-fitting for the other methods."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.runs import run_spec
from rounding import perturbed, rounding_bounds
from safetensors.numpy import load_file

import unimos_pipe
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.evaluation.calibration import cross_fit_logits, fit_temperature, held_out_logits
from unimos_pipe.experiments.run_plans import open_loader
from unimos_pipe.methods import accuracy_estimate
from unimos_pipe.methods.logistic_regression import cross_fit
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.run_spec import CALIBRATION_HOLDOUT
from unimos_pipe.training import checkpoint
from unimos_pipe.training.batched_training import PlannedRun
from unimos_pipe.training.calibration_runs import (
    CALIBRATION_FILES,
    calibration_spec,
    calibration_specs,
    fit_calibrations,
    remove_calibrations,
)
from unimos_pipe.training.fit_methods import fit_runs

PAIR = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")


@pytest.fixture(scope="module")
def runs(cli, icons_cache, tmp_path_factory):
    """The same short run of UniMoS with and without calibration, and a calibrated one of fused."""
    folder = tmp_path_factory.mktemp("calibrated")
    tuned = (*PAIR, "--cache", icons_cache, "--epochs", 3, "--seed", 1)
    assert cli("adapt", *tuned, "--no-calibrate", "--out", folder / "plain").code == 0
    assert cli("adapt", *tuned, "--out", folder / "unimos").code == 0
    assert cli("adapt", *PAIR, "--cache", icons_cache, "--method", "fused", "--out", folder / "fused").code == 0
    return folder


def result_of(folder) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_run_itself_does_not_change_by_a_byte(runs):
    for name in ("metrics.jsonl", "heads.safetensors", "sample.safetensors"):
        assert (runs / "plain" / name).read_bytes() == (runs / "unimos" / name).read_bytes()
    plain, calibrated = (list(csv.DictReader((runs / n / "predictions.csv").open())) for n in ("plain", "unimos"))
    assert list(calibrated[0])[:4] == ["path", "class", "probability", "raw_probability"]
    for before, after in zip(plain, calibrated, strict=True):
        assert after.pop("raw_probability") == before["probability"] and after.pop("probability") is not None
        before.pop("probability")
        assert after == before
    assert result_of(runs / "plain")["accuracy"] == result_of(runs / "unimos")["accuracy"]


def test_a_temperature_makes_a_short_run_less_wrong(runs):
    for name in ("unimos", "fused"):
        found = result_of(runs / name)
        assert found["calibration"]["temperature"] > 1 or name == "fused"
        for measure in ("ece", "nll"):
            assert found["reliability"]["calibrated"][measure] < found["reliability"]["raw"][measure]


def test_the_companion_keeps_a_fifth_of_the_source_back(runs):
    calibration = result_of(runs / "unimos")["calibration"]
    assert (calibration["rows"], calibration["basis"]) == (int(CALIBRATION_HOLDOUT * 624), "source")


def test_a_quick_methods_mean_probability_is_its_estimated_accuracy(runs):
    """Over the 716 images of the target."""
    result = result_of(runs / "fused")
    calibration = result["calibration"]
    assert (calibration["rows"], calibration["basis"]) == (716, "estimate")
    # bisection in float32: a mean of 716 probabilities is off by some epsilons of 1, far less than 1e-5
    assert result["estimate"]["confidence"] == pytest.approx(result["estimate"]["accuracy"], abs=1e-5)


@pytest.mark.parametrize("name", ["fused", "gda", "stacked"])
def test_without_an_estimate_a_quick_methods_temperature_is_that_of_its_cross_fitted_answers(
    icons_cache, tmp_path, monkeypatch, name
):
    """Fused's come from stacked fusion's probes, those of other methods from five fits; stacked is fitted to them."""
    monkeypatch.setattr(accuracy_estimate, "MAX_DISTANCE", -1.0)  # the estimators always disagree
    store = unimos_pipe.feature_set("icons", cache=icons_cache).store()
    spec = run_spec(encoder_id=store.folder.name, target="sketch", variant="", method=name, calibrate=True)
    plans = [PlannedRun(spec, tmp_path / name)]
    loader = open_loader(plans, store, "cpu")
    (outcome,) = fit_runs(plans, loader)
    task = loader.pair("line", "sketch").task
    labels = task.source.labels
    if name == "fused":
        probe = cross_fit(task.source, len(task.text_features))
        held_out, labels = held_out_logits(name, task, probe), labels[probe.rows]
    elif name == "gda":
        held_out = cross_fit_logits(METHODS[name], task, torch.Generator().manual_seed(0))
    calibration = outcome.result.calibration
    assert outcome.result.estimate.accuracy is None
    assert (calibration.rows, calibration.basis) == (624, "source")
    wanted = 1.0 if name == "stacked" else fit_temperature(held_out, labels)
    assert calibration.temperature == pytest.approx(wanted, rel=1e-9)


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["unimos", "fused"])
def test_the_exported_and_reloaded_model_gives_the_same_numbers_to_the_bit(cli, runs, icons_cache, tmp_path, name):
    assert cli("export", "--run", runs / name, "--out", tmp_path / "model").code == 0
    rows = torch.from_numpy(load_file(runs / name / "sample.safetensors")["target_image"])
    ours, theirs = (
        unimos_pipe.load(folder, "cpu").predict_features(rows) for folder in (runs / name, tmp_path / "model")
    )
    again = unimos_pipe.AdaptedModel.from_pretrained(str(tmp_path / "model"), device="cpu").predict_features(rows)
    for part in ("probabilities", "raw", "vac", "lac") if name == "unimos" else ("probabilities", "raw"):
        one, two, three = (getattr(answers, part) for answers in (ours, theirs, again))
        assert one.equal(two) and one.equal(three)
    temperature = result_of(runs / name)["calibration"]["temperature"]
    wanted = (ours.raw.log() / temperature).softmax(-1)
    # logarithms down to -90, in float32: 90 epsilons are 1e-5, and only of probabilities that are next to nothing
    np.testing.assert_allclose(ours.probabilities, wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(ours.probabilities, ours.raw, atol=1e-2)
    out = tmp_path / "answers.csv"
    domain = ("--domain", "sketch", "--cache", icons_cache)
    assert cli("predict", "--run", tmp_path / "model", *domain, "-o", out).code == 0
    # the file's six digits, and float32 sums of 128 terms that are turned into logits by another product
    wide = rows.float()
    answer = unimos_pipe.load(runs / name, "cpu").predict_features
    moved = rounding_bounds(lambda seed: [answer(wide if seed is None else perturbed(wide, seed)).raw], steps=8)
    bound = 1e-6 + moved[0]
    assert bound < 1e-3
    with out.open() as file, (runs / name / "predictions.csv").open() as made:
        for found, written in zip(csv.DictReader(file), csv.DictReader(made), strict=True):
            assert (found["path"], found["class"]) == (written["path"], written["class"])
            for column in ("probability", "raw_probability"):
                assert float(found[column]) == pytest.approx(float(written[column]), abs=bound)
    card = (tmp_path / "model" / "README.md").read_text()
    basis = {
        "unimos": "fitted to held-out images of line",
        "fused": "with which their mean on sketch is the accuracy that was estimated there without labels",
    }
    assert f"divided by a temperature, {temperature:.3g}, {basis[name]}; " in card


def test_one_companion_a_pair_and_cell_serves_all_seeds(icons_cache, tmp_path):
    store = unimos_pipe.feature_set("icons", cache=icons_cache).store()
    options = method_spec("full", {"train.epochs": 1})
    spec = run_spec(encoder_id=store.folder.name, seed=2, options=options)
    specs = [replace(spec, seed=seed, calibrate=True) for seed in (2, 3)]
    specs += [replace(specs[0], source="solid"), replace(spec, seed=4)]
    plans = [PlannedRun(one, tmp_path / str(index)) for index, one in enumerate(specs)]
    assert calibration_specs(plans) == [calibration_spec(specs[0]), calibration_spec(specs[2])]
    found = fit_calibrations(plans, open_loader(plans, store, "cpu"))
    assert list(found) == calibration_specs(plans) and {one.rows for one in found.values()} == {124, 121}


def test_a_temperature_is_fitted_to_the_rows_that_training_did_not_see(icons_cache, tmp_path):
    """Held against the same run trained here, whose training rows would give another temperature."""
    store = unimos_pipe.feature_set("icons", cache=icons_cache).store()
    options = method_spec("full", {"train.epochs": 4})
    spec = run_spec(encoder_id=store.folder.name, options=options)
    plans = [PlannedRun(replace(spec, calibrate=True), tmp_path)]
    loader = open_loader(plans, store, "cpu")
    (found,) = fit_calibrations(plans, loader).values()
    held_options = replace(options, train=replace(options.train, source_holdout=CALIBRATION_HOLDOUT))
    run = create_run(loader.pair("line", "color").task, held_options, 0)
    *_, (_, (record,)) = ((epoch, list(records)) for epoch, records in Trainer([run]).train())
    model = UniMoSModel(record.heads, record.text, run.method)
    held, seen = (
        fit_temperature(model.logits(part.features), part.labels) for part in (run.held_out_source, run.task.source)
    )
    assert abs(seen / held - 1) > 0.1
    assert found.temperature == pytest.approx(held, rel=0.01)


def test_sweeps_calibrate_if_they_are_asked_to(cli, icons_cache, tmp_path):
    text = 'name = "c"\ndataset = "icons"\npairs = ["line->color"]\nseeds = 2\nmethods = ["unimos", "fused"]\n'
    (tmp_path / "c.toml").write_text(f"{text}calibrate = true\n[options.train]\nepochs = 1\n")
    command = ("sweep", tmp_path / "c.toml", "--cache", icons_cache, "--runs", tmp_path)
    plan = cli(*command, "--dry-run").out
    assert "c: 3 runs, 0 finished, 1 stacks and 34 steps to train and 1 calibration runs, " in plan
    assert cli(*command).code == 0
    temperatures = {
        "/".join(path.parts[-3:-1]): result_of(path.parent)["calibration"]["temperature"]
        for path in (tmp_path / "c").rglob("result.json")
    }
    tuned = temperatures["full,epochs=1/seed0"]
    assert temperatures == {
        "full,epochs=1/seed0": tuned,  # one run that calibrates serves both seeds
        "full,epochs=1/seed1": tuned,
        "fused/seed0": temperatures["fused/seed0"],
    }
    assert 0.01 < temperatures["fused/seed0"] != tuned > 0.01
    assert f"0 run(s) trained, 3 kept, 0 failed, in {tmp_path}/c\n" in cli(*command).err
    (tmp_path / "c.toml").write_text(f"{text}[options.train]\nepochs = 1\n")
    assert f"3 run(s) trained, 0 kept, 0 failed, in {tmp_path}/c\n" in cli(*command).err
    assert all(result_of(path.parent)["calibration"] is None for path in (tmp_path / "c").rglob("result.json"))


def test_an_interrupted_plan_goes_on_from_what_its_companions_had_done(icons_cache, tmp_path, monkeypatch):
    """After an epoch from its checkpoint, after the last one from its temperature; to the same temperatures."""
    store = unimos_pipe.feature_set("icons", cache=icons_cache).store()
    options, templates = method_spec("full", {"train.epochs": 3}), ("a {domain} photo of a {class}.",)
    spec = run_spec(encoder_id=store.folder.name, templates=templates, options=options, calibrate=True)
    plans = [PlannedRun(replace(spec, source=source), tmp_path / source) for source in ("line", "solid")]
    loader, told = open_loader(plans, store, "cpu"), []
    wanted = fit_calibrations(plans, loader, stack_size=1)
    monkeypatch.setattr(checkpoint, "SAVE_INTERVAL", 0.0)
    real, calls = Trainer._train_epoch, []

    def interrupted(self, epoch):
        calls.append(epoch)
        if len(calls) == 6:  # the last epoch of the second companion
            raise KeyboardInterrupt
        return real(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)
    parts = {"stack_size": 1, "checkpoints": tmp_path / "parts"}
    with pytest.raises(KeyboardInterrupt):
        fit_calibrations(plans, loader, **parts)
    assert sorted(path.suffix for path in parts["checkpoints"].iterdir()) == [".json", ".safetensors"]
    found = fit_calibrations(plans, loader, **parts, on_epochs=told.append)
    assert calls[6:] == [2] and sum(told) == 6
    assert [one.temperature for one in found.values()] == [one.temperature for one in wanted.values()]
    assert len(list(parts["checkpoints"].glob(CALIBRATION_FILES))) == 2
    file = next(parts["checkpoints"].glob(CALIBRATION_FILES))
    file.write_text(file.read_text().replace("calibrations", "calibration5"))  # damaged: fitted again
    assert list(fit_calibrations(plans, loader, **parts)) == list(wanted)
    remove_calibrations(parts["checkpoints"])
    assert not list(parts["checkpoints"].iterdir())


def test_a_long_adapt_goes_on_where_it_was_stopped(cli, icons_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_INTERVAL", 0.0)
    command = (*PAIR, "--cache", icons_cache, "--epochs", 3, "--out")
    assert cli("adapt", *command, tmp_path / "whole").code == 0
    real, calls = Trainer._train_epoch, []

    def interrupted(self, epoch):
        calls.append(epoch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)
    assert cli("adapt", *command, tmp_path / "parts").code == 130
    assert (tmp_path / ".checkpoints").is_dir()
    assert cli("adapt", *command, tmp_path / "parts").code == 0
    assert calls[5:] == [1, 2]  # the companion and the first epoch were kept
    assert not (tmp_path / ".checkpoints").exists()
    for name in ("metrics.jsonl", "heads.safetensors", "predictions.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
