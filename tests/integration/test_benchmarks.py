"""A miniature of every benchmark in its published layout, by command line: scan, check, extract, adapt, report."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec

TINY = "--encoder", "tiny"


@dataclass(frozen=True)
class Case:
    """What to draw of a data set, and what must come out of it."""

    name: str
    pair: tuple[str, str]
    folder: str  # the target's folder of class folders
    images: int  # rows in all
    scored: int  # target rows that are scored by the default protocol
    warning: str  # what extract says of the source's counts


def draw(path: Path, label: int) -> None:
    """A small image whose colour and stripes depend on the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 12, 3), (label * 37 % 256, label * 91 % 256, label * 11 % 256), np.uint8)
    pixels[:: 2 + label % 5] = 255
    Image.fromarray(pixels).save(path)


def folders(spec: DatasetSpec, root: Path, place: str, per_class: int) -> None:
    """``place`` with {folder} -> class folders in every domain."""
    for domain in spec.domains.values():
        for label, name in enumerate(spec.classes):
            for index in range(per_class):
                draw(root / place.format(folder=domain.folder[0]) / name / f"{index:05d}.jpg", label)


def lists(spec: DatasetSpec, root: Path, where: str, full: tuple[str, ...], shift: int = 0) -> None:
    """Splits: every class once in the training lists of ``full``, every fifth in test; elsewhere 8 and 4 rows."""
    (root / where).mkdir(parents=True, exist_ok=True)
    count = len(spec.classes)
    for domain in spec.domains:
        every = range(count) if domain in full else range(8)
        some = range(0, count, 5) if domain in full else range(4)
        for split, labels in (("train", every), ("test", some)):
            lines = []
            for label in labels:
                path = f"{domain}/{spec.classes[label]}/{domain}_{split}_{label:06d}.jpg"
                draw(root / path, label)
                lines.append(f"{path} {(label + shift) % count}\n")
            order = np.random.default_rng(0).permutation(len(lines))
            (root / where / f"{domain}_{split}.txt").write_text("".join(lines[index] for index in order))


def build(name: str, root: Path) -> DatasetSpec:
    """Draw a data set in its published layout."""
    spec = load_spec(name)
    if name == "visda2017":
        folders(spec, root, "{folder}", 3)
        for domain in spec.domains.values():
            rows = (f"{c}/{i:05d}.jpg {k}\n" for k, c in enumerate(spec.classes) for i in range(3))
            (root / domain.folder[0] / "image_list.txt").write_text("".join(rows))
    elif name == "domainnet":
        lists(spec, root, ".", ("clipart", "sketch"))
    elif name == "mini_domainnet":
        lists(spec, root, "splits_mini", ("clipart", "sketch"), shift=1)
    else:
        folders(spec, root, "{folder}", 1 if name == "office_home" else 3)
    return spec


CASES = [
    Case(
        "office_home",
        ("art", "real_world"),
        "Real World",
        4 * 65,
        65,
        "office_home/art: 65 images, 2362 fewer than the expected 2427; per class: 1 (Alarm_Clock) to 1 (Webcam)",
    ),
    Case(
        "visda2017",
        ("synthetic", "real"),
        "validation",
        2 * 36,
        36,
        "visda2017/synthetic: 36 images, 152361 fewer than the expected 152397; per class: aeroplane 3 of 14309, "
        "bicycle 3 of 7365, bus 3 of 16640",
    ),
    Case(
        "domainnet",
        ("clipart", "sketch"),
        "sketch",
        2 * (345 + 69) + 4 * 12,
        69,
        "domainnet/clipart.train: 345 images, 33180 fewer than the expected 33525; per class: 1 (",
    ),
    Case(
        "mini_domainnet",
        ("clipart", "sketch"),
        "sketch",
        2 * (126 + 26) + 2 * 12,
        26,
        "numbers 126 classes differently from the spec",
    ),
    Case(
        "office31",
        ("amazon", "dslr"),
        "dslr/images",
        3 * 93,
        93,
        "office31/amazon: 93 images, 2724 fewer than the expected 2817; per class: 3 (back_pack) to 3 (trash_can)",
    ),
    Case(
        "pacs",
        ("photo", "sketch"),
        "sketch",
        4 * 21,
        21,
        "pacs/photo: 21 images, 1649 fewer than the expected 1670; per class: dog 3 of 189, elephant 3 of 202",
    ),
]


IN_CI = ("office_home", "visda2017", "domainnet")  # flat folders, lists with splits of their own, splits of a domain


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[] if case.name in IN_CI else pytest.mark.slow) for case in CASES],
)
def test_a_benchmark_from_its_published_layout(cli, no_figures, tmp_path, monkeypatch, case):
    root, cache, runs = tmp_path / "data", tmp_path / "cache", tmp_path / "runs"
    spec = build(case.name, root)
    source, target = case.pair

    monkeypatch.setenv("UNIMOS_DATA_ROOT", str(root))
    checked = cli("manifest", "check", case.name, "--cache", cache)
    assert checked.code == 0
    rows = f"{case.images} rows, nothing serious to report"  # equal drawings
    if published := sum(map(spec.expected_images, spec.domains)):
        rows = f"{case.images} rows of {published:,}: counts differ from the published ones, nothing more serious"
        rows += " to report"
    assert checked.out.endswith(f"{case.name}: {rows}\n")
    if case.name == "office_home":
        monkeypatch.setattr("unimos_pipe.experiments.dry_run.measure_encoder_speed", lambda *args: (0.01, 16))
        monkeypatch.setattr("unimos_pipe.experiments.dry_run.measure_training_seconds", lambda *args: 60.0)
        planned = cli("run", "office_home_rn50", "--dry-run", "--cache", tmp_path / "new")
        assert f"  counts differ from the published ones: {case.warning}" in planned.out

    made = cli("extract", "--dataset", case.name, "--all", *TINY, "--cache", cache, "--workers", 0)
    assert made.code == 0
    assert case.warning in made.err
    counted = cli("extract", "--dataset", case.name, "--all", *TINY, "--cache", cache, "--strict-counts")
    if case.name == "mini_domainnet":
        assert counted.code == 0  # no counts are known
    else:
        assert (counted.code, counted.err.startswith("Error: --strict-counts: ")) == (2, True)

    protocols = ("inductive", "transductive") if spec.protocol() == "inductive" else ("transductive",)
    for protocol in protocols:
        chosen = () if protocol == spec.protocol() else ("--protocol", protocol)
        adapted = cli(
            *("adapt", "--dataset", case.name, *TINY, "--cache", cache, "--src", source, "--tgt", target),
            *("--epochs", 1, "--out", runs / protocol, *chosen),
        )
        assert adapted.code == 0
        first = "per-class mean" if case.name == "visda2017" else "accuracy"
        assert f"({protocol}): {first} UniMoS " in adapted.out
        check_run(spec, runs / protocol, root, case, protocol)

    own = tmp_path / "own.toml"
    scanned = cli("manifest", "scan", "--domain", f"own={root / case.folder}", "-o", own, *TINY)
    assert scanned.code == 0
    assert set(load_spec(str(own)).classes) <= set(spec.classes)

    page = tmp_path / "report"
    reported = cli("report", runs, "--out", page, "--cache", cache)
    assert reported.code == 0
    assert reported.out.startswith(f"{page / 'report.html'}: {len(protocols)} run(s), ")
    shown = (page / "report.html").read_text(encoding="utf-8")
    assert all(protocol in shown for protocol in protocols)


def check_run(spec: DatasetSpec, run: Path, root: Path, case: Case, protocol: str) -> None:
    """The result says what was learned from and scored, and each prediction stands beside its own image's class."""
    result = json.loads((run / "result.json").read_text())
    rows = list(csv.DictReader((run / "predictions.csv").open(encoding="utf-8")))
    both = len(spec.classes) + case.scored if spec.protocol() == "inductive" else case.scored
    learned = {"inductive": len(spec.classes), "transductive": both}[protocol]
    scored = {"inductive": case.scored, "transductive": both}[protocol]
    assert (result["protocol"], result["classes"]) == (protocol, len(spec.classes))
    assert (result["target_rows"], result["scored_rows"], len(rows)) == (learned, scored, scored)
    folder = root if spec.protocol() == "inductive" else root / case.folder
    for row in rows:
        assert (folder / row["path"]).is_file()
        assert row["label"] == Path(row["path"]).parent.name
    if protocol == "inductive":
        assert all("_test_" in row["path"] for row in rows)
