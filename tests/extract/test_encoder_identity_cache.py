"""Cached encoder identities: a valid entry saves reading the weights, an invalid one is ignored."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from unimos_pipe.base.encoder_presets import EMBEDDED, ENCODERS
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.data import file_digests
from unimos_pipe.extract.encoder_identity_cache import load_identity, locate_weights_file, store_identity

IDENTITY = EncoderIdentity("a" * 64, "tinyclip-r24-64", "GELU", "", "fp32")


@pytest.fixture
def identity():
    from unimos_pipe.data.image_decoding import DECODER

    return replace(IDENTITY, preprocessing=json.dumps({"decoder": DECODER}))


@pytest.fixture
def weights(tmp_path) -> EncoderSpec:
    """An encoder whose weights are a file of long ago."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"weights")
    return EncoderSpec("tinyclip-r24-64", str(path), "fp32")


@pytest.fixture(autouse=True)
def _old_files(monkeypatch):
    monkeypatch.setattr(file_digests, "MIN_AGE", -(10**18))  # files are as old as they need be


def kept(cache: Path) -> Path:
    (path,) = (cache / ".encoders").iterdir()
    return path


def test_what_was_read_is_recalled_until_the_file_changes(tmp_path, weights, identity):
    cache = tmp_path / "cache"
    assert load_identity(cache, weights) is None
    store_identity(cache, weights, locate_weights_file(weights), identity)
    assert load_identity(cache, weights) == identity
    assert load_identity(cache, replace(weights, precision="bf16")) is None
    assert load_identity(cache, replace(weights, precision="auto")) is None
    whole = kept(cache).read_bytes()
    store_identity(cache, weights, locate_weights_file(weights), identity)  # at another moment
    assert kept(cache).read_bytes() == whole
    path = Path(weights.pretrained)
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and mtime as they were; ctime tells
    assert load_identity(cache, weights) is None
    path.unlink()
    assert load_identity(cache, weights) is None


def test_a_file_as_young_as_its_reading_is_read_again(tmp_path, weights, identity, monkeypatch):
    monkeypatch.setattr(file_digests, "MIN_AGE", 2_000_000_000)
    store_identity(tmp_path / "cache", weights, locate_weights_file(weights), identity)
    assert load_identity(tmp_path / "cache", weights) is None


def test_weights_that_changed_while_they_were_read_are_not_remembered(tmp_path, weights, identity):
    before = locate_weights_file(weights)
    Path(weights.pretrained).write_bytes(b"other weights")
    store_identity(tmp_path / "cache", weights, before, identity)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: "",
        lambda text: text.replace("a" * 64, "b" * 64),
        lambda text: signed("[]"),
        lambda text: signed("[" * 100_000),
        lambda text: signed(text.partition("\n")[2].replace('"torch"', '"other"')),
        lambda text: signed(text.partition("\n")[2].replace("alpha on white", "alpha on black")),
        lambda text: signed(text.partition("\n")[2].replace('"precision": "fp32"', '"precision": "fp16"')),
    ],
)
def test_a_damaged_or_older_memory_is_passed_over(tmp_path, weights, identity, damage):
    cache = tmp_path / "cache"
    store_identity(cache, weights, locate_weights_file(weights), identity)
    text = kept(cache).read_text()
    assert damage(text) != text
    kept(cache).write_text(damage(text))
    assert load_identity(cache, weights) is None


def signed(body: str) -> str:
    return f"{xxhash.xxh3_128(body.encode()).hexdigest()}\n{body}"


def test_only_specs_whose_file_tells_all_are_remembered(tmp_path):
    (tmp_path / "m.bin").touch()
    assert locate_weights_file(ENCODERS["tiny"]).path == str(EMBEDDED / "tinyclip-r24-64.safetensors")
    assert locate_weights_file(EncoderSpec(f"local-dir:{tmp_path}")) is None
    assert locate_weights_file(EncoderSpec("RN50", "no-such-tag")) is None


def test_a_forged_memory_costs_a_reading_and_nothing_else(cli, miniature, tmp_path):
    """Nothing encoded under a wrong name: the encoder is loaded, found to be another, and all is done with it."""
    cache = tmp_path / "cache"
    shutil.copy(EMBEDDED / "tinyclip-r24-64.safetensors", tmp_path / "w.safetensors")
    args = ("extract", *miniature.args(cache), "--all", "--data-root", miniature.root, "--workers", 0)
    args = (*args, "--pretrained", tmp_path / "w.safetensors")
    assert cli(*args).code == 0
    (folder,) = (cache / "mini").iterdir()
    text = kept(cache).read_text().partition("\n")[2]
    forged = text.replace("1fd650a7", "00000000", 1)
    assert forged != text
    kept(cache).write_text(signed(forged))
    answer = cli(*args)
    assert answer.code == 0 and "mini/dark: 24 rows, 0 encoded, 24 reused" in answer.err
    assert [path for path in (cache / "mini").iterdir() if path.is_dir()] == [folder]
    assert kept(cache).read_text().count("1fd650a7") == 1
