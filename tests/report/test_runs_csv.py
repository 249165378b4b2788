"""runs.csv and classes.csv read back: each value equals that of result.json."""

import csv
import json

import pytest
from factories.runs import CLASSES, write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.runs_csv import class_rows, run_rows, write_runs_csv


@pytest.fixture
def experiments(tmp_path):
    known = {"accuracy": 0.61, "confidence": 0.9, "branches": 0.3, "class_shares": [0.5, 0.25, 0.25]}
    reliability = {name: {"ece": ece, "nll": 1.0, "brier": 1.0} for name, ece in (("raw", 0.2), ("calibrated", 0.05))}
    shares = ("known_before", "known_after", "found", "h_score", "best_h_score", "auroc", "oscr")
    scores = {name: index / 10 for index, name in enumerate(shares, 1)} | {"known_rows": 6, "unknown_rows": 4}
    unknown = {"threshold": 0.5, "share": 0.25, "otsu_share": 0.4, "source_share": 0.25, "scores": scores}
    more = {"estimate": known, "reliability": reliability, "scored_rows": 11, "labelled_rows": 10}
    more |= {"unknown": unknown, "taught_rows": 3}
    write_run(tmp_path, last=0.7123456789, changed={"loss.alpha": 0.1}, more=more)
    write_run(tmp_path, method="fused", dataset="mini", classes=CLASSES)
    write_run(tmp_path, "light->dark", labelled=False)
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "=mine"}))
    return find_runs([tmp_path])[0]


def test_a_row_for_every_run(experiments):
    first, fused, blind = run_rows(experiments)
    assert first["accuracy"] == first["per_class_mean"] == 0.7123456789 and first["loss.alpha"] == 0.1
    place = ("recipe", "source", "target", "method", "variant", "seed", "setting", "metric")
    assert [first[name] for name in place] == [*("=mine", "dark", "light", "unimos", "full", 0, "UniMoS", "accuracy")]
    assert (first["estimated_accuracy"], first["confidence"], first["oracle_best_epoch"]) == (0.61, 0.9, 1)
    assert (first["raw_ece"], first["calibrated_ece"], first["branches_agree"]) == (0.2, 0.05, 0.3)
    assert [first[name] for name in ("vac_accuracy", "lac_accuracy", "zero_shot_accuracy", "oracle_best_accuracy")] == [
        *(pytest.approx(value) for value in (0.6123456789, 0.6623456789, 0.6, 0.8))
    ]
    assert first["gain"] == pytest.approx(0.1123456789) and blind["gain"] is None
    unknown = ("share", "known_before", "known_after", "found", "h_score", "best_h_score", "auroc", "oscr")
    assert [first[f"unknown_{name}"] for name in unknown] == [0.25, *(index / 10 for index in range(1, 8))]
    assert first["taught_rows"] == 3 and fused["unknown_share"] is None is fused["unknown_auroc"]
    counts = ("source_rows", "target_rows", "scored_rows", "labelled_rows", "classes")
    assert [first[name] for name in counts] == [12, 12, 11, 10, 3]
    assert (fused["method"], fused["loss.alpha"], fused["vac_accuracy"]) == ("fused", None, None)
    assert (blind["accuracy"], blind["loss.alpha"], blind["target_rows"]) == (None, 1.0, 12)


def test_a_row_for_every_class(experiments):
    rows = class_rows(experiments)
    assert [row["class"] for row in rows] == [*CLASSES] * 3
    assert [rows[1][name] for name in ("accuracy", "zero_shot_accuracy", "share_of_answers")] == [
        0.7123456789,
        0.6,
        0.25,
    ]
    assert rows[-1]["accuracy"] is None and rows[-1]["share_of_answers"] is None


def test_files_hold_the_same_and_no_formula(experiments, tmp_path):
    write_runs_csv(experiments, tmp_path / "out")
    with (tmp_path / "out" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert wanted == run_rows(experiments)
    assert [row["recipe"] for row in rows] == ["'=mine"] * 3
    numbers = {name for name, value in wanted[0].items() if isinstance(value, int | float)}
    for row, values in zip(rows, wanted, strict=True):
        assert {name: float(row[name]) if row[name] else None for name in numbers} == {
            name: values[name] for name in numbers
        }


def test_a_folder_whose_name_is_not_utf_8_is_escaped(tmp_path):
    write_run(tmp_path / "a\udcff")
    write_runs_csv(find_runs([tmp_path])[0], tmp_path)
    (row,) = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))
    assert row["folder"].startswith(f"{tmp_path}/a\\udcff/mini/")
