"""`manifest update` on ten kinds of change: labels, classes, wordings and comments are kept."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.label_file import label_file
from unimos_pipe.data.match_images import match_images

TYPED = {"a/1.png": "cup", "a/2.png": "fork", "b/3.png": "(unknown)"}


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@dataclass(frozen=True)
class Photos:
    """A spec of two folders, edited by hand: ``shop`` of three classes, and ``phone`` with some labels typed."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "my.toml"

    def rows(self, domain: str) -> dict[str, str]:
        with (self.folder / f"my.{domain}.csv").open(newline="") as file:
            return {row["path"]: row["class"] for row in csv.DictReader(file)}

    def update(self, **options) -> dict[str, object]:
        result = unimos_pipe.update_dataset_spec(self.spec, **options)
        return {"result": result, **{update.domain: update for update in result.domains}}


@pytest.fixture
def photos(tmp_path) -> Photos:
    for label, name in enumerate(("bowl", "cup", "fork")):
        for number in range(3):
            save(tmp_path / "shop" / name / f"{number}.png", 10 * label + number)
    for number, folder in enumerate("aaabbb"):
        save(tmp_path / "phone" / folder / f"{number}.png", 100 + number)
    domains = [f"shop={tmp_path / 'shop'}", f"phone={tmp_path / 'phone'}:none"]
    unimos_pipe.create_dataset_spec(domains, tmp_path / "my.toml")
    text = (tmp_path / "my.toml").read_text()
    text = text.replace('  "cup",\n', '  "cup",  # mugs, too\n').replace("\nname", "\n# my note\nname")
    (tmp_path / "my.toml").write_text(text.replace("[display]", "[display]\ncup = 'coffee mug'\n#"))
    label_file(load_spec(str(tmp_path / "my.toml")), "phone").set(TYPED)
    return Photos(tmp_path)


def check_kept(photos: Photos, old_text: str, images: dict[str, int], classes: tuple[str, ...] = ()) -> None:
    """The spec differs in its counts of images and in classes at the end."""
    text = old_text
    for name, (before, after) in {"shop": (9, images["shop"]), "phone": (6, images["phone"])}.items():
        head, table = text.split(f"[domains.{name}]")
        text = f"{head}[domains.{name}]" + table.replace(f"images = {before}\n", f"images = {after}\n", 1)
    for name in classes:
        text = text.replace('  "fork",\n', f'  "fork",\n  "{name}",\n')
    assert photos.spec.read_text() == text


def test_nothing_has_changed(photos):
    before = photos.spec.read_bytes(), (photos.folder / "my.phone.csv").read_bytes()
    result = photos.update()["result"]
    assert result.backup is None and result.new_classes == result.empty_classes == ()
    assert (photos.spec.read_bytes(), (photos.folder / "my.phone.csv").read_bytes()) == before
    assert not (photos.folder / "my.backup").exists()


def test_new_images(photos):
    old = photos.spec.read_text()
    save(photos.folder / "phone" / "c" / "9.png", 200)
    save(photos.folder / "shop" / "cup" / "9.png", 201)
    shutil.copy(photos.folder / "phone" / "a" / "2.png", photos.folder / "phone" / "copy.png")  # of a labelled one
    updates = photos.update()
    assert updates["phone"].added == ("c/9.png", "copy.png") and updates["shop"].added == ("cup/9.png",)
    assert photos.rows("phone") == {**dict.fromkeys(("a/0.png",), ""), **TYPED, "b/4.png": "", "b/5.png": "",
                                    "c/9.png": "", "copy.png": "fork"}  # fmt: skip
    assert list(photos.rows("phone"))[-2:] == ["c/9.png", "copy.png"] and photos.rows("shop")["cup/9.png"] == "cup"
    check_kept(photos, old, {"shop": 10, "phone": 8})
    backup = updates["result"].backup
    assert (backup / "my.toml").read_text() == old and (backup / "my.phone.csv").is_file()


def test_moved_images(photos):
    (photos.folder / "phone" / "2024").mkdir()
    (photos.folder / "phone" / "a" / "1.png").rename(photos.folder / "phone" / "2024" / "holiday.png")
    updates = photos.update()
    assert updates["phone"].moved == (("a/1.png", "2024/holiday.png"),)
    assert updates["phone"].added == updates["phone"].removed == ()
    assert photos.rows("phone")["2024/holiday.png"] == "cup" and "a/1.png" not in photos.rows("phone")
    assert updates["phone"].labelled == 3


def test_a_renamed_folder(photos):
    (photos.folder / "phone" / "a").rename(photos.folder / "phone" / "May")
    (photos.folder / "shop" / "cup").rename(photos.folder / "shop" / "Tasse")
    updates = photos.update()
    assert len(updates["phone"].moved) == len(updates["shop"].moved) == 3
    assert {path.replace("May/", "a/"): label for path, label in photos.rows("phone").items() if label} == TYPED
    assert set(photos.rows("shop").values()) == {"bowl", "cup", "fork"} and photos.rows("shop")["Tasse/0.png"] == "cup"
    assert updates["result"].new_classes == updates["result"].empty_classes == ()
    save(photos.folder / "shop" / "Tasse" / "8.png", 300)  # a later one, too, is of the class
    photos.update()
    assert photos.rows("shop")["Tasse/8.png"] == "cup"


def test_deleted_images(photos):
    old = photos.spec.read_text()
    (photos.folder / "phone" / "a" / "1.png").unlink()
    (photos.folder / "phone" / "b" / "4.png").unlink()
    updates = photos.update()
    assert [(row.path, row.label) for row in updates["phone"].removed] == [("a/1.png", "cup"), ("b/4.png", "")]
    assert list(photos.rows("phone")) == ["a/0.png", "a/2.png", "b/3.png", "b/5.png"]
    check_kept(photos, old, {"shop": 9, "phone": 4})
    assert b"a/1.png,cup" in (updates["result"].backup / "my.phone.csv").read_bytes()
    save(photos.folder / "phone" / "back.png", 101)  # the labelled one, from a backup
    photos.update()
    assert photos.rows("phone")["back.png"] == "cup"


def test_edited_labels_and_other_columns(photos):
    table = photos.folder / "my.phone.csv"
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    notes = [[*row, "note" if number == 0 else f"remark {number}"] for number, row in enumerate(rows)]
    notes[1][1] = "bowl"
    table.write_text("\n".join(";".join(row) for row in notes) + "\n")
    (photos.folder / "phone" / "b" / "5.png").rename(photos.folder / "phone" / "5.png")
    photos.update()
    assert table.read_text().splitlines() == [
        "path;class;note",
        "a/0.png;bowl;remark 1",
        "a/1.png;cup;remark 2",
        "a/2.png;fork;remark 3",
        "b/3.png;(unknown);remark 4",
        "b/4.png;;remark 5",
        "5.png;;remark 6",
    ]


def test_a_new_class(photos):
    old = photos.spec.read_text()
    save(photos.folder / "shop" / "apron" / "0.png", 400)
    (photos.folder / "shop" / "cup" / "0.png").rename(photos.folder / "shop" / "apron" / "1.png")
    updates = photos.update()
    assert updates["result"].new_classes == ("apron",)
    assert updates["shop"].relabelled == (("apron/1.png", "cup", "apron"),)
    check_kept(photos, old, {"shop": 10, "phone": 6}, ("apron",))
    assert load_spec(str(photos.spec)).classes == ("bowl", "cup", "fork", "apron")


def test_merged_classes(photos):
    for number in range(3):
        source = photos.folder / "shop" / "fork" / f"{number}.png"
        source.rename(photos.folder / "shop" / "cup" / f"fork {number}.png")
    with pytest.raises(InputError) as caught:  # the folder is empty, and yet it is a known class
        unimos_pipe.create_dataset_spec([f"shop={photos.folder / 'shop'}"], photos.folder / "other.toml")
    assert str(caught.value) == (
        f"domain shop: {photos.folder}/shop holds folders that may be no classes: fork (0 images). Say of each whether "
        "it is a class, with keep_folders='NAME', or is left out, with skip_folders='NAME'"
    )
    updates = photos.update()
    assert sorted(updates["shop"].relabelled)[0] == ("cup/fork 0.png", "fork", "cup")
    assert updates["result"].empty_classes == () and TYPED["a/2.png"] == "fork"  # the phone still has one
    assert load_spec(str(photos.spec)).classes == ("bowl", "cup", "fork")
    label_file(load_spec(str(photos.spec)), "phone").set({"a/2.png": "cup"})
    assert photos.update()["result"].empty_classes == ("fork",)


def test_swapped_folders(photos):
    phone, shop = photos.folder / "phone", photos.folder / "shop"
    for base, names in ((phone, ("a", "b")), (shop, ("cup", "bowl"))):
        (base / names[0]).rename(base / "x")
        (base / names[1]).rename(base / names[0])
        (base / "x").rename(base / names[1])
    updates = photos.update()
    assert {path: label for path, label in photos.rows("phone").items() if label} == {
        "b/1.png": "cup",
        "b/2.png": "fork",
        "a/3.png": "(unknown)",
    }
    assert len(updates["shop"].relabelled) == 6  # the folder names the class: they follow
    assert all(path.partition("/")[0] == label for path, label in photos.rows("shop").items())
    assert updates["result"].new_classes == updates["result"].empty_classes == ()


def test_a_changed_file(photos):
    save(photos.folder / "phone" / "a" / "1.png", 500)
    updates = photos.update()
    assert updates["phone"].changed == ("a/1.png",) and photos.rows("phone")["a/1.png"] == "cup"
    assert photos.update()["result"].backup is None


def encoded(photos: Photos) -> dict[str, tuple[int, int]]:
    """Numbers of encoded and of reused images by domain."""
    features = unimos_pipe.feature_set(str(photos.spec), encoder="tiny", cache=photos.folder / "cache")
    result = unimos_pipe.extract_features(features, options=unimos_pipe.ExtractOptions(workers=0))
    return {report.domain: (report.encoded, report.reused) for report in result.reports}


def test_all_at_once_and_only_new_contents_are_encoded(photos):
    phone, shop = photos.folder / "phone", photos.folder / "shop"
    assert encoded(photos) == {"shop": (9, 0), "phone": (6, 0)}
    save(phone / "c" / "9.png", 600)  # new
    (phone / "a" / "1.png").rename(phone / "1.png")  # moved
    (phone / "b").rename(phone / "June")  # a renamed folder
    (phone / "a" / "0.png").unlink()  # deleted
    save(phone / "a" / "2.png", 601)  # changed
    save(shop / "apron" / "0.png", 602)  # a new class
    for number in range(3):  # merged classes
        (shop / "fork" / f"{number}.png").rename(shop / "bowl" / f"f{number}.png")
    updates = photos.update()
    assert photos.rows("phone") == {
        "1.png": "cup",
        "a/2.png": "fork",
        "June/3.png": "(unknown)",
        "June/4.png": "",
        "June/5.png": "",
        "c/9.png": "",
    }
    phone_update = updates["phone"]
    assert (phone_update.added, phone_update.changed, len(phone_update.moved)) == (("c/9.png",), ("a/2.png",), 4)
    assert [row.path for row in phone_update.removed] == ["a/0.png"]
    assert load_spec(str(photos.spec)).classes == ("bowl", "cup", "fork", "apron")
    assert "# my note" in photos.spec.read_text() and "# mugs, too" in photos.spec.read_text()
    assert encoded(photos) == {"shop": (1, 9), "phone": (2, 4)}
    assert encoded(photos) == {"shop": (0, 10), "phone": (0, 6)}


def test_a_new_scan_does_not_write_over_edits(photos, cli):
    before = photos.spec.read_bytes(), (photos.folder / "my.phone.csv").read_bytes()
    words = (
        "manifest", "scan", f"--domain=shop={photos.folder / 'shop'}", f"--domain=phone={photos.folder / 'phone'}:none",
        "-o", photos.spec, "--force",
    )  # fmt: skip
    answer = cli(*words)
    assert (answer.code, answer.err) == (
        2,
        f"Error: {photos.spec}, {photos.folder}/my.phone.csv has been edited since it was written, or is not of this "
        "data set; a new scan would lose that. Take in new, moved and deleted images with: unimos-pipe manifest "
        f"update {photos.spec}\n",
    )
    save(photos.folder / "shop" / "misc" / "0.png", 700)
    answer = cli("manifest", "update", photos.spec)
    assert (
        answer.code == 2
        and "no classes: misc (1 images). Say of each whether it is a class, with --keep-folder" in (answer.err)
    )
    assert (photos.spec.read_bytes(), (photos.folder / "my.phone.csv").read_bytes()) == before
    (photos.folder / "phone" / "a" / "1.png").rename(photos.folder / "phone" / "1.png")
    answer = cli("manifest", "update", photos.spec, "--skip-folder", "misc")
    assert answer.code == 0 and answer.out == (
        "shop: no change; 9 images, 9 with a label\n"
        "phone: 1 moved; 6 images, 3 with a label\n"
        "  moved: a/1.png -> 1.png\n"
    )
    assert cli("manifest", "update", photos.spec).out.endswith(f"{photos.spec}: nothing has changed\n")  # misc, too
    again = cli(*words, "--skip-folder", "misc")
    assert f"{photos.spec}, {photos.folder}/my.phone.csv has been edited" in again.err  # what is edited stays so


def test_labels_that_are_no_classes_and_a_folder_that_is_away(photos):
    table = photos.folder / "my.phone.csv"
    text = table.read_text()
    table.write_text(text.replace(",fork", ",frok"))
    with pytest.raises(InputError, match=r"labels that are no classes of my: frok; did you mean fork\? known: bowl,"):
        photos.update()
    table.write_text(text)
    (photos.folder / "phone").rename(photos.folder / "away")
    with pytest.raises(InputError, match=r"domain phone of my: no folder .*phone; correct its root in the spec$"):
        photos.update()
    (photos.folder / "phone").mkdir()
    with pytest.raises(InputError, match=r"^domain phone of my: no images in .*; the files are left as they are$"):
        photos.update()
    assert not (photos.folder / "my.backup").exists()


def test_without_a_record_a_file_name_that_occurs_once_tells(photos):
    (photos.folder / "my.scan.json").unlink()
    (photos.folder / "phone" / "a").rename(photos.folder / "phone" / "May")
    photos.update()
    assert photos.rows("phone")["May/1.png"] == "cup"


def test_matches_are_one_to_one():
    old = {"a/1": b"x", "b/1": b"x", "c": b"y", "d": None, "e": b"z"}
    new = {"n/1": b"x", "m/1": b"x", "k/1": b"x", "f/d": b"w", "e": b"new"}
    matches = match_images(old, new)
    assert matches.old_path == {"n/1": "a/1", "m/1": "b/1", "f/d": "d", "e": "e"}
    assert (matches.changed, matches.added, matches.removed) == (("e",), ("k/1",), ("c",))
