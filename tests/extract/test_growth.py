"""Growing data sets: only new images are encoded, and a killed process leaves the old or the new domain."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from factories.images import draw
from factories.tasks import TINY

from unimos_pipe.base.errors import ExecutionError, InputError, StaleCacheError
from unimos_pipe.cache.cache_paths import index_path, shard_files
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.shard import read_image_shard, write_image_shard
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data import file_digests
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import check_spec
from unimos_pipe.extract import extract_domain as stage
from unimos_pipe.extract import write_shards
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import extract_images

OPTIONS = {"workers": 0, "shard_size": 10}


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder(TINY, torch.device("cpu"))


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of 24 images, three classes of eight."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("circle", "square", "bar")):
        for index in range(8):
            draw(tmp_path / "images" / "light" / name / f"{index}.png", label, rng, False)
    return tmp_path / "images"


def spec_of(*classes: str):
    values = {"name": "mini", "classes": list(classes), "encoder": "tiny", "domains": {"light": {}}}
    return check_spec(values, Path("mini.toml"))


AGAIN = "unimos_pipe.extract_features(features=unimos_pipe.feature_set(dataset='mini'), domains=['light']"
SPEC = spec_of("circle", "square", "bar")


def manifest_of(images: Path, spec=SPEC):
    return build_manifest(spec, "light", images)


def load(cache: Path, spec=SPEC):
    return FeatureStore(spec, cache, extract_call("mini")).domain("light")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def equal_to_a_fresh_extraction(cache: Path, images: Path, encoder, tmp_path: Path, spec=SPEC) -> bool:
    """Rows, labels and paths, and features to one step of float16 below 1."""
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    extract_images(manifest_of(images, spec), encoder, tmp_path / "fresh", workers=0)
    found, fresh = load(cache, spec), load(tmp_path / "fresh", spec)
    assert found.paths == fresh.paths and found.labels.tolist() == fresh.labels.tolist()
    return bool(np.abs(found.features.astype(np.float32) - fresh.features.astype(np.float32)).max() <= 2.0**-11)


def test_ten_photos_and_a_new_class_in_a_folder_of_281(encoder, tmp_path):
    rng, images = np.random.default_rng(3), tmp_path / "images"
    for number in range(281):
        draw(images / "light" / ("circle", "square")[number % 2] / f"{number}.png", number % 2, rng, False)
    before = spec_of("circle", "square")
    assert extract_images(manifest_of(images, before), encoder, tmp_path, workers=0, shard_size=100).encoded == 281
    for number in range(10):
        draw(images / "light" / ("bar", "circle")[number % 2] / f"new{number}.png", 2 * (number % 2 == 0), rng, False)
    after = spec_of("bar", "circle", "square")
    report = extract_images(manifest_of(images, after), encoder, tmp_path, workers=0, shard_size=100)
    assert (report.rows, report.encoded, report.reused) == (291, 10, 281)
    assert np.bincount(load(tmp_path, after).labels).tolist() == [5, 146, 140]
    assert equal_to_a_fresh_extraction(tmp_path, images, encoder, tmp_path, after)
    assert len(shard_files(tmp_path / "light")) == 3


def test_the_command_says_how_many_were_encoded_and_kept(cli, miniature, tmp_path):
    args = ("extract", *miniature.args(tmp_path / "c"), "--data-root", miniature.root, "--workers", 0, "--all")
    assert cli(*args).code == 0
    draw(miniature.root / "light" / "bar" / "new.png", 2, np.random.default_rng(1), False)
    lines = cli(*args).err.splitlines()
    assert [line.rpartition(", ")[0] for line in lines[:1]] == ["mini/dark: 24 rows, 0 encoded, 24 reused"]
    assert lines[1].startswith("mini/light: 25 rows, 1 encoded, 24 reused, ")


def test_a_renamed_class_encodes_no_image(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    old = load(tmp_path)
    (images / "light" / "circle").rename(images / "light" / "disc")
    renamed = spec_of("disc", "square", "bar")
    with pytest.raises(StaleCacheError) as caught:
        load(tmp_path, renamed)
    assert str(caught.value) == (
        f"stale labels in {index_path(tmp_path / 'light')}: class_names, number 1: expected 'disc', got 'circle'. "
        f"Run: {AGAIN})"
    )
    report = extract_images(manifest_of(images, renamed), encoder, tmp_path, **OPTIONS)
    assert (report.encoded, report.reused) == (0, 24)
    new = load(tmp_path, renamed)
    assert sorted(new.paths) == sorted(path.replace("circle", "disc") for path in old.paths)
    assert new.features.tobytes() == old.features.tobytes() and new.labels.tolist() == old.labels.tolist()
    assert new.digests == old.digests and new.label_digests != old.label_digests


def test_classes_in_another_order_touch_the_index_alone(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    before = tree(tmp_path / "light")
    other = spec_of("bar", "square", "circle")
    assert extract_images(manifest_of(images, other), encoder, tmp_path, **OPTIONS).shards_reused == 3
    after = tree(tmp_path / "light")
    assert [name for name in after if after[name] != before[name]] == ["domain.json"]
    assert load(tmp_path, other).labels.tolist() == [0] * 8 + [2] * 8 + [1] * 8


def test_moved_removed_and_doubled_images_are_not_encoded(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    folder = images / "light"
    (folder / "circle" / "3.png").rename(folder / "bar" / "moved.png")
    (folder / "square" / "0.png").unlink()
    shutil.copy(folder / "circle" / "1.png", folder / "circle" / "copy.png")
    report = extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    assert (report.rows, report.encoded, report.reused) == (24, 0, 24)
    assert equal_to_a_fresh_extraction(tmp_path, images, encoder, tmp_path)


def test_splits_grow_like_domains(encoder, images, tmp_path):
    folder = images / "light"
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    labels = {"circle": 0, "square": 1, "bar": 2}

    def split(train: int):
        for file, part in (("train.txt", names[:train]), ("test.txt", names[train:])):
            (folder / file).write_text("".join(f"{name} {labels[name.partition('/')[0]]}\n" for name in part))
        values = {"name": "mini", "classes": list(labels), "domains": {"light": {"train": "train.txt"}}}
        values["domains"]["light"] = {"train": ["train.txt"], "test": ["test.txt"]}
        return check_spec(values, Path("mini.toml"))

    for train, expected in ((16, (16, 8)), (20, (4, 0))):
        spec = split(train)
        reports = [
            extract_images(build_manifest(spec, part, images), encoder, tmp_path, **OPTIONS)
            for part in spec.parts("light")
        ]
        assert tuple(report.encoded for report in reports) == expected
    found = FeatureStore(spec, tmp_path, extract_call("mini")).domain("light.train", "light.test")
    assert found.paths == tuple(names) and [part for part, _ in found.label_digests] == ["light.train", "light.test"]


def replace_with_equal_size(path: Path, other: Path) -> None:
    """Another image under a name, with the size and the mtime that were there."""
    before = path.stat()
    small, large = path.read_bytes(), other.read_bytes()
    whole = large + bytes(max(0, len(small) - len(large)))
    path.write_bytes(whole)
    os.truncate(path, len(whole))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_replaced_image_of_equal_size_and_restored_mtime_is_seen(encoder, images, tmp_path, monkeypatch):
    """By its ctime, which nobody can set, even where nothing young is read again."""
    monkeypatch.setattr(file_digests, "MIN_AGE", -(10**18))
    files = [images / "light" / "circle" / f"{number}.png" for number in (2, 5)]
    size = max(path.stat().st_size for path in files)
    for path in files:
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    old = load(tmp_path)
    before = files[0].stat()
    time.sleep(0.02)
    replace_with_equal_size(*files)
    after = files[0].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    reads = []
    plain = file_digests.content_digest
    monkeypatch.setattr(file_digests, "content_digest", lambda path: reads.append(path) or plain(path))
    report = extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    assert reads == files[:1]
    assert (report.encoded, report.reused) == (0, 24)  # the other image's content is known
    new = load(tmp_path)
    row = old.paths.index("circle/2.png")
    assert (new.features[row] == old.features[old.paths.index("circle/5.png")]).all()
    assert not (new.features[row] == old.features[row]).all()


def make_times_equal(one: Path, two: Path) -> None:
    """Give two files one mtime and one ctime, as files have that an archive was unpacked to within a tick."""
    for _ in range(1000):
        for path in (one, two):
            os.utime(path, (10**9, 10**9))
        if one.stat().st_ctime_ns == two.stat().st_ctime_ns:
            return
    pytest.skip("no two files get one ctime on this file system")


@pytest.mark.parametrize("what", ["class folders", "files", "hard links", "a folder elsewhere"])
def test_images_that_swap_their_names_swap_their_features(what, encoder, images, tmp_path, monkeypatch):
    """Renaming keeps size, mtime and, of a folder's files, ctime; all images here are of equal size and time."""
    monkeypatch.setattr(file_digests, "MIN_AGE", -(10**18))
    one, two = (images / "light" / name for name in ("circle", "square"))
    size = max(path.stat().st_size for path in images.rglob("*.png"))
    for path in images.rglob("*.png"):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    for path in sorted(one.iterdir()):
        make_times_equal(path, two / path.name)
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    old = load(tmp_path)
    if what == "class folders":
        for source, target in ((one, images / "aside"), (two, one), (images / "aside", two)):
            source.rename(target)
    elif what == "a folder elsewhere":  # as unzip and tar make it, with the times of the archive
        shutil.copytree(one, images / "copy")
        shutil.rmtree(one)
        two.rename(one)
        (images / "copy").rename(two)
    else:
        for path in sorted(one.iterdir()):
            other, aside = two / path.name, images / "aside"
            if what == "files":
                path.rename(aside)
                other.rename(path)
                aside.rename(other)
            else:
                os.link(path, aside)
                path.unlink()
                os.link(other, path)
                other.unlink()
                aside.rename(other)
    report = extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    new = load(tmp_path)
    assert report.encoded == 0 and new.paths == old.paths
    swapped = [name.replace("circle", "x").replace("square", "circle").replace("x", "square") for name in old.paths]
    wanted = old.features[[old.paths.index(name) for name in swapped]]
    assert (new.features == wanted).all() and not (new.features == old.features).all()


def test_a_file_as_young_as_its_record_is_read_again(encoder, images, tmp_path, monkeypatch):
    """Two writings within one tick of the file system's clock leave one stamp: such stamps are not trusted."""
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    reads = []
    plain = file_digests.content_digest
    monkeypatch.setattr(file_digests, "content_digest", lambda path: reads.append(path) or plain(path))
    assert extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS).shards_reused == 3
    assert len(reads) == 24
    now = time.time_ns()
    stamp = (1, 2, 10, now - 3 * file_digests.MIN_AGE, now - 2 * file_digests.MIN_AGE)
    seen = file_digests.FileRecord(stamp, now, b"d" * 16)
    assert seen.is_unchanged(stamp)
    assert not file_digests.FileRecord(stamp, now - file_digests.MIN_AGE, b"d" * 16).is_unchanged(stamp)
    for place in range(5):
        assert not seen.is_unchanged(tuple(value + (at == place) for at, value in enumerate(stamp)))


@pytest.mark.parametrize("slow", [-1.0, 1e9])
def test_files_on_a_slow_disk_are_read_by_threads_and_stay_in_order(slow, tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "SLOW_READ", slow)
    monkeypatch.setattr(file_digests, "FILES_PER_TASK", 2)
    contents = [bytes([number]) * (1 << 19) for number in range(7)] + [b"x" * file_digests.BLOCK, b"", b"y" * 2_500_000]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    names, readers = [*map(str, range(len(contents))), "gone"], set()
    plain = file_digests.content_digest
    monkeypatch.setattr(file_digests, "content_digest", lambda path: readers.add(threading.get_ident()) or plain(path))
    read = file_digests.read_file_digests(tmp_path, names, {})
    wanted = [xxhash.xxh3_128_digest(content) for content in contents] + [file_digests.UNREAD]
    assert [row.tobytes() for row in read.digests] == wanted
    stamps = [file_digests.file_stamp(tmp_path / name) for name in names[:-1]] + [(0,) * 5]
    assert [tuple(row) for row in read.stamps.tolist()] == stamps
    assert (readers == {threading.get_ident()}) == (slow > 0)


def test_an_image_that_changes_under_our_hands_is_a_bad_one(encoder, images, tmp_path, monkeypatch):
    plain = write_shards.file_stamp
    monkeypatch.setattr(write_shards, "file_stamp", lambda path: (0,) * 5 if path.name == "3.png" else plain(path))
    with pytest.raises(ExecutionError, match=r"3 unreadable .* bar/3\.png \(it changed while it was read\), circle/3"):
        extract_images(manifest_of(images), encoder, tmp_path, workers=0)
    report = extract_images(manifest_of(images), encoder, tmp_path, workers=0, skip_bad=True)
    assert [path for path, _ in report.skipped] == ["bar/3.png", "circle/3.png", "square/3.png"]
    assert (report.encoded, report.reused, len(load(tmp_path).paths)) == (0, 21, 21)  # kept by the call that failed


def test_a_mended_image_is_encoded_and_nothing_else(encoder, images, tmp_path):
    bad = images / "light" / "circle" / "3.png"
    whole = bad.read_bytes()
    bad.write_bytes(b"no image")
    extract_images(manifest_of(images), encoder, tmp_path, skip_bad=True, **OPTIONS)
    again = extract_images(manifest_of(images), encoder, tmp_path, skip_bad=True, **OPTIONS)
    assert (again.shards_reused, again.encoded, len(again.skipped)) == (3, 0, 1)
    bad.write_bytes(whole)
    report = extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    assert (report.encoded, report.reused, report.skipped) == (1, 23, ())
    assert equal_to_a_fresh_extraction(tmp_path, images, encoder, tmp_path)


class _Killed(BaseException):
    """Stands for a signal that nothing survives."""


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "moment", ["before the first shard", "after two shards", "before the index", "after the index"]
)
def test_a_growth_that_is_broken_off_leaves_the_old_domain_or_the_new_one(
    moment, force, encoder, images, tmp_path, monkeypatch
):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    old = load(tmp_path)
    for number in range(10):
        draw(images / "light" / "bar" / f"new{number}.png", 2, np.random.default_rng(number), False)
    calls = []

    def die(*_):
        raise _Killed

    def write(*args):
        calls.append(args)
        if len(calls) > (0 if moment == "before the first shard" else 2):
            die()
        write_image_shard(*args)

    with monkeypatch.context() as patch:
        if "shard" in moment:
            patch.setattr(write_shards, "write_image_shard", write)
        else:
            patch.setattr(stage, "write_index" if moment == "before the index" else "remove_superseded", die)
        with pytest.raises(_Killed):
            extract_images(manifest_of(images), encoder, tmp_path, force=force, **OPTIONS)
    found = load(tmp_path)
    if moment == "after the index":
        assert len(found.paths) == 34
    else:
        assert found.paths == old.paths and found.features.tobytes() == old.features.tobytes()
    report = extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    # the new images lie in the first two shards; what needs no encoder is put together after them
    assert report.encoded == (10 if moment == "before the first shard" else 0)
    assert equal_to_a_fresh_extraction(tmp_path, images, encoder, tmp_path)
    assert len(list((tmp_path / "light").iterdir())) == 5  # four shards and the index


def test_force_makes_first_and_deletes_after(encoder, images, tmp_path):
    """A call that cannot start, such as without its cluster, changes nothing."""
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    before = tree(tmp_path / "light")

    def unreachable(*_):
        raise InputError("no Ray cluster at 10.0.0.1:6379")

    with pytest.raises(InputError):
        extract_images(manifest_of(images), encoder, tmp_path, force=True, encode=unreachable, **OPTIONS)
    assert tree(tmp_path / "light") == before
    report = extract_images(manifest_of(images), encoder, tmp_path, force=True, **OPTIONS)
    assert (report.encoded, report.reused, len(shard_files(tmp_path / "light"))) == (24, 0, 3)


def kill_growths(rounds: int, cli, miniature, tmp_path: Path, seed: int) -> list[str]:
    """Grow a domain from 24 images to 44 in shards of 4, killed with SIGKILL somewhere; what stood there then."""
    rng = random.Random(seed)
    cache = tmp_path / "cache"
    args = ("extract", *miniature.args(cache), "--data-root", miniature.root, "--domain", "light")
    args = (*args, "--workers", 0, "--shard-size", 4, "--batch-size", 1)
    assert cli(*args).code == 0
    folder = next(cache.glob("mini/*/light"))
    spec = spec_of("circle", "square", "bar")
    old = load(folder.parent, spec)
    for number in range(20):
        draw(miniature.root / "light" / "bar" / f"new{number}.png", 2, np.random.default_rng(number), False)
    shutil.copytree(cache, tmp_path / "old")
    found = []
    for _ in range(rounds):
        shutil.rmtree(cache)
        shutil.copytree(tmp_path / "old", cache)
        process = subprocess.Popen(
            [sys.executable, "-m", "unimos_pipe", *(str(arg) for arg in args)], stderr=subprocess.DEVNULL
        )
        wanted = 6 + rng.randrange(14)
        while process.poll() is None and len(shard_files(folder)) < wanted:
            time.sleep(rng.random() / 500)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = load(folder.parent, spec)
        assert len(now.paths) in (24, 44)
        if len(now.paths) == 24:
            assert now.paths == old.paths and now.features.tobytes() == old.features.tobytes()
        assert cli(*args).code == 0
        assert len(load(folder.parent, spec).paths) == 44
        assert len(list(folder.iterdir())) == 12  # eleven shards and the index
        found.append("old" if len(now.paths) == 24 else "new")
    return found


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_growth_is_the_old_domain_or_the_new_one(rounds, cli, miniature, tmp_path):
    assert len(kill_growths(rounds, cli, miniature, tmp_path, seed=rounds)) == rounds


def test_prune_clears_what_a_domain_no_longer_names(cli, miniature, tmp_path):
    cache = tmp_path / "cache"
    args = ("extract", *miniature.args(cache), "--data-root", miniature.root, "--all", "--workers", 0)
    assert cli(*args).code == 0
    folder = next((cache / "mini").iterdir())
    shutil.copy(shard_files(folder / "light")[0], folder / "light" / "shard-00000-01234567.h5")
    (tmp_path / "runs" / "r").mkdir(parents=True)
    config = {"spec": {"dataset": "mini", "encoder_id": folder.name}}
    (tmp_path / "runs" / "r" / "config.json").write_text(json.dumps(config))
    answer = cli("cache", "prune", "--cache", cache, "--runs", tmp_path / "runs", "--yes")
    assert answer.out.splitlines()[0].endswith("light/shard-00000-01234567.h5  (no longer part of its domain)")
    assert len(shard_files(folder / "light")) == 1
    index_path(folder / "light").unlink()  # a first extraction that was killed: its shards stay
    assert cli("cache", "prune", "--cache", cache, "--runs", tmp_path / "runs", "--yes").out.startswith("nothing to")
    assert "not finished" in cli("cache", "ls", "--cache", cache).out


def test_older_features_are_refused_by_the_name_of_their_schema(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, workers=0)
    folder = tmp_path / "light"
    path = folder / "shard-00000-of-00001.h5"
    new = shard_files(folder)[0]
    rewrite_schema(new, path)
    new.unlink()
    index_path(folder).unlink()
    told = f"{path}: expected schema 3, kind image, got schema 2, kind image"
    with pytest.raises(StaleCacheError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{told}. Run: {AGAIN}, options=unimos_pipe.ExtractOptions(force=True))"
    with pytest.raises(StaleCacheError) as caught:
        extract_images(manifest_of(images), encoder, tmp_path, workers=0)
    assert str(caught.value) == f"{told}. Add force=True to encode light again"
    assert path.is_file()
    assert extract_images(manifest_of(images), encoder, tmp_path, workers=0, force=True).encoded == 24
    assert not path.exists() and len(load(tmp_path).paths) == 24


def rewrite_schema(source: Path, target: Path) -> None:
    """A shard that says it is of schema 2, signed."""
    import xxhash

    content = source.read_bytes()
    length = int.from_bytes(content[-24:-16], "little")
    index = json.loads(content[-24 - length : -24])
    index["attributes"]["schema"] = 2
    text = json.dumps(index).encode()
    body = content[: -24 - length] + text + len(text).to_bytes(8, "little")
    target.write_bytes(body + xxhash.xxh3_128(body).digest())


def test_the_index_must_be_whole_and_fit_the_shards(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    path = index_path(tmp_path / "light")
    content = path.read_bytes()
    whole = load(tmp_path)
    rng = random.Random(0)
    for number in range(30):
        spoilt = bytearray(content)
        if number % 2:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        else:
            spoilt = spoilt[: rng.randrange(len(spoilt))]
        path.write_bytes(spoilt)
        with pytest.raises(StaleCacheError, match=r"domain\.json is damaged \(\w+\)\. Run extract again; feat"):
            load(tmp_path)
    assert extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS).encoded == 0
    assert path.read_bytes() == content
    first, second, _ = shard_files(tmp_path / "light")
    swapped = first.read_bytes(), second.read_bytes()
    first.write_bytes(swapped[1]), second.write_bytes(swapped[0])
    with pytest.raises(StaleCacheError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"stale shard {first}: row_start: expected 0, got 10. "
        f"Run: {AGAIN}, options=unimos_pipe.ExtractOptions(force=True))"
    )
    first.write_bytes(swapped[0]), second.unlink()
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"shards of mini/light are missing in {tmp_path / 'light'}: expected all 3 that domain.json names, "
        f"got no {second.name}. Run: {AGAIN})"
    )
    second.write_bytes(swapped[1])
    assert load(tmp_path).features.tobytes() == whole.features.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_features_that_are_no_unit_vectors_are_refused_at_load(value, encoder, images, tmp_path, monkeypatch):
    from unimos_pipe.cache import shard
    from unimos_pipe.methods.task import PairLoader

    extract_images(manifest_of(images), encoder, tmp_path, workers=0)
    path = shard_files(tmp_path / "light")[0]
    found = read_image_shard(path)
    features = found.image_features.copy()
    features[5] = value
    monkeypatch.setattr(shard, "image_fault", lambda *_: None)
    header = replace(found.header, versions={})
    write_image_shard(path, header, features, list(found.paths), found.rows, found.contents, found.stamps)
    index = stage.read_index(tmp_path / "light")
    renewed = replace(index, shards=((path.name, read_image_shard(path).header.features_digest),))
    stage.write_index(tmp_path / "light", renewed)
    store = FeatureStore(SPEC, tmp_path, extract_call("mini"))
    with pytest.raises(StaleCacheError) as caught:
        PairLoader(store, ("a {class}",), torch.device("cpu"))._load(("light",), torch.float32)
    assert str(caught.value) == (
        "light: 1 stored feature(s), the first of bar/5.png: expected finite, of unit norm, "
        f"got a norm of {value:.4g}. Extract them again with force=True"
    )


def test_another_data_set_of_the_same_name_replaces_nothing(encoder, images, tmp_path):
    extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    before = tree(tmp_path / "light")
    for number, path in enumerate(sorted((images / "light").rglob("*.png"))):
        draw(path, 0, np.random.default_rng(100 + number), True)
    with pytest.raises(InputError) as caught:
        extract_images(manifest_of(images), encoder, tmp_path, **OPTIONS)
    assert str(caught.value) == (
        f"{tmp_path}/light holds the features of 24 other images; none of the 24 in {images}/light is among them. "
        "If this is another data set of the same name, give its spec an id, such as id = '2'; if all images were "
        "replaced, add force=True"
    )
    assert tree(tmp_path / "light") == before
    assert extract_images(manifest_of(images), encoder, tmp_path, force=True, **OPTIONS).encoded == 24
