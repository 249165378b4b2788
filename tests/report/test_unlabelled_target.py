"""A target without labels: diagnostics come first; several sweeps in one table."""

import json

import pytest
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.summary_tiles import summary_tiles
from unimos_pipe.report.sweeps_table import sweeps_table
from unimos_pipe.report.unlabelled_target import diagnostics_table

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
        ("sure, 90% and more", "12"),
        ("doubtful, below 50%", "0"),
        ("runs", "2"),
        ("pairs", "1"),
        ("target images", "12"),
    ]
    assert summary_tiles(found)[0].note == "the range was measured for auto only"


def test_what_cannot_be_told_is_said(tmp_path):
    found = run_of(tmp_path, more={"estimate": {**KNOWN, "accuracy": None}})
    lead, *rest = summary_tiles(found)
    assert (lead.text, lead.note) == ("–", "not estimated: label about 50 images to measure it")
    assert [tile.name for tile in rest] == ["sure, 90% and more", "doubtful, below 50%", "photos"]


def test_one_run_has_its_range_and_the_first_card_its_interval(tmp_path):
    lead = summary_tiles(run_of(tmp_path, more={"estimate": KNOWN}))[0]
    assert (lead.text, lead.note) == ("61.0", "from 51.0 to 71.0; the range was measured for auto only")
    lead = summary_tiles(run_of(tmp_path / "auto", method="auto", variant="", more={"estimate": KNOWN}))[0]
    assert (lead.text, lead.note) == ("61.0", "from 51.0 to 71.0; the range held the accuracy for 89% of trials")
    write_run(tmp_path / "some", last=0.5, more={"scored_rows": 12, "labelled_rows": 4})
    lead = summary_tiles(find_runs([tmp_path / "some"])[0][0])[0]
    assert (lead.name, lead.text) == ("accuracy, UniMoS", "50.0")
    assert lead.note == "4 of 12 labelled, 95% interval 15.0 to 85.0"  # Wilson, 2 of 4


def test_a_run_without_an_estimate_still_has_its_row(tmp_path):
    assert [cell.text for cell in diagnostics_table(run_of(tmp_path)).rows[0]] == [
        "dark → light, UniMoS, seed 0",
        *"–" * 9,
    ]


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.5, "x", 0.5], 3])
def test_shares_that_no_run_wrote_are_left_out(shares, tmp_path):
    write_run(tmp_path / "sound")
    write_run(tmp_path, labelled=False, more={"estimate": {**KNOWN, "class_shares": shares}})
    experiments, skipped = find_runs([tmp_path])
    assert len(experiments) == 1 and len(skipped) == 1


def test_a_method_without_branches_has_no_column_of_them(tmp_path):
    table = diagnostics_table(run_of(tmp_path, method="fused", more={"estimate": KNOWN}))
    assert "VAC and LAC" not in table.columns and "VAC" not in table.caption
    assert [cell.text for cell in table.rows[0]][1:] == ["61.0", "51.0", "71.0", "50.0", "–", "–", "90.0", "20.0"]


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
