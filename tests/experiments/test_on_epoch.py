"""A function of the user's own is told of every epoch of every run that is trained."""

import json

import pytest

import unimos_pipe
from unimos_pipe.base.errors import InputError


@pytest.fixture
def features(icons_cache):
    return unimos_pipe.feature_set("icons", cache=icons_cache)


def test_every_line_of_metrics_is_told_as_it_is_made(features, tmp_path):
    told = {}

    def hear(run, line):
        told.setdefault((run.source, run.seed), []).append(line)
        line["losses"].clear()  # what it does with its copy changes no run

    training = unimos_pipe.AdaptOptions(settings={"train.epochs": 2}, seeds=(0, 1), calibrate=False)
    place = unimos_pipe.RunLocation(runs=tmp_path)
    runs = unimos_pipe.adapt_pairs(features, [("line", "sketch")], training, place, on_epoch=hear)
    assert list(told) == [("line", 0), ("line", 1)]
    for run in runs:
        lines = [json.loads(text) for text in (run.folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [-1, 0, 1] and lines[1]["losses"]
        assert [{**line, "losses": {}} for line in lines] == told["line", run.spec.seed]
    recipe = unimos_pipe.Recipe("r", "icons", pairs=("line->sketch",), seeds=1, options={"train": {"epochs": 1}})
    heard = []
    sweep = unimos_pipe.run_sweep(recipe, features, tmp_path, on_epoch=lambda *told: heard.append(told))
    assert [(run, line["epoch"]) for run, line in heard] == [(sweep.runs[0].spec, -1), (sweep.runs[0].spec, 0)]


def test_a_cluster_tells_of_no_epochs(features, tmp_path):
    with pytest.raises(InputError, match=r"^on_epoch is not called for runs on a cluster"):
        unimos_pipe.adapt_pairs(
            *(features, [("line", "sketch")], unimos_pipe.AdaptOptions(), unimos_pipe.RunLocation(runs=tmp_path)),
            compute=unimos_pipe.ComputeConfig("cpu", unimos_pipe.RayOptions()),
            on_epoch=print,
        )
