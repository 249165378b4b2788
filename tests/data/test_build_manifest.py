"""From folders and lists on disk to rows: layouts, links, names, missing files, counts."""

import os

import numpy as np
import pytest
from PIL import Image

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.build_manifest import build_manifest, count_warning, find_domain_folder, find_root
from unimos_pipe.data.dataset_spec import check_spec, load_spec
from unimos_pipe.data.find_images import find_images


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def spec_of(tmp_path, **domains):
    return check_spec({"name": "toy", "classes": ["dog", "cat"], "domains": domains}, tmp_path / "toy.toml")


@pytest.mark.parametrize("folder", ["Real World", "RealWorld", "Real_World", "real_world"])
@pytest.mark.parametrize("above", ["", "OfficeHomeDataset_10072016/"])
def test_known_names_of_a_folder_are_found(tmp_path, folder, above):
    image(tmp_path / above / folder / "Drill" / "1.jpg")
    spec = load_spec("office_home")
    manifest = build_manifest(spec, "real_world", tmp_path)
    assert manifest.root == tmp_path / above / folder
    assert manifest.paths == ("Drill/1.jpg",)
    assert manifest.labels.tolist() == [0]


def test_no_data_root_prints_the_layout(tmp_path):
    with pytest.raises(InputError) as caught:
        find_root(load_spec("office_home"), None, tmp_path)
    assert str(caught.value) == (
        "the images of office_home are missing: expected a folder ROOT that holds Art, Clipart, Product, Real World; "
        "images such as ROOT/Art/Drill/<image>, got no folder and no UNIMOS_DATA_ROOT. Get them from "
        "https://www.hemanthdv.org/officeHomeDataset.html and pass root, or set UNIMOS_DATA_ROOT"
    )


def test_a_wrong_data_root_says_what_is_there(tmp_path):
    (tmp_path / "Photos").mkdir()
    (tmp_path / "train.txt").touch()
    with pytest.raises(InputError) as caught:
        find_domain_folder(load_spec("visda2017"), "real", tmp_path)
    assert str(caught.value) == (
        f"domain real of visda2017 is not in {tmp_path}: expected a folder ROOT that holds train/image_list.txt, "
        "validation/image_list.txt; images such as ROOT/train/aeroplane/<image>, got in "
        f"{tmp_path}: Photos, train.txt. Pass the right root"
    )


def test_classes_bind_by_name_whatever_the_order_on_disk(tmp_path):
    for name in ("cat/1.png", "dog/deep/er/1.png", "dog/2.PNG", "dog/.hidden.png", ".thumbs/3.png", "dog/notes.txt"):
        path = tmp_path / "photo" / name
        image(path) if path.suffix.lower() == ".png" else path.touch()
    manifest = build_manifest(spec_of(tmp_path, photo={}), "photo", tmp_path)
    assert manifest.paths == ("cat/1.png", "dog/2.PNG", "dog/deep/er/1.png")
    assert manifest.labels.tolist() == [1, 0, 0]
    assert manifest.sizes.tolist() == [(tmp_path / "photo" / path).stat().st_size for path in manifest.paths]


def test_a_class_folder_that_the_spec_lacks_is_refused(tmp_path):
    image(tmp_path / "photo" / "cow" / "1.png")
    with pytest.raises(InputError) as caught:
        build_manifest(spec_of(tmp_path, photo={}), "photo", tmp_path)
    assert str(caught.value) == (
        f"the class folders in {tmp_path / 'photo'} do not fit toy: unknown cow; without a folder: dog, cat. Correct "
        "the folders or the spec's class list"
    )


def test_loose_images_are_told(tmp_path):
    image(tmp_path / "photo" / "cat" / "1.png")
    image(tmp_path / "photo" / "loose.png")
    manifest = build_manifest(spec_of(tmp_path, photo={}), "photo", tmp_path)
    assert manifest.notes == (f"{tmp_path / 'photo'}: 1 image(s) outside the class folders are ignored: loose.png",)


def test_rows_of_a_csv_keep_their_binding_when_shuffled(tmp_path):
    rows = [(f"{name}/{index}.png", name) for name in ("cat", "dog") for index in range(4)]
    for path, _ in rows:
        image(tmp_path / "photo" / path)
    bound = []
    for order in (range(8), np.random.default_rng(0).permutation(8)):
        lines = [",".join(rows[index]) for index in order]
        (tmp_path / "toy.csv").write_text("path,class\n" + "\n".join(lines) + "\n")
        spec = spec_of(tmp_path, photo={"manifest": "toy.csv"})
        manifest = build_manifest(spec, "photo", tmp_path)
        assert manifest.paths == tuple(rows[index][0] for index in order)
        bound.append(dict(zip(manifest.paths, (spec.classes[label] for label in manifest.labels), strict=True)))
    assert bound[0] == bound[1] == dict(rows)


def test_splits_are_parts_of_their_own(tmp_path):
    for name in ("dog/1.png", "cat/2.png", "cat/3.png"):
        image(tmp_path / "real" / name)
    (tmp_path / "real_train.txt").write_text("real/cat/2.png 1\nreal/dog/1.png 0\n")
    (tmp_path / "real_test.txt").write_text("real/cat/3.png 1\n")
    spec = spec_of(tmp_path, real={"folder": ["."], "train": ["real_train.txt"], "test": ["real_test.txt"]})
    train, test = (build_manifest(spec, part, tmp_path) for part in spec.parts("real"))
    assert (train.domain, train.paths, train.labels.tolist()) == (
        "real.train",
        ("real/cat/2.png", "real/dog/1.png"),
        [1, 0],
    )
    assert (test.domain, test.paths, test.labels.tolist()) == ("real.test", ("real/cat/3.png",), [1])
    known = {"train_images": 2, "test_images": 4, "per_class": {"cat": 3, "dog": 1}}  # classes of both parts together
    lists = {"folder": ["."], "train": ["real_train.txt"], "test": ["real_test.txt"]}
    counted = spec_of(tmp_path, real=lists | known)
    assert count_warning(counted, train) is None
    assert count_warning(counted, test).startswith("toy/real.test: 1 images, 3 fewer than the expected 4; ")


def test_a_part_must_exist(tmp_path):
    with pytest.raises(InputError) as caught:
        build_manifest(load_spec("domainnet"), "clipart", tmp_path)
    assert str(caught.value) == (
        "domainnet has no part 'clipart'; did you mean clipart.test? known: clipart.train, clipart.test"
    )


def test_missing_files_are_counted_and_named(tmp_path):
    image(tmp_path / "photo" / "1.png")
    (tmp_path / "toy.csv").write_text("path,class\n1.png,cat\n2.png,dog\n")
    with pytest.raises(InputError) as caught:
        build_manifest(spec_of(tmp_path, photo={"manifest": "toy.csv"}), "photo", tmp_path)
    assert str(caught.value) == (
        f"1 of 2 images of photo are missing, broken links, or no files, in {tmp_path / 'photo'}: 2.png. "
        "Restore them, or take them out of the list"
    )


def test_links_in_circles(tmp_path):
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "elsewhere.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "deeper").mkdir()
    (tmp_path / "a" / "deeper" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    found = find_images(tmp_path / "a")
    assert found.paths == ("1.png", "deeper/up/elsewhere.png", "linked.png")
    assert found.skipped == {("folder that links to itself", ""): 2}
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    assert build_manifest(spec_of(tmp_path, a={"labels": "none"}), "a", tmp_path).notes == (
        f"{tmp_path / 'a'}: 3 left out: broken link 1 (.png 1), folder that links to itself 2",
    )


def test_names_with_spaces_and_other_scripts(tmp_path):
    names = ["mein Bild (1).png", "été.png", "猫.png"]
    for name in names:
        image(tmp_path / "photo" / name)
    manifest = build_manifest(spec_of(tmp_path, photo={"labels": "none"}), "photo", tmp_path)
    assert sorted(manifest.paths) == sorted(names)
    assert manifest.labels.tolist() == [-1, -1, -1]


def test_names_that_are_not_utf8_are_named(tmp_path):
    image(tmp_path / "photo" / "1.png")
    (tmp_path / "photo" / "1.png").rename(tmp_path / "photo" / os.fsdecode(b"\xe9t\xe9.png"))
    with pytest.raises(InputError) as caught:
        build_manifest(spec_of(tmp_path, photo={"labels": "none"}), "photo", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'photo'}: file names that are not UTF-8: b'\\xe9t\\xe9.png'; rename them"
    )


def test_counts_say_by_how_much_and_per_class(tmp_path):
    for name in ("dog/1.png", "dog/2.png", "cat/1.png"):
        image(tmp_path / "photo" / name)
    known = {"images": 5, "per_class": {"dog": 2, "cat": 3}}
    for entry, warning in (
        (known, "toy/photo: 3 images, 2 fewer than the expected 5; per class: cat 1 of 3"),
        ({"images": 2}, "toy/photo: 3 images, 1 more than the expected 2; per class: 1 (cat) to 2 (dog); empty: none"),
        ({"images": 3}, None),
        ({}, None),
    ):
        spec = spec_of(tmp_path, photo=entry)
        manifest = build_manifest(spec, "photo", tmp_path)
        assert count_warning(spec, manifest) == warning
