"""List files and CSV manifests: rows, bindings, and every line that is refused."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import InputError
from unimos_pipe.data.label_ids import labels_from_names, labels_from_numbers
from unimos_pipe.data.row_lists import (
    ManifestRow,
    csv_text,
    path_form_hint,
    read_csv,
    read_list,
)

CLASSES = ("cat", "dog", "emu")


def test_a_list_may_have_spaces_and_empty_lines(tmp_path):
    file = tmp_path / "l.txt"
    file.write_text("clipart/cat/a b.jpg 0\n\nclipart/dog/ü.jpg\t1\n", encoding="utf-8")
    assert read_list(file) == [ManifestRow("clipart/cat/a b.jpg", "0"), ManifestRow("clipart/dog/ü.jpg", "1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat/1.jpg\n", "line 1: expected '<path> <label>', got 'cat/1.jpg'"),
        ("cat/1.jpg x\n", "line 1: expected '<path> <label>', got 'cat/1.jpg x'"),
        ("../up.jpg 0\n", "'../up.jpg' leaves the images' folder"),
        ("/etc/x.jpg 0\n", "'/etc/x.jpg' leaves the images' folder"),
        ("cat/../../x.jpg 0\n", "'cat/../../x.jpg' leaves the images' folder"),
        ("cat/1.jpg 0\ncat//1.jpg 0\n", "'cat//1.jpg' is listed twice"),
    ],
)
def test_lines_that_are_refused(tmp_path, text, message):
    file = tmp_path / "l.txt"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_list(file)
    assert str(caught.value) == f"list file {file}: {message}"


def test_a_list_that_is_not_utf8_names_the_line(tmp_path):
    file = tmp_path / "l.txt"
    file.write_bytes(b"a/1.jpg 0\nb\xff/2.jpg 1\n")
    with pytest.raises(InputError, match=r"l\.txt: line 2 is not UTF-8"):
        read_list(file)


@pytest.mark.parametrize(
    "text",
    [
        "path,class\na.jpg,cat\nb.jpg,\n",
        "\ufeffclass;file\ncat;a.jpg\n;b.jpg\n",
        "a.jpg\tcat\nb.jpg\t\n",
        'a.jpg,"cat"\nb.jpg\n',
    ],
)
def test_a_csv_in_any_usual_form(tmp_path, text):
    file = tmp_path / "l.csv"
    file.write_text(text, encoding="utf-8")
    assert read_csv(file) == [ManifestRow("a.jpg", "cat"), ManifestRow("b.jpg", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "img,class\na.jpg,cat\n",
            "line 1: no column of paths: expected one named path, file, filename, file_name, image, image_path, got "
            "the columns 'img', 'class'",
        ),
        (
            "path;kind\na.jpg;cat\n",
            "line 1: no column of classes: expected one named class, label, category, class_name, got the columns "
            "'path', 'kind'. Without labels, keep the column of paths alone",
        ),
        (
            "picture,kind\na.jpg,cat\n",
            "line 1: no column of paths: expected one named path, file, filename, file_name, image, image_path, got "
            "the columns 'picture', 'kind'",
        ),
        (
            "filepath,class\na.jpg,cat\n",
            "line 1: no column of paths: expected one named path, file, filename, file_name, image, image_path, got "
            "the columns 'filepath', 'class'. Rename the column 'filepath' to 'path'",
        ),
        ("sep=;\npath;class\na.jpg;cat\n", "line 1 is 'sep=;', a note for Excel. Delete this line"),
        ("path,class,Class\na.jpg,cat,dog\n", "line 1: columns named twice: class"),
        ("path,class\na,b.jpg,cat\n", "line 2: expected 2 cells, got 3: ['a', 'b.jpg', 'cat']"),
        ("path,class\na.jpg,cat\n,dog\n", "line 3: no path"),
        ("path,class\na.jpg;cat\nb.jpg,dog\n", "line 2: expected 2 cells, got 1: ['a.jpg;cat']"),
        ('path,class\n"a.jpg,cat\nb.jpg,dog\n', "line 3: unexpected end of data"),
        (f"path,class\n{'a' * 200_000},cat\n", "line 2: field larger than field limit (131072)"),
        ("path,class\na\0.jpg,cat\n", "'a\\x00.jpg' is no path"),
        ("path,class\n.,cat\n", "'.' is no path"),
    ],
)
def test_a_csv_whose_form_is_wrong(tmp_path, text, message):
    file = tmp_path / "l.csv"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_csv(file)
    assert str(caught.value) == f"list file {file}: {message}"


def test_a_csv_in_utf16_is_named(tmp_path):
    (tmp_path / "l.csv").write_text("path,class\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"l\.csv: is UTF-16; save it as UTF-8"):
        read_csv(tmp_path / "l.csv")


def test_a_csv_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "l.csv")
    for read in (read_csv, read_list):
        with pytest.raises(InputError, match=r"l\.csv: cannot be read: a named pipe, not a regular file"):
            read(tmp_path / "l.csv")


def test_more_columns_and_fewer_cells(tmp_path):
    (tmp_path / "l.csv").write_text("width,label,path\n3,cat,a;b.jpg\n4,,b.jpg,\n\n , ,\n")
    assert read_csv(tmp_path / "l.csv") == [ManifestRow("a;b.jpg", "cat"), ManifestRow("b.jpg", "")]


name = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(name, name), min_size=1, max_size=5, unique_by=lambda row: row[0]))
@example(rows=[(f"a{sep}b", f"c{sep}d") for sep in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029,;\t\"'=+-@"])
@example(rows=[("path", "class"), ("=1", "-x"), ("'", "''=")])
def test_what_scan_writes_is_read_back(rows, tmp_path_factory):
    """Any name a file or folder may have, separators of lines and cells too."""
    rows = [ManifestRow(path, label) for path, label in rows if path.strip() and path not in (".", "..")]
    file = tmp_path_factory.getbasetemp() / "round.csv"
    write_text(file, csv_text(rows))
    assert read_csv(file) == rows


def test_absolute_paths_in_the_images_folder_are_relative_to_it(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to("images")
    (tmp_path / "l.csv").write_text(f"path,class\n{images}/a.jpg,cat\nb.jpg,cat\n")
    (tmp_path / "l.txt").write_text(f"{images}/a b.jpg 0\n")
    for folder in (images, tmp_path / "link"):
        assert [row.path for row in read_csv(tmp_path / "l.csv", folder)] == ["a.jpg", "b.jpg"]
        assert [row.path for row in read_list(tmp_path / "l.txt", folder)] == ["a b.jpg"]
    with pytest.raises(InputError, match="leaves the images' folder"):
        read_csv(tmp_path / "l.csv", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("cat\\a.jpg", "Separate folders by /: cat/a.jpg"),
        ("photo/cat/a.jpg", "The paths are relative to {folder}: take 'photo/' off, as in cat/a.jpg"),
        ("photo\\cat\\a.jpg", "The paths are relative to {folder}: take 'photo/' off, as in cat/a.jpg"),
        ("cat/b.jpg", None),
        ("b.jpg", None),
    ],
)
def test_paths_of_another_form_get_the_right_one_shown(path, hint, tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").touch()
    assert path_form_hint([path], tmp_path) == (hint and hint.format(folder=tmp_path))


def test_a_csv_cannot_leave_its_folder(tmp_path):
    file = tmp_path / "l.csv"
    file.write_text("path,class\n../secret.jpg,cat\n")
    with pytest.raises(InputError) as caught:
        read_csv(file)
    assert str(caught.value) == f"list file {file}: '../secret.jpg' leaves the images' folder"


def test_names_bind_whatever_the_list_numbers(tmp_path):
    rows = [ManifestRow("real/dog/1.jpg", "0"), ManifestRow("real/cat/2.jpg", "1"), ManifestRow("real/dog/3.jpg", "0")]
    labels, notes = labels_from_numbers(tmp_path / "l.txt", rows, CLASSES)
    assert labels == [1, 0, 1]
    assert notes == [f"{tmp_path / 'l.txt'}: numbers 2 classes differently from the spec (cat, dog); bound by name"]
    assert labels_from_numbers(tmp_path, rows[::-1], CLASSES)[0] == [1, 0, 1][::-1]  # shuffled by rows


def test_ids_bind_where_paths_show_no_class(tmp_path):
    assert labels_from_numbers(tmp_path, [ManifestRow("flat/1.jpg", "2"), ManifestRow("flat/2.jpg", "0")], CLASSES) == (
        [2, 0],
        [],
    )
    with pytest.raises(InputError, match="labels: expected 0 to 2, got 3, 9"):
        labels_from_numbers(tmp_path, [ManifestRow("flat/1.jpg", "9"), ManifestRow("flat/2.jpg", "3")], CLASSES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [ManifestRow("cat/1.jpg", "0"), ManifestRow("yak/2.jpg", "1")],
            "classes that are not in the spec: yak; spec classes not in",
        ),
        (
            [ManifestRow("yak/1.jpg", "0"), ManifestRow("gnu/2.jpg", "1")],
            "classes that are not in the spec: gnu, yak; spec classes not in",
        ),
        (
            [ManifestRow("cat/1.jpg", "0"), ManifestRow("dog/2.jpg", "0")],
            "labels and class folders contradict each other: expected one",
        ),
        (
            [ManifestRow("cat/1.jpg", "0"), ManifestRow("cat/2.jpg", "1")],
            "labels and class folders contradict each other: expected one",
        ),
    ],
)
def test_bindings_that_are_refused(tmp_path, rows, message):
    with pytest.raises(InputError) as caught:
        labels_from_numbers(tmp_path / "l.txt", rows, CLASSES)
    assert message in str(caught.value)


def test_csv_classes_must_have_a_prompt(tmp_path):
    rows = [ManifestRow("1.jpg", "emu"), ManifestRow("2.jpg", ""), ManifestRow("3.jpg", "cat")]
    assert labels_from_names(tmp_path, rows, CLASSES, -1) == ([2, -1, 0], [])
    with pytest.raises(InputError, match="classes that are not in the spec, so that no prompt names them: yak"):
        labels_from_names(tmp_path, [ManifestRow("1.jpg", "yak")], CLASSES, -1)
