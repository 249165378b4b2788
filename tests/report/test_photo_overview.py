"""The overview of photos: counts against the source's shares, probabilities, galleries, the doubtful ones."""

import pytest
from factories.browser import browser
from factories.photo_runs import write_photo_run
from factories.runs import forge_json, write_run
from PIL import Image

from unimos_pipe.report import figures as report_figures
from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.photo_overview import is_photo_target, photo_overview
from unimos_pipe.report.summary_tiles import summary_tiles
from unimos_pipe.runs.write_run import RESULT

SOURCE = {"source_shares": [0.5, 0.25, 0.25]}
ROWS = [("a.png", "cat", 0.99), ("b.png", "cat", 0.95), ("c.png", "cat", 0.85), ("d.png", "dog", 0.49)]


def overview_of(tmp_path, rows, thumbnail=lambda path: f"data:{path}"):
    made = write_photo_run(tmp_path, rows)
    forge_json(made.run, RESULT, lambda values: values["estimate"].update(SOURCE))
    experiment = find_runs([made.run])[0][0]
    return experiment, photo_overview(experiment.runs[0], thumbnail)


def test_classes_against_the_source(tmp_path):
    experiment, found = overview_of(tmp_path, ROWS)
    assert is_photo_target(experiment)
    assert [bar.text for bar in found.bars] == [
        "75% of the photos (3), 50% of your labelled set",
        "25% of the photos (1), 25% of your labelled set",
        "0% of the photos (0), 25% of your labelled set",
    ]
    assert [(bar.name, bar.width, bar.mark) for bar in found.bars] == [
        ("cat", 100, pytest.approx(200 / 3)),
        ("dog", pytest.approx(100 / 3), pytest.approx(100 / 3)),
        ("a/b", 0, pytest.approx(100 / 3)),
    ]
    assert [(bar.name, bar.count) for bar in found.bands] == [
        ("95% and more", 2), ("80% to 95%", 1), ("50% to 80%", 0), ("below 50%", 1),
    ]  # fmt: skip
    assert [photo.path for photo in found.doubtful] == ["d.png", "c.png", "b.png", "a.png"]
    assert [(gallery.name, [photo.path for photo in gallery.photos]) for gallery in found.galleries] == [
        ("cat", ["a.png", "b.png", "c.png"]), ("dog", ["d.png"]),
    ]  # fmt: skip


def test_photos_of_no_class_have_a_bar_and_a_tile(tmp_path):
    experiment, found = overview_of(tmp_path, [*ROWS, ("e.png", "(unknown)", 0.99)])
    assert {bar.name: bar.text for bar in found.bars}["(unknown)"] == "20% of the photos (1)"
    counts = {bar.name: bar.count for bar in found.bands}
    assert counts["of no class"] == 1 and counts["95% and more"] == 2  # without it
    tiles = {tile.name: tile.text for tile in summary_tiles(experiment)}
    assert tiles["of no class"] == "1" and tiles["sure, 90% and more"] == "2" and tiles["photos"] == "5"


def test_a_gallery_is_spread_and_needs_the_images(tmp_path):
    rows = [(f"{index:03d}.png", "cat", 1 - index / 100) for index in range(50)]
    _, found = overview_of(tmp_path, rows)
    assert [photo.path[:3] for photo in found.galleries[0].photos] == [
        "000", "007", "014", "021", "028", "035", "042", "049",
    ]  # fmt: skip
    _, found = overview_of(tmp_path, rows, None)
    assert found.galleries == () and found.doubtful[0].thumbnail == "" and found.doubtful[0].path == "049.png"


def test_doubtful_photos_have_no_label_and_others_tell_whether_they_are_right(tmp_path):
    rows = [("a.png", "bar", 0.9, "bar"), ("b.png", "bar", 0.2, "circle"), ("c.png", "bar", 0.5, "")]
    table = [(path, name, p, name, p, name, p, label) for path, name, p, label in rows]
    write_run(tmp_path, rows=table, more={"scored_rows": 3, "labelled_rows": 2})
    experiment = find_runs([tmp_path])[0][0]
    found = photo_overview(experiment.runs[0], lambda path: "data:")
    assert is_photo_target(experiment) and [photo.path for photo in found.doubtful] == ["c.png"]
    assert [photo.correct for photo in found.galleries[0].photos] == [True, None, False]


def test_a_target_of_a_benchmark_has_no_overview(tmp_path):
    write_run(tmp_path)
    assert not is_photo_target(find_runs([tmp_path])[0][0])


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_the_page_of_photos_in_a_browser(cli, tmp_path, monkeypatch, width):
    monkeypatch.setattr(report_figures, "save_figure", lambda *_: "<svg></svg>")
    rows = [(f"{index}.png", ("cat", "dog")[index % 2], 0.4 + index / 50) for index in range(24)]
    made = write_photo_run(tmp_path, rows)
    forge_json(made.run, RESULT, lambda values: values["estimate"].update(SOURCE))
    assert Image.open(made.photos / "0.png").size == (24, 24)
    answer = cli("report", made.run, "--out", tmp_path / "report", "--cache", tmp_path)
    assert answer.code == 0, answer.err
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "report" / "report.html").as_uri())
        assert page.inner_text("section h2") == "Photos, shop → phone"
        assert page.locator(".bar").first.inner_text().split("\n")[-1] == (
            "50% of the photos (12), 50% of your labelled set"
        )
        images = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
        assert len(images) == 16 + 2 * 8 and all(images)  # the doubtful ones and two galleries
        assert not page.locator("table.diagnostics").is_visible()  # folded
        page.click("details > summary")
        assert page.locator("table.diagnostics").is_visible() or width < 760  # groups fold on a phone
        assert page.evaluate("document.documentElement.scrollWidth") == width
        tops = page.evaluate("[...document.querySelectorAll('.stats > div')].map(tile => tile.offsetTop)")
        wide = page.evaluate("[...document.querySelectorAll('.stats > div')].map(tile => tile.offsetWidth)")
        rows = {top: [w for t, w in zip(tops, wide, strict=True) if t == top] for top in tops}
        full = page.evaluate("document.querySelector('.stats').clientWidth")
        assert all(len(row) > 1 or row[0] == full for row in rows.values())  # no card wraps alone
