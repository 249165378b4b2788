"""The job of a person with photos: two folders become sorted folders; labels and new photos change what they must."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import draw

import unimos_pipe
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.experiments import photo_job
from unimos_pipe.photos.review_photos import ReviewResult
from unimos_pipe.photos.review_session import ReviewSession
from unimos_pipe.photos.run_photos import load_run_photos
from unimos_pipe.report import figures, section
from unimos_pipe.runs.read_run import read_run

CLASSES = ("circle", "square", "bar")


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """10 labelled images and 16 photos of each class, the photos in two folders with equal names in them."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for index in range(10):
            draw(tmp_path / "shop" / name / f"{index}.png", label, rng, False)
        for index in range(16):
            draw(tmp_path / "DCIM" / f"{2023 + index % 2}" / f"IMG_{name}{index // 2}.png", label, rng, True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(figures, "save_figure", lambda *_: "<svg></svg>")
    monkeypatch.setattr(section, "tsne", lambda groups: {name: rows[:, :2] for name, rows in groups.items()})
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def links(folder: Path) -> dict[str, str]:
    """The class folder of each link by the photo that it leads to."""
    photos = (folder.parent / "DCIM").resolve()
    return {
        path.resolve().relative_to(photos).as_posix(): path.parent.name
        for path in folder.rglob("*")
        if path.is_symlink()
    }


def test_two_folders_to_sorted_photos_and_again_after_corrections(cli, folders, monkeypatch):
    command = ("photos", "shop", "DCIM", "--encoder", "tiny", "--unknown", "auto", "--precision", 0.5, "--workers", 0)
    originals = {name: contents(folders / name) for name in ("shop", "DCIM")}
    adapted = photo_job.adapt_pairs
    monkeypatch.setattr(photo_job, "adapt_pairs", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli(*command).code == 130
    monkeypatch.setattr(photo_job, "adapt_pairs", adapted)
    answer = cli(*command)
    assert answer.code == 0, answer.err
    steps = [line.partition("unimos-pipe ")[2] for line in answer.err.splitlines() if "/5  " in line]
    spec, run = "photo-work/photos.toml", "photo-work/run"
    assert steps == [
        f"manifest update {spec}",
        f"extract --dataset {spec} --encoder tiny --all",
        f"adapt --dataset {spec} --encoder tiny --src shop --tgt phone --method auto --unknown auto --out {run}",
        f"report {run} --out photo-work/report",
        f"sort {run} --to sorted --precision 0.5",
    ]
    assert "     encoder tiny (tinyclip-r24-64, MIT, for icons only): on this machine\n" in answer.err
    assert "photos/phone: 48 rows, 0 encoded, 48 reused" in answer.err
    assert answer.err.endswith(f"next: unimos-pipe label next --run {run} -n 50\n")
    first = links(folders / "sorted")
    rows = list(csv.DictReader((folders / run / "predictions.csv").open(newline="")))
    assert (
        len(first) == 48
        and {path: first[path] for path in first if first[path] != "review"}.items()
        <= {row["path"]: row["class"].strip("()") for row in rows}.items()
    )

    for line in steps:  # the single commands do the same
        again = cli(*line.split())
        assert again.code == (2 if line.startswith("adapt") else 0), again.err  # the run is finished
    assert links(folders / "sorted") == first

    session = ReviewSession(load_run_photos(folders / run))  # what the page's keys call
    chosen = sorted(range(48), key=lambda row: session.photos.photos[row].probability)[:30]
    names = [session.photos.photos[row].path for row in chosen]
    truth = [next(name for name in CLASSES if name in path) for path in names]
    typed = [*truth[:28], "(unknown)", "bar"]
    for row, label in zip(chosen, typed, strict=True):
        session.decide(row, label)
    correct = [session.photos.photos[row].predicted == label for row, label in zip(chosen, typed, strict=True)]
    assert session.scores().correct == sum(correct)
    reviewed = ReviewResult(session.photos.labels.path, 30, session.scores(), True, ())
    monkeypatch.setattr(unimos_pipe, "review_photos", lambda *_, **__: reviewed)  # ended by the page's button
    answer = cli("review", run)
    assert answer.code == 0 and "29 labelled of 48 rows" in answer.out, answer.err
    assert answer.err.endswith(f"next: unimos-pipe review {run}\n")
    assert read_run(folders / run).result.taught_rows == 29
    draw(folders / "DCIM" / "new.png", 0, np.random.default_rng(7), True)
    answer = cli(*command)
    assert answer.code == 0, answer.err
    assert "     phone: 1 new; 49 images, 30 with a label\n" in answer.err
    second = links(folders / "sorted")
    expected = {path: label.replace("(unknown)", "unknown") for path, label in zip(names, typed, strict=True)}
    assert {path: second[path] for path in names} == expected
    assert "30 by typed labels" in answer.out and "new.png" in second
    assert "29 labelled of 49 rows" in answer.out and "they teach, and each is scored by a fit without it" in answer.out
    assert " --use-target-labels " in answer.err
    (folders / "DCIM" / "new.png").unlink()
    assert {name: contents(folders / name) for name in ("shop", "DCIM")} == originals
    assert load_spec(spec).own_file == str(folders / spec)


def test_other_folders_need_another_place(cli, folders):
    (folders / "photo-work").mkdir()
    (folders / "photo-work" / "photos.toml").write_text(
        'name = "photos"\nclasses = ["a", "b"]\n[domains.shop]\nroot = "../DCIM"\n[domains.phone]\nroot = "../shop"\n'
    )
    answer = cli("photos", "shop", "DCIM")
    assert (answer.code, answer.err) == (
        2,
        "Error: photo-work/photos.toml describes other folders than shop and DCIM. Choose another folder with --work\n",
    )
    assert cli("photos", "shop", "nowhere").err == "Error: no folder nowhere\n"
    assert cli("photos", "shop", "DCIM/..").err == (
        "Error: shop and DCIM/.. are one folder, or one is in the other: expected two folders apart\n"
    )
    told = f"Error: --to 'DCIM/s': expected a folder apart from the images, got one in {folders / 'DCIM'}\n"
    assert cli("photos", "shop", "DCIM", "--to", "DCIM/s", "--work", "other").err == told
    (folders / "file").touch()
    assert cli("photos", "shop", "DCIM", "--work", "file").err == (
        "Error: cannot write to file: Not a directory; choose another folder with --work\n"
    )
    assert cli("photos", "shop", "DCIM", "--work", "shop/x").err == (
        "Error: --work shop/x: it is in a folder of images: expected a folder apart\n"
    )
    assert cli("photos", "shop", "DCIM", "--unknown", "3", "--work", "other").code == 2
    assert not (folders / "other").exists()  # told before any work
    assert cli("photos", "shop", "DCIM", "--encoder", "RN5").code == 2
