"""Looking after the cache: listing, verifying, pruning."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.images import draw
from file_tree import tree

import unimos_pipe
from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.cache import maintenance
from unimos_pipe.cache.cache_paths import domain_lock, shard_files
from unimos_pipe.cache.maintenance import (
    find_prunable_items,
    is_inside,
    list_entries,
    remove_if_unused,
    verify_entry,
    verify_features,
)
from unimos_pipe.cache.shard import read_image_shard, write_image_shard
from unimos_pipe.runs.cache_usage import find_needed_features


@pytest.fixture
def cached(cli, miniature, tmp_path) -> Path:
    """A cache that holds the miniature data set in shards of 10 rows."""
    folder = tmp_path / "cache"
    args = ("--all", "--data-root", miniature.root, "--workers", 0, "--shard-size", 10)
    assert cli("extract", *miniature.args(folder), *args).code == 0
    return folder


def encoder_folder(cache: Path) -> Path:
    return next((cache / "mini").iterdir())


def test_ls_shows_rows_sizes_and_what_is_missing(cli, cached):
    folder = encoder_folder(cached)
    shard_files(folder / "light")[1].unlink()
    shard_files(folder / "dark")[0].write_bytes(b"nothing")
    found = {entry.domain: (entry.rows, entry.shards, entry.state) for entry in list_entries(cached)}
    assert found == {"dark": (14, 3, "damaged"), "light": (14, 2, "2 of 3 shards"), "text": (6, 2, "complete")}
    lines = cli("cache", "ls", "--cache", cached).out.splitlines()
    assert lines[0].strip() == f"mini, {folder.name}"
    assert [part.strip() for part in lines[5].split("│")[1:4]] == ["light", "14", "2"]
    assert lines[-1].startswith(f"{cached}: 34 rows, ")
    assert cli("cache", "ls", "--cache", cached / "no").out == f"{cached / 'no'} holds no features\n"


def test_verify_passes_what_extract_made(cli, cached, miniature):
    answer = cli("cache", "verify", "--cache", cached)
    assert (answer.code, answer.out) == (0, f"3 folder(s), 54 rows in {cached}: all sound\n")
    deep = ("cache", "verify", "--cache", cached, "--deep", "--dataset", miniature.spec, "--data-root", miniature.root)
    answer = cli(*deep)
    assert (answer.code, answer.err.splitlines()[0]) == (0, "48 image(s) encoded again and compared")
    check = unimos_pipe.verify_encoding(str(miniature.spec), miniature.root, cache=cached, images=3)
    assert check == unimos_pipe.EncodingCheck(images=6, problems=())
    draw(miniature.root / "light" / "bar" / "new.png", 2, np.random.default_rng(1), False)
    answer = cli(*deep)
    images = miniature.root / "light"
    assert answer.code == 1
    place = encoder_folder(cached) / "light"
    assert f"{place}: the images in {images} are not those that were encoded: bar/new.png is new or" in answer.out


def rewrite(path: Path, **changes) -> None:
    """A shard that was changed and signed again."""
    found = read_image_shard(path)
    parts = {"features": found.image_features, "paths": list(found.paths), "header": found.header}
    parts |= changes
    write_image_shard(
        path, parts["header"], parts["features"], parts["paths"], found.rows, found.contents, found.stamps
    )


def test_verify_finds_what_a_digest_cannot(cached):
    """Each shard is whole by itself, and still none belongs where it lies."""
    folder = encoder_folder(cached)
    shards = shard_files(folder / "light")
    header = read_image_shard(shards[1]).header
    rewrite(shards[1], header=replace(header, weights_sha256="f" * 64))
    rewrite(shards[2], paths=["../../etc/passwd", "bar/0.png", "square/6.png", "square/7.png"])
    dark = shard_files(folder / "dark")[0]
    shutil.copy(shards[0], dark)
    told = "\n".join(fault for entry in list_entries(cached) for fault in verify_entry(entry))
    assert f"{shards[1]} is in the wrong folder: encoder fingerprint: expected {folder.name[-8:]}, got " in told
    assert f"{shards[1]}: weights_sha256 differs from the first shard's: " in told
    assert f"{shards[2]}: paths that leave the data root: ../../etc/passwd" in told
    assert f"{shards[2]}: paths that stand in an earlier shard too: bar/0.png" in told
    assert f"{dark} is in the wrong folder: domain: expected dark, got light" in told
    assert f"{dark} holds other features than domain.json says" in told


def test_verify_deep_names_rows_whose_features_are_another_images(cached):
    shard = read_image_shard(shard_files(encoder_folder(cached) / "light")[0])
    features = shard.image_features.astype(np.float32)
    assert list(verify_features([shard], features[[0, 9]], [(0, 0), (0, 9)], 0.999)) == []
    (fault,) = verify_features([shard], features[[9, 9]], [(0, 0), (0, 9)], 0.999)
    assert fault.startswith(f"{shard.paths[0]}: encoded again it has a cosine of 0.")


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a/b.png", True), ("..b/c", True), ("../b", False), ("a/../../b", False), ("/etc/x", False), ("", False)],
)
def test_paths_that_leave_their_folder(name, inside):
    assert is_inside(name) is inside


def test_prune_asks_and_removes_only_what_nothing_needs(cli, cached, tmp_path):
    folder, runs = encoder_folder(cached), tmp_path / "runs"
    config = {"spec": {"dataset": "mini", "encoder_id": folder.name}}
    (runs / "r").mkdir(parents=True)
    (runs / "r" / "config.json").write_text(json.dumps(config))
    (runs / "bad").mkdir()
    (runs / "bad" / "config.json").write_text("[" * 100_000)
    old = cached / "mini" / "RN50_other_fp32-01234567"
    shutil.copytree(folder, old)
    damaged = shard_files(folder / "light")[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (folder / "light" / "shard-00002-01234567.h5.host-1.part").write_bytes(b"half")
    (folder / "text" / ".lock").write_text("")
    mine = folder / "light" / "notes.txt"
    mine.write_text("the user's own")
    before = {path for path in cached.rglob("*") if path.is_file()}
    command = ("cache", "prune", "--cache", cached, "--runs", runs)
    answer = cli(*command)  # nobody answers the question
    assert answer.code == 1 and {path for path in cached.rglob("*") if path.is_file()} == before
    assert [line.partition("  ")[2].strip().split("  (")[1] for line in answer.out.strip().splitlines()[:4]] == [
        "no recipe or run needs it)",
        "damaged; extract makes it again)",
        "left by a killed writer)",
        "left by a killed writer)",
    ]
    assert cli(*command, "--yes").out.endswith("4 removed\n")
    left = {path for path in cached.rglob("*") if path.is_file()}
    gone = {damaged, folder / "light" / "shard-00002-01234567.h5.host-1.part", folder / "text" / ".lock"}
    assert left == {path for path in before if old not in path.parents} - gone
    assert mine in left and not old.exists()
    assert cli(*command).out == f"nothing to remove in {cached}\n"


def test_links_are_not_followed(cached, tmp_path):
    """A link in the cache must not let prune or ls reach other folders."""
    outside = tmp_path / "outside" / "RN50_other_fp32-01234567"
    outside.mkdir(parents=True)
    (cached / "linked").symlink_to(outside.parent)
    assert {entry.dataset for entry in list_entries(cached)} == {"mini"}
    assert all(outside.parent not in item.path.parents for item in find_prunable_items(cached, set()))


def test_prune_passes_over_what_another_process_writes_by_name(cli, cached, tmp_path):
    """A living extract holds the lock of one domain: neither it nor the encoder's folder around it goes."""
    old = cached / "mini" / "RN50_other_fp32-01234567"
    shutil.copytree(encoder_folder(cached), old)
    part = cached / "embedded" / ".unimos-01234567-0123456789abcdef.part"
    (part / "icons").mkdir(parents=True)
    command = ("cache", "prune", "--cache", cached, "--runs", tmp_path / "none", "--yes")
    with exclusive_lock(old / "light", lock=domain_lock(old / "light")):
        answer = cli(*command)
        assert "in use by another process and left alone: " + str(old) in answer.err
        assert f"needed by 0 run(s) in {tmp_path / 'none'} and " in answer.err
        assert (old / "light").is_dir() and not part.exists()
    assert cli(*command).code == 0 and not old.exists()
    assert not list(cached.rglob("*.lock"))


def damage(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def test_damaged_imported_features_stay_until_they_are_named(cli, cached, miniature, tmp_path):
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32))
    bring = ("cache", "import", tmp_path / "f.npy", *miniature.args(cached), "--domain", "light")
    assert cli(*bring, "--encoder-name", "theirs").code == 0
    theirs = next((cached / "mini").glob("theirs*"))
    (shard,) = shard_files(theirs / "light")
    damage(shard)
    prune = ("cache", "prune", "--cache", cached, "--runs", tmp_path / "none", "--yes")
    answer = cli(*prune)
    assert answer.code == 0 and shard.is_file()
    assert (
        f"damaged or replaced shards of imported features are kept, as nothing can make them again: "
        f"{shard.relative_to(cached)}. Import them again; pruning with {theirs.name} named as imported removes them"
    ) in " ".join(answer.err.split())
    assert cli(*prune, "--imported", theirs.name).code == 0
    assert not shard.exists()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_cannot_be_read_is_not_damaged_and_nothing_is_pruned(error, cli, cached, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    spec = {"dataset": "mini", "encoder_id": encoder_folder(cached).name}
    (tmp_path / "runs" / "config.json").write_text(json.dumps({"spec": spec}))
    damage(shard_files(encoder_folder(cached) / "dark")[0])
    before, read = tree(cached), maintenance.read_image_shard

    def refuse(path: Path):
        if path.parent.name == "light":
            raise ReadError.of(path, error) if isinstance(error, OSError) else error
        return read(path)

    monkeypatch.setattr(maintenance, "read_image_shard", refuse)
    answer = cli("cache", "prune", "--cache", cached, "--runs", tmp_path / "runs", "--yes")
    assert answer.code == 1
    assert ("Input/output error. It may be sound" if isinstance(error, OSError) else "out of memory") in answer.err
    assert tree(cached) == before


def test_a_shard_that_was_made_again_since_it_was_listed_stays(cached, cli, tmp_path):
    shard = shard_files(encoder_folder(cached) / "dark")[0]
    whole = shard.read_bytes()
    damage(shard)
    (item,) = (item for item in find_prunable_items(cached, {("mini", encoder_folder(cached).name)}))
    shard.write_bytes(whole)
    assert not remove_if_unused(cached, item) and shard.read_bytes() == whole


def test_features_of_a_run_whose_config_is_damaged_are_needed(cached, tmp_path):
    """By its place, which names them."""
    folder = tmp_path / "runs" / "mini" / encoder_folder(cached).name / "dark-light" / "full" / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"spec": ')
    needed, count = find_needed_features(cached, tmp_path / "runs", ())
    assert ("mini", encoder_folder(cached).name) in needed and count == 0
