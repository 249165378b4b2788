"""Shards: what is written is what is read, and nothing damaged, forged or swapped is ever used."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from unimos_pipe.base.errors import ExecutionError, StaleCacheError, UnimosPipeError
from unimos_pipe.cache import shard
from unimos_pipe.cache.shard import (
    ImageHeader,
    TextHeader,
    read_header,
    read_image_shard,
    read_text_shard,
)
from unimos_pipe.cache.shard_footer import find_features

HEADER = ImageHeader(
    "0" * 64, "RN50", "GELU", "{}", "fp32",
    dataset="d", domain="a", row_start=4, row_stop=8, skipped=(("cup/bad.jpg", "OSError: no image", "00" * 16),),
    read_at=5, origin={}, versions={"torch": "2.15"},
)  # fmt: skip
CONTENTS, STAMPS = np.arange(48, dtype=np.uint8).reshape(3, 16), np.arange(15).reshape(3, 5)
PATHS = ["cup/é.jpg", "cup/b.jpg", "bus/日.jpg"]


def unit(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    features = np.random.default_rng(seed).standard_normal((rows, dim))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


WRITTEN = replace(HEADER, features_digest=xxhash.xxh3_128(unit(3, 16).astype(np.float16)).hexdigest())


def write(path: Path, header: ImageHeader = HEADER) -> Path:
    shard.write_image_shard(path, header, unit(3, 16), PATHS, np.array([4, 6, 7]), CONTENTS, STAMPS)
    return path


def resign(path: Path, content: bytes) -> Path:
    """Write a shard's bytes with the digest a forger would give them."""
    path.write_bytes(content[:-16] + xxhash.xxh3_128(content[:-16]).digest())
    return path


def forge(path: Path, arrays: dict | None = None, **changes) -> Path:
    """A shard with a right digest whose attributes (JSON texts) or arrays are not what a writer makes."""
    attributes = {name: json.dumps(value) for name, value in asdict(HEADER).items()}
    attributes = {"schema": shard.SCHEMA, "kind": "image", **attributes, **changes}
    plain = {
        "image_features": unit(3, 16).astype(np.float16),
        "paths": np.array([name.encode() for name in PATHS]),
        "rows": np.array([4, 6, 7]),
        "contents": CONTENTS,
        "stamps": STAMPS,
    }
    path.write_bytes(shard._encode_file(attributes, {**plain, **(arrays or {})}))
    return path


def test_stamps_of_earlier_versions_are_those_of_no_file(tmp_path):
    """They lack device and inode; the images are read again, and nothing is encoded again."""
    found = read_image_shard(forge(tmp_path / "s.h5", {"stamps": STAMPS[:, 2:]}))
    assert np.array_equal(found.stamps, np.concatenate([np.full((3, 2), -1), STAMPS[:, 2:]], 1))


def test_read_equals_written(tmp_path):
    found = read_image_shard(write(tmp_path / "s.h5"))
    assert found.header == WRITTEN == read_header(tmp_path / "s.h5")
    assert np.array_equal(found.image_features, unit(3, 16).astype(np.float16))
    assert (found.paths, found.rows.tolist()) == (tuple(PATHS), [4, 6, 7])
    assert np.array_equal(found.contents, CONTENTS) and np.array_equal(found.stamps, STAMPS)
    assert read_image_shard(forge(tmp_path / "t.h5")).header == HEADER  # the forger's starting point is sound


def test_features_are_read_into_memory_that_is_given(tmp_path):
    path = write(tmp_path / "s.h5")
    offset, shape = find_features(path)
    memory = np.zeros(shape, np.float16)
    found, plain = read_image_shard(path, (memory, offset)), read_image_shard(path)
    assert found.image_features is memory and np.array_equal(memory, plain.image_features)
    assert (found.header, found.paths) == (plain.header, plain.paths) and np.array_equal(found.stamps, plain.stamps)
    for wrong in ((memory, offset + 2), (memory[:2], offset), (memory.reshape(6, 8), offset)):
        with pytest.raises(StaleCacheError, match="is damaged or not a shard"):
            read_image_shard(path, wrong)
    path.write_bytes(path.read_bytes()[:-40])
    assert find_features(path) is None
    with pytest.raises(StaleCacheError, match="do not match their digest"):
        read_image_shard(path, (memory, offset))


def test_any_hdf5_tool_opens_a_shard(tmp_path):
    with h5py.File(write(tmp_path / "s.h5")) as file:
        assert file["image_features"].dtype == np.float16 and file["image_features"].chunks is None
        assert np.array_equal(file["image_features"], unit(3, 16).astype(np.float16))
        assert [name.decode() for name in file["paths"]] == PATHS
        assert (file.attrs["kind"], json.loads(file.attrs["row_stop"])) == ("image", 8)
        assert file["contents"].shape == (3, 16) and file["stamps"].dtype == np.int64


def test_a_text_shard_is_no_image_shard(tmp_path):
    header = TextHeader(
        "0" * 64, "RN50", "GELU", "{}", "fp32", ("a", "b"), (("an a", "a b"),),
        dataset="d", word="w", templates=("a {class}",), versions={},
    )  # fmt: skip
    shard.write_text_shard(tmp_path / "t.h5", header, unit(2, 8))
    found = read_text_shard(tmp_path / "t.h5")
    assert found.header == header and np.array_equal(found.text_features, unit(2, 8))
    with pytest.raises(StaleCacheError) as caught:
        read_image_shard(tmp_path / "t.h5")
    assert str(caught.value) == (
        f"{tmp_path / 't.h5'}: expected schema 3, kind image, got schema 3, kind text. "
        "Make these features again: extract with force=True"
    )


def test_features_that_are_not_finite_are_never_written(tmp_path):
    features = unit(3, 16)
    features[1, 3] = np.nan
    with pytest.raises(ExecutionError) as caught:
        shard.write_image_shard(tmp_path / "s.h5", HEADER, features, PATHS, np.array([4, 6, 7]), CONTENTS, STAMPS)
    assert str(caught.value) == (
        "s.h5: the encoder's feature of cup/b.jpg: expected unit norm, got nan. Check the weights, or try "
        "precision='fp32'"
    )
    assert list(tmp_path.iterdir()) == []


def corrupt(content: bytes, other: bytes, kind: int, rng: random.Random) -> bytes:
    """One of five ways to spoil a shard."""
    changed = bytearray(content)
    if kind == 0:  # one bit
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 1:  # a run of random bytes
        start = rng.randrange(len(content) - 64)
        changed[start : start + 64] = rng.randbytes(64)
    elif kind == 2:  # cut off
        changed = changed[: rng.randrange(len(content))]
    elif kind == 3:  # a hole of zeros, as a lost block leaves
        start = rng.randrange(len(content) - 512)
        changed[start : start + 512] = bytes(512)
    else:  # part of another shard
        start = rng.randrange(64, len(content) - 64)
        changed[start:] = other[start:]
    return bytes(changed)


def test_sixty_corruptions_are_all_found(tmp_path):
    """Bits, bytes, cuts, holes and splices anywhere in a shard: reading refuses each with one line."""
    content = write(tmp_path / "s.h5").read_bytes()
    other = write(tmp_path / "o.h5", replace(HEADER, domain="b", weights_sha256="f" * 64)).read_bytes()
    rng = random.Random(0)
    found = 0
    for number in range(60):
        spoilt = corrupt(content, other, number % 5, rng)
        if spoilt in (content, other):
            spoilt = content[:-1]
        (tmp_path / "s.h5").write_bytes(spoilt)
        with pytest.raises(StaleCacheError, match=r"s\.h5.*Delete it and run extract again"):
            read_image_shard(tmp_path / "s.h5")
        found += 1
    assert found == 60


@pytest.mark.parametrize(
    ("changes", "arrays"),
    [
        ({"row_start": '"4"'}, {}),
        ({"row_start": "true"}, {}),
        ({"skipped": '[["a", "b", 3]]'}, {}),
        ({"skipped": "[" * 100_000}, {}),
        ({"skipped": '[["only one"]]'}, {}),
        ({"read_at": "1.5"}, {}),
        ({"read_at": "true"}, {}),
        ({"row_stop": "9" * 5000}, {}),
        ({"row_stop": "7"}, {}),
        ({"versions": "[]"}, {}),
        ({}, {"contents": CONTENTS[:2]}),
        ({}, {"contents": CONTENTS.astype(np.int64)}),
        ({}, {"stamps": STAMPS[:, :2]}),
        ({}, {"stamps": STAMPS.astype(np.uint8)}),
        ({}, {"rows": np.array([4, 7, 6])}),
        ({}, {"rows": np.array([4, 6, 8])}),
        ({}, {"rows": np.array([4, 6])}),
        ({}, {"image_features": unit(3, 16)}),
        ({}, {"image_features": np.zeros((2, 16), np.float16)}),
        ({}, {"image_features": np.zeros(3, np.float16)}),
        ({}, {"paths": np.array([b"a", b"\xff", b"c"])}),
        ({}, {"paths": np.array([1, 2, 3])}),
    ],
)
def test_a_forged_shard_is_refused_although_its_digest_holds(changes, arrays, tmp_path):
    with pytest.raises(StaleCacheError, match=r"s\.h5.*Delete it and run extract again"):
        read_image_shard(forge(tmp_path / "s.h5", arrays, **changes))


@pytest.mark.parametrize(
    "place",
    [
        ["<f2", [1 << 40, 16], 0],
        ["<f2", [-3, -16], 0],
        ["<f2", [3, 16], 1 << 40],
        ["<f2", [3, 16], -8],
        ["O", [3], 0],
        ["V4", [3], 0],
        ["<f2", "3", 0],
        [None, [3, 16], 0],
        ["<f2", [0, 1 << 62], 0],
        [",f2", [3], 0],  # numpy parses it as Python: a SyntaxError, found by fuzzing
    ],
)
def test_an_index_that_points_elsewhere_is_refused(place, tmp_path):
    """No size is believed: what lies outside the file's own bytes cannot be had, nor can objects."""
    content = write(tmp_path / "s.h5").read_bytes()
    length = int.from_bytes(content[-24:-16], "little")
    index = json.loads(content[-24 - length : -24])
    index["arrays"]["image_features"] = place
    text = json.dumps(index).encode()
    forged = content[: -24 - length] + text + len(text).to_bytes(8, "little") + bytes(16)
    with pytest.raises(StaleCacheError, match=r"s\.h5"):
        read_image_shard(resign(tmp_path / "s.h5", forged))


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=300), signed=st.booleans())
def test_no_bytes_at_all_make_a_traceback(data, signed, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.h5"
    if signed:
        resign(path, data + bytes(16))
    else:
        path.write_bytes(data)
    for read in (read_image_shard, read_text_shard, read_header):
        with pytest.raises(UnimosPipeError):
            read(path)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(asdict(HEADER))), value=_json)
def test_any_json_in_any_field_is_the_fields_type_or_refused(name, value, tmp_path_factory):
    path = forge(tmp_path_factory.getbasetemp() / "field.h5", **{name: json.dumps(value)})
    try:
        found = getattr(read_image_shard(path).header, name)
    except StaleCacheError:
        return
    assert type(found) is type(getattr(HEADER, name))


def test_the_file_that_crashed_hdf5_is_refused(tmp_path):
    """Found by fuzzing: a byte changed in the HDF5 structures killed the process when h5py opened the file."""
    content = bytearray(write(tmp_path / "s.h5").read_bytes())
    content[8:64] = bytes(range(56))  # the superblock
    (tmp_path / "s.h5").write_bytes(content)
    with pytest.raises(StaleCacheError, match="the contents do not match their digest, the file is damaged"):
        read_image_shard(tmp_path / "s.h5")
    resign(tmp_path / "s.h5", bytes(content))
    assert read_image_shard(tmp_path / "s.h5").header == WRITTEN  # signed by a forger: HDF5's structures are not read
