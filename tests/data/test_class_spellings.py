"""Class names of several domains: 40 spellings, bound, asked about or kept; names that no prompt can use."""

import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.cache.label_changes import describe_label_changes
from unimos_pipe.data.class_spellings import bind_spellings
from unimos_pipe.data.custom_domain import ScannedDomain
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.find_images import find_images
from unimos_pipe.data.label_file import label_file
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


def save(*places: Path) -> None:
    """Save an image in each folder, of a colour of its own."""
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), tuple(zlib.crc32(str(place).encode()).to_bytes(4)[:3])).save(place / "1.png")


@pytest.fixture
def scanned(tmp_path) -> Path:
    """A spec of two domains of class folders, one of which spells a class differently."""
    save(*(tmp_path / place for place in ("a/Alarm Clock", "a/dog", "b/alarm_clock", "b/dog")))
    domains = [f"a={tmp_path}/a", f"b={tmp_path}/b", f"c={tmp_path}/b:none"]
    unimos_pipe.create_dataset_spec(domains, tmp_path / "my.toml")
    return tmp_path / "my.toml"


def test_scan_binds_and_tells(cli, scanned):
    answer = cli("manifest", "scan", *(f"--domain={name}={scanned.parent}/{name}" for name in "ab"), "-o", scanned,
                 "--force")  # fmt: skip
    assert answer.code == 0 and "domain b: the class 'alarm_clock' is read as 'Alarm Clock'" in answer.err
    assert (scanned.parent / "my.b.csv").read_text() == "path,class\nalarm_clock/1.png,Alarm Clock\ndog/1.png,dog\n"
    assert cli("manifest", "update", scanned).code == 0
    assert (scanned.parent / "my.b.csv").read_text() == "path,class\nalarm_clock/1.png,Alarm Clock\ndog/1.png,dog\n"


def test_update_binds_new_folders_and_tells(scanned, cli):
    save(scanned.parent / "a" / "Mug", scanned.parent / "b" / "mug")  # a new class, in two spellings
    (scanned.parent / "b" / "DOG").mkdir()
    with pytest.raises(InputError, match=r"^domain b: .* holds folders that may be no classes: DOG \(0 images\)\. "):
        unimos_pipe.update_dataset_spec(scanned)
    save(scanned.parent / "b" / "DOG")
    answer = cli("manifest", "update", scanned)
    assert (answer.code, answer.err) == (
        2,
        "Error: domain b: the class names 'dog' and 'DOG' differ only in spelling. If they are one class, give it one "
        "name; if they are two, name both with --keep-folder NAME\n",
    )
    (scanned.parent / "b" / "DOG" / "1.png").unlink()
    (scanned.parent / "b" / "DOG").rmdir()
    answer = cli("manifest", "update", scanned)
    assert answer.code == 0 and "domain b: the class 'mug' is read as 'Mug'" in answer.err
    assert load_spec(str(scanned)).classes == ("Alarm Clock", "dog", "Mug")
    assert "mug/1.png,Mug\n" in (scanned.parent / "my.b.csv").read_text()
    save(scanned.parent / "a" / "mugs")
    assert unimos_pipe.update_dataset_spec(scanned).new_classes == ("mugs",)  # beside Mug it is another class
    save(scanned.parent / "b" / "Alarm Clocks")
    with pytest.raises(InputError, match=r"^domain b: the new class 'Alarm Clocks' and the class 'Alarm Clock' differ"):
        unimos_pipe.update_dataset_spec(scanned)  # though its own folder of that class is spelled alarm_clock


def test_labels_typed_in_another_spelling_are_the_class(scanned):
    table = scanned.parent / "my.c.csv"
    table.write_text("path,class\nalarm_clock/1.png,ALARM-clock\ndog/1.png,\n")
    assert label_file(load_spec(str(scanned)), "c").read() == {"alarm_clock/1.png": "Alarm Clock", "dog/1.png": ""}
    note = f"{table}: the class 'ALARM-clock' is read as 'Alarm Clock'"
    assert unimos_pipe.update_dataset_spec(scanned).notes == (note,)
    features = unimos_pipe.feature_set(str(scanned), encoder="tiny", cache=scanned.parent / "cache")
    result = unimos_pipe.extract_features(features, ["c"], options=unimos_pipe.ExtractOptions(workers=0))
    cached = result.features.store().domain("c")
    assert note in result.warnings and cached.labels.tolist() == [0, -1]
    folder = result.folder / "c"
    assert describe_label_changes(load_spec(str(scanned)), "c", folder, cached.paths, cached.labels) is None


def test_new_images_of_a_csv_have_its_labels_in_any_spelling(tmp_path):
    save(tmp_path / "a" / "1", tmp_path / "a" / "2")
    (tmp_path / "a" / "l.csv").write_text("path,class\n1/1.png,cup\n2/1.png,dog\n")
    unimos_pipe.create_dataset_spec([f"a={tmp_path}/a:l.csv"], tmp_path / "my.toml")
    save(*(tmp_path / "a" / name for name in ("300", "400", "500")))
    with (tmp_path / "a" / "l.csv").open("a") as file:
        file.write("300/1.png,CUP\n400/1.png,yak\n500/1.png,(unknown)\n")
    assert unimos_pipe.update_dataset_spec(tmp_path / "my.toml").notes == (
        "domain a: the class 'CUP' is read as 'cup'",
        "domain a: labels of new images that are no classes are left out: yak",
    )
    table = (tmp_path / "my.a.csv").read_text()
    assert table.endswith("300/1.png,cup\n400/1.png,\n500/1.png,(unknown)\n")


def test_a_frame_binds_and_warns(tmp_path):
    save(*(tmp_path / name for name in "abcd"))
    rows = {"path": [tmp_path / name / "1.png" for name in "abcd"], "domain": list("aabb")}
    frames = type("Frame", (dict,), {"columns": property(lambda self: list(self))})
    with pytest.warns(UserWarning, match=r"^domain b: the class 'cup' is read as 'Cup'$"):
        features = unimos_pipe.feature_set(frames(rows, label=["Cup", "dog", "dog", "cup"]), cache=tmp_path / "cache")
    assert features.dataset.classes == ("Cup", "dog")
    fault = "the class 'cup' of domain a and 'cups' of b differ by a plural; they are two classes"
    with pytest.warns(UserWarning, match=rf"^{fault}$"):
        features = unimos_pipe.feature_set(frames(rows, label=["cup", "dog", "dog", "cups"]), cache=tmp_path / "cache")
    assert features.dataset.classes == ("cup", "cups", "dog")
    with pytest.raises(InputError, match=r"^domain a has no class in common with another domain"):
        unimos_pipe.feature_set(frames(rows, label=["cup", "dog", "car", "bus"]), cache=tmp_path / "cache")


SPEC = 'name = "s"\nclasses = {}\nencoder = "tiny"\n[domains]\na = {{}}\nb = {{}}\n'


@pytest.mark.parametrize(
    ("classes", "folders", "code", "lines"),
    [
        (["cup", "dog"], ["cup", "dog"], 0, ["notice: note, 1: {root}/b: the class 'Cup' is read as 'cup'"]),
        (["cup", "Cup", "dog"], ["cup", "dog"], 1, ["error: one class in two spellings, 1: cup in a = Cup in b"]),
        (
            ["cups", "Cup", "dog"],
            ["cups", "dog"],
            0,
            ["notice: class names that differ by a plural, 1: the class 'cups' of domain a and 'Cup' of b differ by a"],
        ),
        (
            ["mat", "pen", "Cup", "dog"],
            ["mat", "pen"],
            1,
            ["error: no class in common with another domain, 2: a, b"],
        ),
    ],
)  # fmt: skip
def test_check_tells_of_class_folders_that_may_be_one_class(classes, folders, code, lines, cli, tmp_path):
    save(*(tmp_path / "a" / name for name in folders), *(tmp_path / "b" / name for name in ("Cup", "dog")))
    (tmp_path / "s.toml").write_text(SPEC.format(classes))
    answer = cli("manifest", "check", tmp_path / "s.toml", "--data-root", tmp_path)
    assert answer.code == code, answer.out
    for line in lines:
        assert line.format(root=tmp_path) in answer.out
