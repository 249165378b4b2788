"""A target without labels: diagnostics come first; several sweeps in one table."""

import json

import pytest
from factories.runs import write_run

from unimos_pipe.report.experiment import find_runs
from unimos_pipe.report.summary_tiles import summary_tiles
from unimos_pipe.report.sweeps_table import sweeps_table
from unimos_pipe.report.unlabelled_target import class_shares, diagnostics_table, find_uncertain_images

KNOWN = {
    "accuracy": 0.61, "branches": 0.3, "agreement": {"zero-shot": 0.5}, "low": 0.51, "high": 0.71, "confidence": 0.9,
    "total_variation": 0.2, "class_shares": [0.2, 0.5, 0.3], "source_shares": [0.3, 0.4, 0.3],
}  # fmt: skip
ROWS = [("a.png", "circle", 0.6, "circle", 0.9, "bar", 0.5, ""), ("b.png", "bar", 0.4, "square", 0.8, "bar", 0.95, "")]


def run_of(root, **options):
    write_run(root, labelled=False, **options)
    return find_runs([root])[0][0]


def test_tiles_say_what_is_known_and_how_well(tmp_path):
    more = {"estimate": KNOWN, "calibration": {"temperature": 1.2}}
    run_of(tmp_path, more=more)
    found = run_of(tmp_path, seed=1, more={**more, "estimate": {**KNOWN, "accuracy": 0.65}})
    assert [(tile.name, tile.text) for tile in summary_tiles(found)] == [
        ("estimated accuracy", "63.0 ± 2.8"),
        ("VAC and LAC agree", "30.0 ± 0.0"),
        ("confidence, calibrated", "90.0 ± 0.0"),
        ("class share distance", "20.0 ± 0.0"),
        ("runs", "2"),
        ("pairs", "1"),
        ("target images", "12"),
    ]
    assert summary_tiles(found)[0].note == "the range held the accuracy for 92% of trials"


def test_what_cannot_be_told_is_said(tmp_path):
    found = run_of(tmp_path, more={"estimate": {**KNOWN, "accuracy": None}})
    lead, *rest = summary_tiles(found)
    assert (lead.text, lead.note) == ("–", "not estimated: label about 50 images to measure it")
    assert "confidence, raw" in [tile.name for tile in rest]


def test_a_run_without_an_estimate_still_has_its_row(tmp_path):
    assert [cell.text for cell in diagnostics_table(run_of(tmp_path)).rows[0]] == [
        "dark → light, UniMoS, seed 0",
        *"–" * 9,
    ]


def test_the_least_sure_answers_come_first(tmp_path):
    first, second = find_uncertain_images(run_of(tmp_path, rows=ROWS).runs[0])
    assert (first.path, second.path) == ("b.png", "a.png")
    assert [(name, found.predicted, found.probability) for name, found, _ in first.predictions] == [
        ("predicted", "bar", 0.4),
        ("VAC", "square", 0.8),
        ("LAC", "bar", 0.95),
    ]
    (quick, _) = find_uncertain_images(run_of(tmp_path / "quick", rows=ROWS, method="fused").runs[0])
    assert [name for name, *_ in quick.predictions] == ["predicted"]


def test_shares_of_the_classes(tmp_path):
    run = run_of(tmp_path, more={"estimate": KNOWN}).runs[0]
    assert class_shares(run) == (["square", "bar", "circle"], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3])
    assert class_shares(run_of(tmp_path / "old").runs[0]) == ([], [], [])


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.5, "x", 0.5], 3])
def test_shares_that_no_run_wrote_are_left_out(shares, tmp_path):
    write_run(tmp_path / "sound")
    write_run(tmp_path, labelled=False, more={"estimate": {**KNOWN, "class_shares": shares}})
    experiments, skipped = find_runs([tmp_path])
    assert len(experiments) == 1 and len(skipped) == 1


def test_sweeps_side_by_side(tmp_path):
    for name, last in (("first", 0.7), ("second", 0.8)):
        write_run(tmp_path / name, last=last)
        (tmp_path / name / "recipe.json").write_text(json.dumps({"name": name, "title": f"The {name}"}))
    write_run(tmp_path / "second", method="fused", last=0.75)
    write_run(tmp_path / "blind", labelled=False)
    start = ("mini", "tinyclip-r24-64")
    assert [[cell.text for cell in row] for row in sweeps_table(find_runs([tmp_path])[0]).rows] == [
        ["mini, tinyclip-r24-64", *start, "UniMoS", "1", "1", "–", "–", "–", "–"],
        ["The first", *start, "UniMoS", "1", "1", "70.0", "60.0", "–", "+10.0"],
        ["The second", *start, "UniMoS", "1", "1", "80.0", "60.0", "–", "+20.0"],
        ["The second", *start, "fused", "1", "1", "75.0", "60.0", "–", "+15.0"],
    ]
