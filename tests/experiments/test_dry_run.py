"""Forecasts: rows as specs expect them, and times in proportion to the work."""

from dataclasses import replace

import pytest
import torch

from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.experiments.dry_run import RowCounts, expect_row_counts, measure_training_seconds
from unimos_pipe.extract.encoder import measure_encoder_speed
from unimos_pipe.runs.read_recipe import load_recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dataset", "domain", "protocol", "rows"),
    [
        ("office_home", "art", "transductive", RowCounts(2427)),
        ("domainnet", "clipart", "inductive", RowCounts(33525, 14604)),
        ("domainnet", "clipart", "transductive", RowCounts(48129)),
        ("mini_domainnet", "clipart", "inductive", None),
    ],
)
def test_rows_as_published(dataset, domain, protocol, rows):
    assert expect_row_counts(load_spec(dataset), domain, protocol) == rows


def test_an_encoder_is_timed_without_its_weights():
    seconds, dim = measure_encoder_speed(ENCODERS["tiny"], CPU, images=1)
    assert seconds > 0
    assert dim == 128


def test_time_grows_with_the_steps(monkeypatch):
    monkeypatch.setattr(
        "unimos_pipe.experiments.dry_run.measure_epoch_seconds", lambda runs, concurrent_stacks: 4.0 * len(runs)
    )  # a second a step
    recipe, spec = load_recipe("visda2017_rn101")
    runs = recipe.runs(spec, "")
    rows = {"synthetic": RowCounts(3200), "real": RowCounts(640)}
    assert (
        measure_training_seconds(runs, rows, 12, 16, CPU, stack_size=2) == 3 * 10 * 20
    )  # 3 seeds, 10 epochs, 640 / 32 steps
    capped = {"synthetic": RowCounts(152397), "real": RowCounts(55388)}
    assert measure_training_seconds(runs, capped, 12, 16, CPU, stack_size=2) == 3 * 10 * 1500
    several = [replace(run, source="synthetic+drawn") for run in runs]
    rows = {"synthetic": RowCounts(300), "drawn": RowCounts(340), "real": RowCounts(3200)}
    assert measure_training_seconds(several, rows, 12, 16, CPU, stack_size=2) == 3 * 10 * 20
