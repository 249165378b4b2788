"""Class names of several domains: 40 spellings, bound, asked about or kept; names that no prompt can use."""

import unicodedata

import pytest
from PIL import Image

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.class_spellings import bind_spellings
from unimos_pipe.data.custom_domain import ScannedDomain
from unimos_pipe.data.find_images import find_images
from unimos_pipe.data.row_lists import ManifestRow

BOUND = [
    ("Cup", "cup"), ("CUP", "cup"), ("alarm clock", "alarm_clock"), ("Alarm_Clock", "alarm clock"),
    ("alarm-clock", "alarm_clock"), ("AlarmClock", "alarm_clock"), ("alarm  clock", "alarm clock"), (" cup", "cup"),
    ("cup ", "cup"), ("'cup'", "cup"), ('"cup"', "cup"), ("“cup”", "cup"),
    ("café", unicodedata.normalize("NFD", "café")),
    ("Straße", "STRASSE"), ("ﬁsh", "fish"), ("cup", "ｃｕｐ"), ("T.V.", "TV"), ("alarm\u2010clock", "alarm-clock"),
    ("alarm\u00a0clock", "alarm clock"), ("İstanbul", "i̇stanbul"), ("É", "é"), ("flip-flops", "flipflops"),
]  # fmt: skip
ASKED = [
    ("cup", "cups"), ("glass", "glasses"), ("berry", "berries"), ("box", "boxes"), ("Cup", "cups"),
    ("alarm clock", "alarm_clocks"), ("dish", "dishes"), ("bench", "benches"),
]  # fmt: skip
KEPT = [
    ("cup", "cap"), ("bus", "bu"), ("1", "11"), ("class 1", "class 2"), ("c", "c++"), ("ä", "a"), ("glass", "grass"),
    ("left arrow", "right arrow"), ("6", "9"), ("tv", "tvt"),
]  # fmt: skip


def domain(name: str, *labels: str) -> ScannedDomain:
    return ScannedDomain(name, None, [ManifestRow(f"{row}.png", label) for row, label in enumerate(labels)])


def bind(*domains: ScannedDomain, kept: tuple[str, ...] = ()) -> tuple[list[list[str]], list[str]]:
    found, notes = bind_spellings(domains, kept)
    return [[row.label for row in entry.rows] for entry in found], notes


def test_there_are_forty():
    assert len([*BOUND, *ASKED, *KEPT]) == 40


@pytest.mark.parametrize(("first", "second"), BOUND)
def test_spellings_are_bound_to_the_first(first, second):
    labels, notes = bind(domain("a", first, "dog"), domain("b", "dog", second))
    assert labels == [[first, "dog"], ["dog", first]]
    assert notes[0] == f"domain b: the class {second!r} is read as {first!r}"


@pytest.mark.parametrize(("first", "second"), ASKED)
def test_plurals_are_asked_about_and_an_answer_is_taken(first, second):
    domains = domain("a", first, "dog"), domain("b", "dog", second)
    with pytest.raises(InputError) as asked:
        bind(*domains)
    assert str(asked.value) == (
        f"the class {first!r} of domain a and {second!r} of b differ by a plural. If they are one class, give it one "
        "name; if they are two, name both with keep_folders='NAME'"
    )
    assert bind(*domains, kept=(first, second)) == ([[first, "dog"], ["dog", second]], [])


@pytest.mark.parametrize(("first", "second"), KEPT)
def test_other_names_are_kept(first, second):
    labels, _ = bind(domain("a", first, "dog"), domain("b", "dog", second))
    assert labels == [[first, "dog"], ["dog", second]]


def test_two_spellings_in_one_domain_are_asked_about():
    domains = domain("a", "Polish", "polish"), domain("b", "polish")
    with pytest.raises(
        InputError, match=r"^domain a: the class names 'Polish' and 'polish' differ only in spelling\. "
    ):
        bind(*domains)
    assert bind(*domains, kept=("Polish", "polish"))[0] == [["Polish", "polish"], ["polish"]]


def test_singular_and_plural_in_one_domain_are_two_classes():
    assert bind(domain("a", "glass", "glasses"), domain("b", "glass"))[1] == []


def test_no_common_class_is_an_error():
    with pytest.raises(InputError) as refused:
        bind(domain("a", "cup", "dog"), domain("b", "car"), domain("c"))
    assert str(refused.value) == (
        "domain a has no class in common with another domain: expected one of car, got cup, dog. "
        "Give one class one name in all domains"
    )
    assert bind(domain("a", "cup"), domain("c", ""))[0] == [["cup"], [""]]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["0", "1", "2.5"], "numbers"),
        (["n01440764", "n01443537"], "WordNet ids"),
        (['"cup"', "'dog'"], "quoted names"),
        (["nan", "NULL"], "words for a missing value"),
    ],
)
def test_names_that_no_prompt_can_use_are_told_with_a_count(names, kind):
    _, notes = bind(domain("a", *names, names[0]))
    shown = ", ".join(sorted(names))
    assert notes == [
        f"{len(names)} classes ({len(names) + 1} images) are {kind}: {shown}; prompts say them as they are, unless "
        "[display] of the spec has a wording"
    ]


def test_thumbnails_and_trash_of_network_drives_are_left_out_with_a_count(tmp_path):
    folders = [
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        ".Trash-1000",
        "lost+found",
        "@Recycle",
        "System Volume Information",
    ]
    for name in ["cup", *folders]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "cup" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    found = find_images(tmp_path)
    assert found.paths == ("cup/1.png",) and found.skipped.total() == len(folders) + 1
    assert {reason for reason, _ in found.skipped} == {*folders, "Thumbs.db", "hidden"} - {".Trash-1000"}


def test_scan_binds_and_tells(cli, tmp_path):
    for place in ("a/Alarm Clock", "a/dog", "b/alarm_clock", "b/dog"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place / "1.png")
    domains = ("--domain", f"a={tmp_path}/a", "--domain", f"b={tmp_path}/b")
    answer = cli("manifest", "scan", *domains, "--out", tmp_path / "my.toml")
    assert answer.code == 0 and "domain b: the class 'alarm_clock' is read as 'Alarm Clock'" in answer.err
    assert (tmp_path / "my.b.csv").read_text() == "path,class\nalarm_clock/1.png,Alarm Clock\ndog/1.png,dog\n"
    assert cli("manifest", "update", tmp_path / "my.toml").code == 0
    assert (tmp_path / "my.b.csv").read_text() == "path,class\nalarm_clock/1.png,Alarm Clock\ndog/1.png,dog\n"
