"""What a notebook shows: tasks, epochs, runs, tables and answers, every text escaped."""

from pathlib import Path

import torch
from factories.runs import run_spec

import unimos_pipe
from unimos_pipe.base.html_repr import MAX_ROWS, html_table
from unimos_pipe.deploy.predictions import Predictions
from unimos_pipe.experiments.results_table import ResultRow
from unimos_pipe.experiments.run_plans import RunResult
from unimos_pipe.experiments.sweep import SweepResult
from unimos_pipe.runs.run_values import Accuracies, EpochScores, RunMetrics, Scores

NASTY = '<script>alert("1")</script>'
ESCAPED = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"


def test_text_is_escaped_and_long_tables_are_cut():
    found = html_table(NASTY, [NASTY], [[NASTY]] * (MAX_ROWS + 1))
    assert "<script" not in found and found.count(ESCAPED) == MAX_ROWS + 2
    assert f"(the first {MAX_ROWS} of {MAX_ROWS + 1})" in found and found.count("<tr>") == MAX_ROWS + 1


def run(result, error=None) -> RunResult:
    spec = run_spec(source=NASTY, target="b", seed=3)
    return RunResult(spec, Path("runs/x"), result, error)


def test_a_run():
    scores = Scores(accuracy=0.5, per_class_mean=0.25)
    best = EpochScores(accuracy=0.5, per_class_mean=0.25, epoch=2)
    accuracy = Accuracies(last=scores, zero_shot=scores, oracle_best=best)
    result = RunMetrics(metric="accuracy", accuracy=accuracy, seconds=1.25)
    assert repr(run(result)) == f"<RunResult {NASTY} -> b, full, seed 3: 50.0, runs/x>"
    shown = run(result)._repr_html_()
    assert f"<caption>{ESCAPED} -&gt; b, full, seed 3</caption>" in shown
    for name, value in (("accuracy, last epoch", "50.0"), ("accuracy, oracle best", "50.0"), ("seconds", "1.2")):
        assert f"<tr><td>{name}</td><td>{value}</td></tr>" in shown
    failed = run(None, NASTY)
    assert NASTY in repr(failed) and f"<td>error</td><td>{ESCAPED}</td>" in failed._repr_html_()


def test_a_table():
    rows = (ResultRow("zero-shot", {"a->b": {0: 0.5}}), ResultRow(NASTY, {"a->b": {0: 0.6, 1: 0.7}}))
    sweep = SweepResult("t", Path("runs/t"), ("a->b",), rows, (ResultRow("paper", {}, 0.75),), (run(None, "why"),))
    assert repr(sweep) == "<SweepResult t: 1 runs, 1 failed, runs/t>"
    shown = sweep._repr_html_()
    assert "<th></th><th>a-&gt;b</th><th>average</th>" in shown
    assert f"<td>{ESCAPED}</td><td>65.0 ± 7.1</td><td>65.0 ± 7.1</td>" in shown
    assert "<td>paper</td><td>-</td><td>75.0</td>" in shown


def test_answers():
    p = torch.tensor([[0.75, 0.25], [float("nan")] * 2])
    found = Predictions((NASTY, "b"), p, p, None, None, (None, NASTY))
    assert repr(found) == "<Predictions: 2 images, 2 classes, 1 unreadable>" and len(found) == 2
    first = {"class": NASTY, "probability": 0.75, "raw_probability": 0.75, "error": None}
    assert found.records() == [first, dict.fromkeys(first) | {"error": NASTY}]
    assert f"<td>{ESCAPED}</td><td>0.750</td><td>0.750</td><td></td>" in found._repr_html_()


def test_a_task_and_its_epochs(icons_cache):
    task = unimos_pipe.make_task(unimos_pipe.feature_set("icons", cache=icons_cache), "line", "sketch", device="cpu")
    assert repr(task) == "<Task line -> sketch of icons>"
    for row in ("<td>624 labelled rows</td>", "<td>716 rows, labels of 716 for scoring only</td>", "<td>128</td>"):
        assert row in task._repr_html_()
    epoch = unimos_pipe.EpochInfo(3, {"im": -1.25}, 0.5, None, None)
    assert repr(epoch) == "<Epoch 3: accuracy ->"
    assert "<td>loss im</td><td>-1.2500</td></tr><tr><td>mean learned w</td><td>0.5000</td>" in epoch._repr_html_()
