"""Images that another data set has, by the same encoder: their features are copied, and never trusted unread."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.tasks import TINY

from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.encoder_identity import encoder_id
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.maintenance import list_entries, verify_entry
from unimos_pipe.cache.shard import ImageShard, read_image_shard, write_image_shard
from unimos_pipe.cache.shard_footer import read_contents
from unimos_pipe.cache.store import DomainFeatures, FeatureStore
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import ExtractReport, extract_images
from unimos_pipe.extract.write_shards import encode_shards


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder(TINY, torch.device("cpu"))


class Caches:
    """The data set ``mini`` in the cache, and ``small``: half of its images under other names, and one of its own."""

    def __init__(self, miniature, encoder, folder: Path):
        self.encoder, self.cache = encoder, folder / "cache"
        self.big = load_spec(str(miniature.spec))
        spec = folder / "small.toml"
        spec.write_text(miniature.spec.read_text().replace('"mini"', '"small"'))
        self.small, self.root = load_spec(str(spec)), folder / "small"
        for name in ("circle", "square", "bar"):
            for index in range(4):
                copy = self.root / "light" / name / f"copy{index}.png"
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(miniature.root / "light" / name / f"{index + 2}.png", copy)
        shutil.copy(miniature.root / "dark" / "bar" / "0.png", self.root / "light" / "bar" / "new.png")
        self.extract(self.manifest(self.big, miniature.root))

    def manifest(self, spec, root: Path) -> Manifest:
        return build_manifest(spec, "light", root)

    def folder(self, name: str) -> Path:
        return self.cache / name / encoder_id(TINY, self.encoder.identity)

    def extract(self, manifest: Manifest, **options) -> ExtractReport:
        options = {"workers": 0, "shard_size": 5, **options}
        return extract_images(manifest, self.encoder, self.folder(manifest.dataset), **options)

    def extract_small(self, **options) -> ExtractReport:
        return self.extract(self.manifest(self.small, self.root), **options)

    def load(self, spec) -> DomainFeatures:
        return FeatureStore(spec, self.folder(spec.name), extract_call(spec.name)).domain("light")


@pytest.fixture
def caches(miniature, encoder, tmp_path) -> Caches:
    return Caches(miniature, encoder, tmp_path)


def test_known_images_of_another_data_set_are_copied(caches):
    report = caches.extract_small()
    assert (report.rows, report.encoded, report.reused, report.shared) == (13, 1, 0, {"mini": 12})
    big, small = caches.load(caches.big), caches.load(caches.small)
    rows = {path: row for row, path in enumerate(big.paths)}
    for path, feature in zip(small.paths, small.features, strict=True):
        name, file = path.split("/")
        if file != "new.png":
            same = rows[f"{name}/{int(file[4]) + 2}.png"]
            assert np.array_equal(feature, big.features[same])
    shutil.rmtree(caches.cache / "mini")  # a copy needs nothing of where it came from
    assert [list(verify_entry(entry)) for entry in list_entries(caches.cache)] == [[]]
    assert np.array_equal(caches.load(caches.small).features, small.features)
    report = caches.extract_small()
    assert (report.encoded, report.reused, report.shared, report.shards_written) == (0, 13, {}, 0)


def test_an_image_that_moved_between_domains_is_copied(caches, miniature):
    shutil.copy(miniature.root / "light" / "bar" / "0.png", miniature.root / "dark" / "bar" / "moved.png")
    report = caches.extract(build_manifest(caches.big, "dark", miniature.root))
    assert (report.encoded, report.shared) == (24, {"mini": 1})


def test_force_encodes_all(caches):
    report = caches.extract_small(force=True)
    assert (report.encoded, report.shared) == (13, {})


def rewrite(path: Path, change: Callable[[ImageShard], ImageShard]) -> None:
    """Replace a shard by one with other contents and a right digest."""
    changed = change(read_image_shard(path))
    arrays = changed.image_features, list(changed.paths), changed.rows, changed.contents, changed.stamps
    write_image_shard(path, changed.header, *arrays)


def damage(caches: Caches) -> None:
    for path in shard_files(caches.folder("mini") / "light"):
        content = bytearray(path.read_bytes())
        content[content.index(read_image_shard(path).image_features.tobytes())] ^= 1
        path.write_bytes(content)


def other_encoder(caches: Caches) -> None:
    for path in shard_files(caches.folder("mini") / "light"):
        rewrite(path, lambda found: replace(found, header=replace(found.header, model="another")))


def other_folder(caches: Caches) -> None:
    folder = caches.folder("mini")
    folder.rename(folder.with_name(folder.name[:-8] + "01234567"))


def a_file(caches: Caches) -> None:
    shutil.rmtree(caches.cache / "mini")
    (caches.cache / "mini").write_bytes(b"")


@pytest.mark.parametrize("fault", [damage, other_encoder, other_folder, a_file])
def test_shards_that_cannot_be_trusted_cost_a_new_encoding(caches, fault):
    caches.extract_small(force=True)
    expected = caches.load(caches.small).features
    shutil.rmtree(caches.cache / "small")
    fault(caches)
    report = caches.extract_small()
    assert (report.encoded, report.reused, report.shared) == (13, 0, {})
    assert np.array_equal(caches.load(caches.small).features, expected)


def test_a_data_set_removed_meanwhile_costs_a_new_encoding(caches):
    """Its first shard is gone when a row of it is to be copied; the others still serve."""
    jobs = []

    def encode(job, indices, encoder, on_rows):
        jobs.append(job)
        if len(jobs) == 1:
            shard_files(caches.folder("mini") / "light")[0].unlink()
        return encode_shards(job, indices, encoder, on_rows)

    manifest = caches.manifest(caches.small, caches.root)
    before = caches.load(caches.big)
    report = caches.extract_small(encode=encode, shard_size=13)
    # of the five rows that are gone, bar/0 to bar/4, three were to be copied
    assert (report.encoded, report.shared, len(jobs)) == (4, {"mini": 9}, 2)
    small = caches.load(caches.small)
    assert small.paths == manifest.paths
    cosine = (small.features[0].astype(np.float32) * before.features[2].astype(np.float32)).sum()
    assert small.paths[0] == "bar/copy0.png" and before.paths[2] == "bar/2.png" and cosine > 0.999


def test_digests_are_read_without_the_features(caches, tmp_path):
    path = shard_files(caches.folder("mini") / "light")[0]
    assert read_contents(path) == [row.tobytes() for row in read_image_shard(path).contents]
    content = path.read_bytes()
    size = int.from_bytes(content[-24:-16], "little")
    index = json.loads(content[-24 - size : -24])
    for entry in (["|u1", [5, 15], 100], ["|u1", [2**62, 16], 100], ["|u1", [-1, 16], 1], ["<f2", [5, 16], 100], [1]):
        index["arrays"]["contents"] = entry
        forged = json.dumps(index).encode()
        path.write_bytes(content[: -24 - size] + forged + len(forged).to_bytes(8, "little") + content[-16:])
        assert read_contents(path) == []
    path.write_bytes(b"no shard")
    assert read_contents(path) == []


def test_extract_says_where_features_come_from(caches, cli):
    """The command: only prompts are encoded."""
    (caches.root / "light" / "bar" / "new.png").unlink()
    spec = caches.root.with_name("small.toml")
    answer = cli("extract", "--dataset", spec, "--domain", "light", "--data-root", caches.root, "--cache", caches.cache)
    assert answer.code == 0
    assert "small/light: 12 rows, 0 encoded, 0 reused, 12 taken from the cache of mini, " in answer.err
