"""A source of several domains: what is loaded, drawn, trained and written, by adapt and by a sweep."""

import json
from dataclasses import replace

import pytest
import torch
from factories.tasks import random_task, small_method
from rounding import assert_within, perturbed_task, rounding_bounds

import unimos_pipe
from unimos_pipe.methods.logistic_regression import domain_balanced_weights
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.source_probe import fit_logistic_regression
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

METHOD = small_method(train__epochs=3, train__batch_size=8)
TASK = random_task()
SEVERAL = replace(TASK, source=replace(TASK.source, name="several", origins=(torch.arange(40) >= 10).long()))


@pytest.fixture(scope="module")
def loader(icons_cache):
    features = unimos_pipe.feature_set("icons", cache=icons_cache)
    return PairLoader(features.store(), features.templates, torch.device("cpu"))


def test_rows_are_concatenated_and_everything_is_in_the_identity(loader):
    """In the data set's order, whichever way it is written; features and labels of all sources shape the run."""
    data = loader.pair("sketch+line", "color")
    line, sketch = (loader.pair(name, "color") for name in ("line", "sketch"))
    source = data.task.source
    assert torch.equal(source.features, torch.cat([line.task.source.features, sketch.task.source.features]))
    assert torch.equal(source.labels, torch.cat([line.task.source.labels, sketch.task.source.labels]))
    assert torch.equal(source.origins, (torch.arange(624 + 716) >= 624).long())
    assert (source.name, line.task.source.origins) == ("line+sketch", None)
    assert data.shard_digests["line"] == line.shard_digests["line"]
    assert data.shard_digests["sketch"] == sketch.shard_digests["sketch"]
    assert data.shard_digests["source labels"] == [
        *line.shard_digests["source labels"],
        *sketch.shard_digests["source labels"],
    ]
    assert loader.pair("line+sketch", "color").task.source.features is source.features


def test_the_quick_methods_see_all_rows_and_the_probe_weighs_the_domains(loader):
    task = loader.pair("line+sketch", "color").task
    source = task.source
    weights = domain_balanced_weights(source.origins).numpy()
    assert weights[:624].sum() == pytest.approx(weights[624:].sum())
    wanted = fit_logistic_regression(source.features.numpy(), source.labels.numpy(), weights)
    found = METHODS["source-probe"].fit(task)
    assert found.classes.tolist() == wanted.predict(task.target.features.numpy()).tolist()


def last_probabilities(trainer):
    found = {}
    for _, records in trainer.train():
        found |= {record.run: record.evaluation.probabilities for record in records}
    return [found[run] for run in sorted(found)]


@pytest.mark.numerical
def test_a_stack_of_one_and_several_sources_trains_as_alone():
    tasks = [TASK, SEVERAL]
    alone = [last_probabilities(Trainer([create_run(task, METHOD, 0)]))[0] for task in tasks]
    assert not torch.allclose(*alone, atol=1e-3)  # the same rows, drawn otherwise

    def stacked(seed: int | None) -> list[torch.Tensor]:
        own = tasks if seed is None else [perturbed_task(task, seed) for task in tasks]
        return last_probabilities(Trainer([create_run(task, METHOD, 0) for task in own]))

    steps = 3 * 40 // 8  # each rounds anew
    assert_within(stacked(None), alone, rounding_bounds(stacked, steps))


def test_a_run_goes_on_from_its_state():
    whole = last_probabilities(Trainer([create_run(SEVERAL, METHOD, 0)]))[0]
    first, later = (Trainer([create_run(SEVERAL, METHOD, 0)]) for _ in range(2))
    for epoch, records in first.train():
        list(records)
        if epoch == 0:
            later.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for _, records in later.train(after_epoch=0):
        found = [record.evaluation.probabilities for record in records]
    assert torch.equal(found[0], whole)


def test_rows_held_out_keep_their_domain():
    run = create_run(SEVERAL, small_method(train__epochs=1, train__source_holdout=0.25), 0)
    assert (len(run.held_out_source.origins), len(run.task.source.origins)) == (10, 30)
    for part in (run.held_out_source, run.task.source):
        rows = [(SEVERAL.source.features == row).all(1).nonzero().item() for row in part.features]
        assert torch.equal(part.origins, SEVERAL.source.origins[rows])


def test_the_command(cli, icons_cache, tmp_path):
    given = ("--dataset", "icons", "--cache", icons_cache, "--tgt", "color", "--epochs", 1, "--runs", tmp_path)
    answer = cli("adapt", *given, "--src", "sketch", "--src", "line")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("line+sketch -> color, full,epochs=1, seed 0 (transductive): accuracy UniMoS ")
    (folder,) = (path.parent for path in tmp_path.rglob("result.json"))
    assert folder.parts[-3:] == ("line+sketch-color", "full,epochs=1", "seed0")
    assert json.loads((folder / "result.json").read_text())["source_rows"] == 624 + 716
    answer = cli("predict", "--run", folder, "--domain", "color", "--cache", icons_cache, "-o", tmp_path / "a.csv")
    assert answer.code == 0
    assert cli("adapt", *given, "--src", "line", "--src", "color").err == (
        "Error: target 'color' is one of the sources 'line+color'; adaptation needs another domain\n"
    )


def test_a_sweep_with_its_baselines_and_report(cli, icons_cache, no_figures, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\ndataset = "icons"\npairs = ["sketch+color->line"]\nseeds = 1\n'
        'variants = ["full", "fused-teacher"]\n[options.train]\nepochs = 1\nmax_steps = 4\n'
    )
    place = ("--cache", icons_cache, "--runs", tmp_path / "runs")
    answer = cli("sweep", recipe, *place, "--show", "probes")
    assert answer.code == 0, answer.err
    assert "color+sketch->line" in answer.out and "2 run(s) trained, 0 kept, 0 failed" in answer.err
    baselines = json.loads((tmp_path / "runs/r/baselines.json").read_text())
    assert baselines["color+sketch->line"]["source_only"] > 0.84  # 0.83 from either alone
    assert cli("sweep", recipe, *place, "--dry-run").out.startswith("r: 2 runs, 2 finished, 0 stacks")
    assert cli("report", tmp_path / "runs/r", "--out", tmp_path / "report").code == 0
    assert "color+sketch → line" in (tmp_path / "report/report.html").read_text()
