"""Benchmarks as releases and repositories lay them out, in miniature: check, extract and adapt without a word more."""

from pathlib import Path

import numpy as np
import pytest
from factories.images import draw

from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import load_spec

OFFICE = load_spec("office_home")
DOMAINNET = load_spec("domainnet")
VISDA = load_spec("visda2017")
RNG = np.random.default_rng(0)
PER_CLASS = 3


def images(folder: Path, classes) -> list[str]:
    """Draw a few images of the first three classes; returns their paths below the folder."""
    paths = []
    for label, name in enumerate(classes[:3]):
        for index in range(PER_CLASS):
            draw(folder / name / f"{index}.png", label, RNG, index == 0)
            paths.append(f"{name}/{index}.png")
    return paths


def office(root: Path, *domains: str, rename=lambda name: name) -> None:
    for domain in domains:
        images(root / domain, [rename(name) for name in OFFICE.classes])


def write_list(file: Path, paths: list[str], prefix: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{prefix}{path} {row // PER_CLASS}\n" for row, path in enumerate(paths)))


def domainnet(root: Path, lists: str, inner: str = "{0}") -> None:
    for domain in ("clipart", "real"):
        paths = images(root / inner.format(domain), DOMAINNET.classes)
        for split in ("train", "test"):
            write_list(root / lists / f"{domain}_{split}.txt", paths, f"{domain}/")


def visda(root: Path, lists: dict[str, str]) -> None:
    for folder, file in (("train", lists.get("train")), ("validation", lists.get("validation"))):
        paths = images(root / folder, VISDA.classes)
        if file:
            write_list(root / file, paths, f"{folder}/" if "/" not in file or "list/" in file else "")


LAYOUTS = {
    "Office-Home, real": ("office_home", "art", "real_world", lambda root: office(root, "art", "real")),
    "Office-Home, Real": ("office_home", "art", "real_world", lambda root: office(root, "Art", "Real")),
    "Office-Home, realworld": ("office_home", "art", "real_world", lambda root: office(root, "art", "realworld")),
    "Office-Home, lower-case classes": (
        *("office_home", "art", "clipart"),
        lambda root: office(root / "office-home", "Art", "Clipart", rename=lambda name: name.lower().replace("_", " ")),
    ),
    "DomainNet, as released": ("domainnet", "clipart", "real", lambda root: domainnet(root, ".")),
    "DomainNet, txt": ("domainnet", "clipart", "real", lambda root: domainnet(root, "txt")),
    "DomainNet, image_list": ("domainnet", "clipart", "real", lambda root: domainnet(root, "image_list")),
    "DomainNet, zips in folders": ("domainnet", "clipart", "real", lambda root: domainnet(root, ".", "{0}/{0}")),
    "VisDA, as released": (
        *("visda2017", "synthetic", "real"),
        lambda root: visda(root, {"train": "train/image_list.txt", "validation": "validation/image_list.txt"}),
    ),
    "VisDA, lists of repositories": (
        *("visda2017", "synthetic", "real"),
        lambda root: visda(root, {"train": "train_list.txt", "validation": "validation_list.txt"}),
    ),
    "VisDA, class folders": ("visda2017", "synthetic", "real", lambda root: visda(root, {})),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_without_an_option(name, tmp_path):
    dataset, source, target, make = LAYOUTS[name]
    make(tmp_path)
    spec = load_spec(dataset)
    for domain in (source, target):
        for part in spec.parts(domain):
            manifest = build_manifest(spec, part, tmp_path)
            assert sorted(manifest.labels.tolist()) == [label for label in range(3) for _ in range(PER_CLASS)]
            assert all((manifest.root / path).is_file() for path in manifest.paths)


@pytest.mark.parametrize(
    "name", ["Office-Home, lower-case classes", "DomainNet, zips in folders", "VisDA, class folders"]
)
def test_extract_and_adapt(cli, name, tmp_path):
    dataset, source, target, make = LAYOUTS[name]
    make(tmp_path / "root")
    place = ("--dataset", dataset, "--encoder", "tiny", "--cache", tmp_path / "cache")
    for domain in (source, target):
        answer = cli("extract", *place, "--domain", domain, "--data-root", tmp_path / "root", "--workers", 0)
        assert answer.code == 0, answer.err
    words = ("--src", source, "--tgt", target, "--epochs", 1, "--no-calibrate", "--out", tmp_path / "run")
    assert cli("adapt", *place, *words).code == 0


def test_what_is_not_found_is_told_with_what_is_there(tmp_path):
    images(tmp_path / "Pictures" / "art", OFFICE.classes)
    with pytest.raises(Exception, match=r"got in .*: Pictures \(art\)"):
        build_manifest(OFFICE, "art", tmp_path)


def test_a_file_of_a_split_is_shown_as_its_list_has_it(cli, tmp_path):
    for domain in DOMAINNET.domains:
        paths = images(tmp_path / domain, DOMAINNET.classes)
        for split in ("train", "test"):
            write_list(tmp_path / f"{domain}_{split}.txt", paths, f"{domain}/")
    broken = tmp_path / "clipart" / DOMAINNET.classes[0] / "0.png"
    broken.write_bytes(b"")
    answer = cli("manifest", "check", "domainnet", "--data-root", tmp_path)
    assert answer.code == 1 and f"clipart/{DOMAINNET.classes[0]}/0.png (an empty file)" in answer.out
    assert "clipart.train/" not in answer.out
    assert "counts differ from the published ones" in answer.out
