"""The label file: reading, setting and undoing labels; all other bytes stay."""

import multiprocessing

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import check_spec
from unimos_pipe.data.label_file import LabelFile, label_file

CLASSES = ("cat", "dog", "-emu")


def write(tmp_path, content: bytes) -> LabelFile:
    file = tmp_path / "my.phone.csv"
    file.write_bytes(content)
    return LabelFile(file, CLASSES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            b'path,class\r\na.jpg,\r\n"c.jpg",cat\r\nb.jpg,cat\r\n',
            b'path,class\r\na.jpg,dog\r\n"c.jpg",cat\r\nb.jpg,\r\n',
        ),
        (
            b'\xef\xbb\xbfnote;class;file\n"two\nlines; a";;a.jpg\n\n"x";cat;b.jpg',
            b'\xef\xbb\xbfnote;class;file\n"two\nlines; a";dog;a.jpg\n\nx;;b.jpg',
        ),
        (b"path\na.jpg\nc d.jpg\nb.jpg\n", b"path,class\na.jpg,dog\nc d.jpg,\nb.jpg,\n"),
        (b"a.jpg\nb.jpg,cat\n", b"a.jpg,dog\nb.jpg,\n"),
        (b"path\tclass\n\xc3\xbc.jpg\tcat\na.jpg\nb.jpg\tcat\n".replace(b"a.jpg\n", b"a.jpg\t\n"), None),
    ],
    ids=["crlf", "bom, other columns, no last line end", "no column of classes", "no head", "tabs"],
)
def test_only_the_cells_that_change_differ(tmp_path, before, after):
    labels = write(tmp_path, before)
    old = labels.set({"a.jpg": "dog", "b.jpg": ""})
    assert old["a.jpg"] == ""
    read = labels.read()
    assert (read["a.jpg"], read["b.jpg"]) == ("dog", "")
    if after is not None:
        assert labels.path.read_bytes() == after
    labels.set(old)
    assert labels.read() == {**read, **old}


def test_a_name_like_a_formula_is_escaped_and_a_link_stays(tmp_path):
    labels = write(tmp_path, b"path,class\na.jpg,\n")
    link = tmp_path / "link.csv"
    link.symlink_to(labels.path)
    assert LabelFile(link, CLASSES).set({"a.jpg": "-emu"}) == {"a.jpg": ""}
    assert labels.path.read_bytes() == b"path,class\na.jpg,'-emu\n"
    assert labels.read() == {"a.jpg": "-emu"}
    assert link.is_symlink()
    labels.set({"a.jpg": "(unknown)"})
    assert labels.read() == {"a.jpg": "(unknown)"}


def test_wrong_classes_and_paths_change_nothing(tmp_path):
    labels = write(tmp_path, b"path,class\na.jpg,cat\n")
    with pytest.raises(InputError, match=r"^no class 'dgo'; did you mean dog\? known: cat, dog, -emu$"):
        labels.set({"a.jpg": "dgo"})
    with pytest.raises(InputError, match=r"my\.phone\.csv does not list 'b\.jpg'$"):
        labels.set({"a.jpg": "dog", "b.jpg": "dog"})
    assert labels.path.read_bytes() == b"path,class\na.jpg,cat\n"


def test_absolute_paths_are_those_of_the_manifest(tmp_path):
    labels = LabelFile(tmp_path / "l.csv", CLASSES, tmp_path / "images")
    labels.path.write_text(f"path,class\n{tmp_path}/images/x/a.jpg,\n./-b.jpg,cat\n")
    assert labels.read() == {"x/a.jpg": "", "-b.jpg": "cat"}
    labels.set({"x/a.jpg": "dog", "-b.jpg": ""})
    assert labels.path.read_text() == f"path,class\n{tmp_path}/images/x/a.jpg,dog\n./-b.jpg,\n"


def _label(labels: LabelFile, paths: list[str]) -> None:
    for path in paths:
        labels.set({path: "cat"})


def test_two_processes_lose_no_label(tmp_path):
    paths = [f"{number}.jpg" for number in range(20)]
    labels = write(tmp_path, ("path,class\n" + "".join(f"{path},\n" for path in paths)).encode())
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_label, args=(labels, paths[part::2])) for part in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert labels.read() == dict.fromkeys(paths, "cat")


def test_the_file_of_a_domain(tmp_path):
    values = {
        "name": "my",
        "classes": CLASSES,
        "domains": {"shop": {"root": "shop"}, "phone": {"root": "DCIM", "manifest": "my.phone.csv"}},
    }
    spec = check_spec(values, tmp_path / "my.toml")
    assert label_file(spec, "phone") == LabelFile(tmp_path / "my.phone.csv", CLASSES, tmp_path / "DCIM")
    with pytest.raises(InputError, match=r"^domain shop of my has no CSV of labels: expected a line such as manifest"):
        label_file(spec, "shop")
    with pytest.raises(InputError, match=r"class '\(unknown\)': this name stands for images of none of the classes"):
        check_spec(values | {"classes": ("cat", "(unknown)")}, tmp_path / "my.toml")


def test_rows_move_to_the_beginning_with_their_cells(tmp_path):
    labels = LabelFile(tmp_path / "l.csv", CLASSES)
    labels.path.write_bytes(b'\xef\xbb\xbfpath;class;note\r\na.jpg;;x\r\n\r\nb.jpg;dog;"two\r\nlines"\r\nc.jpg;cat;')
    labels.move_first(["c.jpg", "b.jpg"])
    moved = b'\xef\xbb\xbfpath;class;note\r\nc.jpg;cat;\r\nb.jpg;dog;"two\r\nlines"\r\na.jpg;;x\r\n\r\n'
    assert labels.path.read_bytes() == moved
    labels.path.write_bytes(b"a.jpg,cat\nb.jpg,\n")  # no head
    labels.move_first(["b.jpg", "b.jpg"])
    assert labels.path.read_bytes() == b"b.jpg,\na.jpg,cat\n"
    with pytest.raises(InputError) as error:
        labels.move_first(["z.jpg"])
    assert str(error.value) == f"{labels.path} does not list 'z.jpg'"
