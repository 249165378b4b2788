"""Disagreements, thumbnails, class gains and confusions on synthetic runs with known results."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from factories.runs import write_run
from PIL import Image

from unimos_pipe.photos.image_folder import find_image_folder
from unimos_pipe.report.error_analysis import class_gains, find_disagreements, significant_gains, worst_confusions
from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.thumbnails import encode_thumbnail

ROWS = [
    ("a.png", "circle", 0.9, "circle", 0.8, "circle", 0.7, "circle"),  # agreed
    ("b.png", "circle", 0.6, "circle", 0.9, "bar", 0.5, "circle"),  # VAC and ensemble right
    ("c.png", "bar", 0.6, "square", 0.8, "bar", 0.95, "square"),  # VAC right, ensemble wrong
    ("d.png", "bar", 0.6, "square", 0.7, "bar", 0.6, "bar"),  # LAC and ensemble right
    ("e.png", "square", 0.6, "square", 0.99, "circle", 0.2, "bar"),  # nobody right
]


def run_of(tmp_path, **options):
    write_run(tmp_path, **options)
    return find_runs([tmp_path])[0][0].runs[0]


def test_the_surest_disagreements_come_first(tmp_path):
    found, tally = find_disagreements(run_of(tmp_path, rows=ROWS), limit=3)
    assert [item.path for item in found] == ["c.png", "d.png", "b.png"]  # by the smaller of the two probabilities
    first = found[0]
    assert (first.vac.predicted, first.vac.probability, first.vac.correct) == ("square", 0.8, True)
    assert (first.lac.predicted, first.lac.probability, first.lac.correct) == ("bar", 0.95, False)
    assert (first.ensemble.predicted, first.ensemble.correct, first.truth) == ("bar", False, "square")
    assert (tally.rows, tally.differ, tally.vac_correct, tally.lac_correct, tally.ensemble_correct) == (5, 4, 2, 1, 2)


def test_without_labels_nobody_is_called_right(tmp_path):
    found, tally = find_disagreements(run_of(tmp_path, rows=ROWS, labelled=False))
    assert {branch.correct for item in found for branch in (item.vac, item.lac, item.ensemble)} == {None}
    assert (tally.differ, tally.vac_correct) == (4, None) and found[0].truth is None


def test_thumbnails_show_the_image_and_never_leave_the_folder(tmp_path):
    folder = tmp_path / "images" / "light"
    folder.mkdir(parents=True)
    Image.new("RGB", (300, 150), (250, 10, 10)).save(folder / "red.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (folder / "broken.png").write_bytes(b"no image")
    data = encode_thumbnail(folder, "red.png")
    with Image.open(io.BytesIO(base64.b64decode(data.removeprefix("data:image/jpeg;base64,")))) as image:
        assert image.size == (112, 56) and np.allclose(image.getpixel((50, 20)), (250, 10, 10), atol=6)
    (folder / "loop.png").symlink_to("loop.png")
    paths = ("../../secret.png", "broken.png", "none.png", "loop.png")
    assert [encode_thumbnail(folder, path) for path in paths] == [""] * 4
    run = run_of(tmp_path / "runs")
    assert find_image_folder(run, tmp_path / "images", tmp_path) == folder
    assert (
        find_image_folder(run, None, tmp_path) is None and find_image_folder(run, tmp_path / "runs", tmp_path) is None
    )


def test_class_changes_are_ordered_by_gain(tmp_path):
    run = run_of(tmp_path)
    scores = run.result.accuracy
    last, zero_shot = (
        replace(scores.last, per_class=(0.5, None, 0.9)),
        replace(scores.zero_shot, per_class=(0.6, None, 0.6)),
    )
    run = replace(run, result=replace(run.result, accuracy=replace(scores, last=last, zero_shot=zero_shot)))
    names, ours, zero = class_gains([run])
    assert names == ["bar", "circle"] and ours == [0.9, 0.5] and zero == [0.6, 0.6]


def test_a_gain_is_significant_where_the_intervals_are_apart(tmp_path):
    truth = ["circle"] * 30 + ["bar"] * 3
    run = run_of(tmp_path, rows=[(f"{i}.png", name, 0.9, name, 0.9, name, 0.9, name) for i, name in enumerate(truth)])
    # Wilson intervals of 30 rows: 0.9 is 0.744 to 0.965, 0.5 is 0.332 to 0.668, 0.7 is 0.521 to 0.833
    names, ours, zero = ["circle", "circle", "circle", "bar"], [0.9, 0.5, 0.9, 1.0], [0.5, 0.9, 0.7, 0.0]
    assert significant_gains(run, names, ours, zero) == [True, True, False, False]


def test_confusions_are_shares_of_the_true_class(tmp_path):
    rows = [(f"{i}.png", answer, 0.9, answer, 0.9, answer, 0.9, truth) for i, (truth, answer) in enumerate(
        [("circle", "circle"), ("circle", "bar"), ("circle", "bar"), ("circle", "square"), ("square", "square")]
    )]  # fmt: skip
    shares, worst, columns = worst_confusions([run_of(tmp_path, rows=rows)])
    assert worst == ["circle", "square"] and columns == ["circle", "square", "bar", "other"]
    assert shares == pytest.approx(np.array([[25, 25, 50, 0], [0, 100, 0, 0]]))


def test_classes_that_are_answered_in_error_come_by_their_number(tmp_path):
    answers = ["circle", "bar", "square", "square"]
    rows = [(f"{i}.png", answer, 0.9, answer, 0.9, answer, 0.9, "circle") for i, answer in enumerate(answers)]
    shares, worst, columns = worst_confusions([run_of(tmp_path, rows=rows)])
    assert worst == ["circle"] and columns == ["circle", "square", "bar", "other"]
    assert shares == pytest.approx(np.array([[25, 50, 25, 0]]))
