"""Photos sorted into folders: own links alone change, originals never, and nothing leaves the folder."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
from factories.photo_runs import write_photo_run

from unimos_pipe.base.errors import InputError
from unimos_pipe.photos import sorted_folder
from unimos_pipe.photos.safe_names import folder_names, link_names, safe_folder_name
from unimos_pipe.photos.sort_photos import SortOptions, sort_photos
from unimos_pipe.photos.sorting_rules import precision_threshold

ROWS = [
    ("2023/IMG_1.HEIC", "cat", 0.99),
    ("2023/IMG_2.JPG", "dog", 0.90),
    ("2024/IMG_2.JPG", "dog", 0.60),
    ("2024/IMG_3.JPG", "a/b", 0.80),
    ("IMG_4.JPG", "cat", 0.50),
]


def tree(folder: Path) -> dict[str, str]:
    """Every link below a folder with the last part of its target, and every file as such."""
    entries = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.readlink().name if path.is_symlink() else "file" for path in entries
    }


SORTED = {
    ".unimos-sorted.json": "file",
    "a_b/IMG_3.JPG": "IMG_3.JPG",
    "cat/IMG_1.HEIC": "IMG_1.HEIC",
    "cat/IMG_4.JPG": "IMG_4.JPG",
    "dog/2023_IMG_2.JPG": "IMG_2.JPG",
    "dog/2024_IMG_2.JPG": "IMG_2.JPG",
    "sorted.csv": "file",
}


def test_a_folder_per_class_and_again_after_corrections(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to = tmp_path / "sorted"
    result = sort_photos(made.run, to)
    assert tree(to) == SORTED
    assert (result.photos, result.counts, result.labelled) == (5, {"cat": 2, "dog": 2, "a_b": 1}, 0)
    assert math.isclose(result.expected_error, 1 - (0.99 + 0.9 + 0.6 + 0.8 + 0.5) / 5)
    assert (to / "dog/2024_IMG_2.JPG").samefile(made.photos / "2024/IMG_2.JPG")
    times = {path: path.lstat().st_mtime_ns for path in to.rglob("*") if path.is_symlink()}

    (to / "cat" / "mine.txt").write_text("mine")
    made.labels.set({"IMG_4.JPG": "dog", "2023/IMG_1.HEIC": "(unknown)", "2024/IMG_3.JPG": "a/b"})
    result = sort_photos(made.run, to)
    moved = {"dog/IMG_4.JPG": "IMG_4.JPG", "unknown/IMG_1.HEIC": "IMG_1.HEIC", "cat/mine.txt": "file"}
    assert tree(to) == {k: v for k, v in SORTED.items() if not k.startswith("cat/")} | moved
    assert result.changes.added == ["unknown/IMG_1.HEIC", "dog/IMG_4.JPG"]
    assert sorted(result.changes.removed) == ["cat/IMG_1.HEIC", "cat/IMG_4.JPG"] and len(result.changes.kept) == 3
    assert {path: path.lstat().st_mtime_ns for path in times if path.is_symlink()}.items() <= times.items()
    assert result.labelled == 3 and result.label_errors == (2, 3)
    rows = {row["path"]: row for row in csv.DictReader((to / "sorted.csv").open(newline=""))}
    assert list(rows) == [path for path, _, _ in ROWS]
    assert rows["IMG_4.JPG"] == {
        "path": "IMG_4.JPG", "sorted_as": "dog/IMG_4.JPG", "class": "cat", "probability": "0.500000", "label": "dog",
        "reason": "label",
    }  # fmt: skip
    assert rows["2024/IMG_2.JPG"]["reason"] == "prediction"

    made.labels.set({"IMG_4.JPG": "", "2023/IMG_1.HEIC": ""})
    (to / "cat" / "mine.txt").unlink()
    sort_photos(made.run, to)
    assert tree(to) == SORTED and not (to / "unknown").exists()
    assert made.unchanged()


def test_review_below_a_threshold_and_by_precision(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    result = sort_photos(made.run, tmp_path / "one", SortOptions(review_below=0.8))
    assert result.counts == {"review": 2, "a_b": 1, "cat": 1, "dog": 1}
    assert math.isclose(result.expected_error, 1 - (0.99 + 0.9 + 0.8) / 3)
    result = sort_photos(made.run, tmp_path / "two", SortOptions(precision=0.82))  # mean of the first four: 0.8225
    assert result.threshold == 0.6 and result.counts["review"] == 1
    made.labels.set({"2023/IMG_1.HEIC": "cat"})  # the others: 0.9, 0.8, 0.6, 0.5
    assert sort_photos(made.run, tmp_path / "two", SortOptions(precision=0.82)).threshold == 0.8
    made.labels.set({"2023/IMG_1.HEIC": ""})
    result = sort_photos(made.run, tmp_path / "two", SortOptions(precision=1.0))
    assert result.threshold == math.inf and result.counts == {"review": 5} and result.expected_error is None
    with pytest.raises(InputError) as caught:
        SortOptions(precision=0.9, review_below=0.5)
    assert str(caught.value) == "review_below and precision exclude each other"
    raw = write_photo_run(tmp_path / "raw", ROWS, calibrated=False)
    assert sort_photos(raw.run, tmp_path / "three").expected_error is None
    with pytest.raises(InputError) as caught:
        sort_photos(raw.run, tmp_path / "three", SortOptions(precision=0.9))
    assert str(caught.value) == (
        f"precision: the probabilities of {raw.run} are not calibrated. Adapt again with calibrate=True, or say "
        "review_below"
    )


def test_the_threshold_takes_equal_probabilities_together():
    assert precision_threshold([0.9, 0.9, 0.6, 0.6], 0.8) == 0.9  # with one 0.6 the mean is 0.8, with both 0.75
    assert precision_threshold([0.9, 0.9, 0.6, 0.6], 0.75) == 0.6
    assert precision_threshold([0.1] * 3, 0.1) == 0.1  # the sum of three is above 0.3 by rounding, of others below
    assert precision_threshold([], 0.5) == math.inf


def test_files_of_others_stay(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to = tmp_path / "sorted"
    (to / "dog").mkdir(parents=True)
    (to / "dog" / "2023_IMG_2.JPG").write_text("mine")
    result = sort_photos(made.run, to)
    assert result.changes.blocked == ["dog/2023_IMG_2.JPG"] and (to / "dog/2023_IMG_2.JPG").read_text() == "mine"
    rows = {row["path"]: row["sorted_as"] for row in csv.DictReader((to / "sorted.csv").open(newline=""))}
    assert rows["2023/IMG_2.JPG"] == "" and result.counts["dog"] == 1

    (to / "cat" / "IMG_4.JPG").unlink()
    (to / "cat" / "IMG_4.JPG").write_text("mine, too")  # in the place of a link
    made.labels.set({"IMG_4.JPG": "dog"})
    result = sort_photos(made.run, to)
    assert result.changes.left == ["cat/IMG_4.JPG"] and (to / "cat/IMG_4.JPG").read_text() == "mine, too"
    result = sort_photos(made.run, to)  # no longer in the record
    assert result.changes.left == [] and (to / "cat/IMG_4.JPG").read_text() == "mine, too" and made.unchanged()


def test_copies_are_removed_only_while_the_original_is_there(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to = tmp_path / "sorted"
    copies = SortOptions(copy=True)
    sort_photos(made.run, to)
    result = sort_photos(made.run, to, copies)  # own links become copies
    assert {**tree(to)} == dict.fromkeys(SORTED, "file") and len(result.changes.removed) == 5
    assert (to / "cat/IMG_1.HEIC").read_bytes() == made.originals["2023/IMG_1.HEIC"]
    assert sort_photos(made.run, to, copies).changes.kept == result.changes.added

    made.labels.set({"IMG_4.JPG": "dog", "2023/IMG_1.HEIC": "dog"})
    (made.photos / "IMG_4.JPG").unlink()
    result = sort_photos(made.run, to, copies)
    assert (result.missing, result.changes.left) == (("IMG_4.JPG",), ["cat/IMG_4.JPG"])
    assert (to / "cat/IMG_4.JPG").read_bytes() == made.originals["IMG_4.JPG"]  # the last copy
    assert not (to / "cat/IMG_1.HEIC").exists() and (to / "dog/IMG_1.HEIC").is_file()
    shutil.move(made.photos / "2024/IMG_3.JPG", to / "a_b/IMG_3.JPG")  # the original itself, over its copy
    made.labels.set({"2024/IMG_3.JPG": "dog"})
    sort_photos(made.run, to, copies)
    assert (to / "a_b/IMG_3.JPG").read_bytes() == made.originals["2024/IMG_3.JPG"]


def test_a_copy_that_is_the_original_now_stays(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to = tmp_path / "sorted"
    sort_photos(made.run, to, SortOptions(copy=True))
    original, copy = made.photos / "IMG_4.JPG", to / "cat" / "IMG_4.JPG"
    shutil.move(original, copy)
    original.symlink_to(copy)  # moved, and linked from where it was
    made.labels.set({"IMG_4.JPG": "dog"})
    result = sort_photos(made.run, to, SortOptions(copy=True))
    assert result.changes.left == ["cat/IMG_4.JPG"] and copy.read_bytes() == made.originals["IMG_4.JPG"]


def test_a_class_folder_that_was_moved_and_linked_is_left_alone(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to, outside = tmp_path / "sorted", tmp_path / "outside"
    sort_photos(made.run, to)
    shutil.move(to / "cat", outside)
    (to / "cat").symlink_to(outside)
    made.labels.set({"IMG_4.JPG": "dog", "2023/IMG_1.HEIC": "dog"})
    result = sort_photos(made.run, to)
    assert sorted(result.changes.left) == ["cat/IMG_1.HEIC", "cat/IMG_4.JPG"]
    assert sorted(path.name for path in outside.iterdir()) == ["IMG_1.HEIC", "IMG_4.JPG"]


def test_a_killed_sort_is_finished_by_the_next(tmp_path, monkeypatch):
    made = write_photo_run(tmp_path, ROWS)
    to, placed = tmp_path / "sorted", sorted_folder._place

    def stop_at_third(path, original, copy):
        if len(list(to.rglob("*IMG*"))) == 2:
            raise KeyboardInterrupt
        placed(path, original, copy)

    monkeypatch.setattr(sorted_folder, "_place", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        sort_photos(made.run, to)
    monkeypatch.undo()
    made.labels.set({"2023/IMG_1.HEIC": "dog"})
    result = sort_photos(made.run, to)
    assert result.changes.blocked == result.changes.left == [] and result.changes.removed == ["cat/IMG_1.HEIC"]
    assert "dog/IMG_1.HEIC" in tree(to) and len(tree(to)) == 7


def test_nothing_is_written_outside(tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    to = tmp_path / "sorted"
    outside = tmp_path / "outside"
    outside.mkdir()
    to.mkdir()
    (to / "cat").symlink_to(outside)
    with pytest.raises(InputError) as caught:
        sort_photos(made.run, to)
    assert str(caught.value) == f"{to / 'cat'} is not a folder. Move it away, or choose another place with to"
    assert list(outside.iterdir()) == [] and sorted(path.name for path in to.iterdir()) == ["cat"]
    (to / "cat").unlink()
    record = {"kind": sorted_folder.KIND, "schema": 1, "links": {"../precious": "x"}}
    (to / sorted_folder.RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"its path '\.\./precious' leaves the folder"):
        sort_photos(made.run, to)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"cannot write to .*loop"):
        sort_photos(made.run, tmp_path / "loop")
    for place, where in ((made.photos / "in", "in"), (tmp_path, "around"), (tmp_path / "shop", "in")):
        with pytest.raises(InputError, match=f"expected a folder apart from the images, got one {where}"):
            sort_photos(made.run, place)


def test_names_are_safe_and_unique():
    names = ("..", "a/b", "a\\b", "A_B", "con", "x. ", "unknown", "Review", "", "\x00\n", "é" * 200)
    folders = folder_names(names, ("review", "unknown"))
    assert [folders[name] for name in names[:10]] == [
        "__", "a_b", "a_b-2", "A_B-3", "con_", "x__", "unknown-2", "Review-2", "_", "__-2",
    ]  # fmt: skip
    assert len(folders["é" * 200].encode()) <= 180 and safe_folder_name("é" * 201) != safe_folder_name("é" * 200)
    paths = ["a/x.jpg", "b/X.jpg", "a_x.jpg", "b/y.jpg", "c/z.jpg", "d/c_z.jpg", f"{'n' * 100}/{'m' * 90}.jpg"]
    assert link_names(paths) == {
        "a/x.jpg": "a_x-2.jpg", "b/X.jpg": "b_X.jpg", "a_x.jpg": "a_x.jpg", "b/y.jpg": "y.jpg", "c/z.jpg": "z.jpg",
        "d/c_z.jpg": "c_z.jpg", f"{'n' * 100}/{'m' * 90}.jpg": f"{'m' * 90}.jpg",
    }  # fmt: skip
    long = link_names([f"{'n' * 100}/{'m' * 100}.jpg", f"{'o' * 100}/{'m' * 100}.jpg"])
    assert all(len(name) == 180 and name.endswith("m.jpg") for name in long.values()) and len({*long.values()}) == 2


def test_the_command_prints_where_photos_went(cli, tmp_path):
    made = write_photo_run(tmp_path, ROWS)
    made.labels.set({"2023/IMG_2.JPG": "cat"})
    to = tmp_path / "sorted"
    answer = cli("sort", made.run, "--to", to, "--review-below", 0.7)
    assert answer.code == 0
    assert answer.out == (
        f"{to}: 5 photos: 3 in 2 class folders, 2 in review, 0 in unknown; 1 by typed labels\n"
        "  expected error of what predictions sorted: 10.5% "
        "(probabilities calibrated on held-out labelled photos of the source)\n"
        "  of 1 labelled photos that predictions would have sorted, 1 are wrong: 100.0%, 95% interval 20.7 to 100.0\n"
    )
    assert "  links: 5 new, 0 removed, 0 kept\n" in answer.err
    assert cli("sort", made.run, "--to", to, "--review-below", 0.7, "--precision", 0.9).err == (
        "Error: --review-below and --precision exclude each other\n"
    )


def test_photos_of_no_class_go_to_unknown(tmp_path):
    rows = [("a.png", "cat", 0.9), ("b.png", "(unknown)", 0.2), ("c.png", "(unknown)", 0.95), ("d.png", "dog", 0.4)]
    made = write_photo_run(tmp_path, rows, classes=("cat", "dog", "unknown"))
    made.labels.set({"c.png": "unknown"})  # the class of this name has another folder
    result = sort_photos(made.run, tmp_path / "sorted", SortOptions(precision=0.9))
    assert set(tree(tmp_path / "sorted")) - {"sorted.csv", ".unimos-sorted.json"} == {
        "cat/a.png", "unknown/b.png", "unknown-2/c.png", "review/d.png",
    }  # fmt: skip
    assert math.isclose(result.expected_error, 0.1) and result.label_errors == (0, 0)  # of a.png alone
    rows = list(csv.DictReader((tmp_path / "sorted" / "sorted.csv").open(newline="")))
    assert [row["reason"] for row in rows] == ["prediction", "unknown", "label", "below the threshold"]
