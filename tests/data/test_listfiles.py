"""List files and CSV manifests: rows, bindings, and every line that is refused."""

import pytest

from unimos_pipe.base.errors import UserError
from unimos_pipe.data.listfiles import ListedRow, bind, bind_names, read_csv, read_list

CLASSES = ("cat", "dog", "emu")


def test_a_list_may_have_spaces_and_empty_lines(tmp_path):
    file = tmp_path / "l.txt"
    file.write_text("clipart/cat/a b.jpg 0\n\nclipart/dog/ü.jpg\t1\n", encoding="utf-8")
    assert read_list(file) == [ListedRow("clipart/cat/a b.jpg", "0"), ListedRow("clipart/dog/ü.jpg", "1")]


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
    with pytest.raises(UserError) as caught:
        read_list(file)
    assert str(caught.value) == f"list file {file}: {message}"


def test_a_list_that_is_not_utf8_names_the_line(tmp_path):
    file = tmp_path / "l.txt"
    file.write_bytes(b"a/1.jpg 0\nb\xff/2.jpg 1\n")
    with pytest.raises(UserError, match=r"l\.txt: line 2 is not UTF-8"):
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
    assert read_csv(file) == [ListedRow("a.jpg", "cat"), ListedRow("b.jpg", "")]


def test_a_csv_cannot_leave_its_folder(tmp_path):
    file = tmp_path / "l.csv"
    file.write_text("path,class\n../secret.jpg,cat\n")
    with pytest.raises(UserError) as caught:
        read_csv(file)
    assert str(caught.value) == f"list file {file}: '../secret.jpg' leaves the images' folder"


def test_names_bind_whatever_the_list_numbers(tmp_path):
    rows = [ListedRow("real/dog/1.jpg", "0"), ListedRow("real/cat/2.jpg", "1"), ListedRow("real/dog/3.jpg", "0")]
    labels, notes = bind(tmp_path / "l.txt", rows, CLASSES)
    assert labels == [1, 0, 1]
    assert notes == [f"{tmp_path / 'l.txt'}: numbers 2 classes otherwise than the spec (cat, dog); bound by name"]
    assert bind(tmp_path, rows[::-1], CLASSES)[0] == [1, 0, 1][::-1]  # shuffled by rows


def test_ids_bind_where_paths_show_no_class(tmp_path):
    assert bind(tmp_path, [ListedRow("flat/1.jpg", "2"), ListedRow("flat/2.jpg", "0")], CLASSES) == ([2, 0], [])
    with pytest.raises(UserError, match="labels: expected 0 to 2, got 3, 9"):
        bind(tmp_path, [ListedRow("flat/1.jpg", "9"), ListedRow("flat/2.jpg", "3")], CLASSES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [ListedRow("cat/1.jpg", "0"), ListedRow("yak/2.jpg", "1")],
            "classes that the spec lacks: yak; spec classes not in",
        ),
        (
            [ListedRow("yak/1.jpg", "0"), ListedRow("gnu/2.jpg", "1")],
            "classes that the spec lacks: gnu, yak; spec classes not in",
        ),
        (
            [ListedRow("cat/1.jpg", "0"), ListedRow("dog/2.jpg", "0")],
            "labels and class folders contradict each other: expected one",
        ),
        (
            [ListedRow("cat/1.jpg", "0"), ListedRow("cat/2.jpg", "1")],
            "labels and class folders contradict each other: expected one",
        ),
    ],
)
def test_bindings_that_are_refused(tmp_path, rows, message):
    with pytest.raises(UserError) as caught:
        bind(tmp_path / "l.txt", rows, CLASSES)
    assert message in str(caught.value)


def test_csv_classes_must_have_a_prompt(tmp_path):
    rows = [ListedRow("1.jpg", "emu"), ListedRow("2.jpg", ""), ListedRow("3.jpg", "cat")]
    assert bind_names(tmp_path, rows, CLASSES, -1) == [2, -1, 0]
    with pytest.raises(UserError, match="classes that the spec lacks, so that no prompt names them: yak"):
        bind_names(tmp_path, [ListedRow("1.jpg", "yak")], CLASSES, -1)
