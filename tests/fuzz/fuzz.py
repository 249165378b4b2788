"""Coverage-guided fuzzing of everything that is read from files others may have written. Not part of CI.

    pip install atheris
    python tests/fuzz/fuzz.py shard -max_total_time=600        # or: spec, recipe, list, run

A crash is any exception that is no PipeError. libFuzzer writes the input to ./crash-*; put it right, and keep the
input as a test in tests/test_hostile.py. Further arguments are libFuzzer's (a corpus folder, -runs=N, -seed=N).
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["unimos_pipe", "tomllib", "json"]):
    from unimos_pipe import listfiles, run, shard
    from unimos_pipe.errors import PipeError
    from unimos_pipe.manifest import load_spec
    from unimos_pipe.recipe import load_recipe

import numpy as np
import xxhash

WORK = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
SEED_HEADER = {
    "weights_sha256": "0" * 64, "model": "m", "activation": "GELU", "preprocessing": "p", "precision": "fp32",
    "manifest_digest": "1" * 64, "dataset": "d", "domain": "a", "class_names": ["x", "y"], "row_start": 0,
    "row_stop": 3, "row_total": 3, "skipped": [], "versions": {},
}  # fmt: skip


def read_toml(data: bytes, load) -> None:
    """The bytes as a .toml file."""
    path = WORK / "input.toml"
    path.write_bytes(data)
    with contextlib.suppress(PipeError):
        load(str(path))


def read_shard(data: bytes) -> None:
    """A shard whose digest is right but whose header and arrays are the fuzzer's, or a sound one with bytes changed."""
    provider = atheris.FuzzedDataProvider(data)
    path = WORK / "input.h5"
    if provider.ConsumeBool():
        forge(path, provider)
    else:
        forge(path, atheris.FuzzedDataProvider(b""))
        content = bytearray(path.read_bytes())
        for _ in range(provider.ConsumeIntInRange(1, 8)):
            content[provider.ConsumeIntInRange(0, len(content) - 1)] = provider.ConsumeIntInRange(0, 255)
        path.write_bytes(content[: provider.ConsumeIntInRange(0, len(content))] if provider.ConsumeBool() else content)
    for read in (shard.read_image_shard, shard.read_header, shard.read_text_shard):
        with contextlib.suppress(PipeError):
            read(path)


def forge(path: Path, provider) -> None:
    """Write a shard with a right digest from the fuzzer's choices; without any, a sound one."""
    attributes = {"schema": shard.SCHEMA, "kind": "image"}
    for name, value in SEED_HEADER.items():
        text = json.dumps(value)
        if provider.remaining_bytes() and provider.ConsumeIntInRange(0, 3) == 3:
            text = provider.ConsumeUnicodeNoSurrogates(40).replace("\0", "")
        attributes[name] = text
    arrays = {
        "image_features": np.eye(3, 4, dtype=np.float16),
        "labels": np.zeros(3, np.int64),
        "paths": np.array([b"a", b"b", b"c"]),
        "rows": np.arange(3),
    }
    for name in arrays:
        if provider.remaining_bytes() and provider.ConsumeIntInRange(0, 3) == 3:
            kind = provider.PickValueInList(["float16", "float32", "int64", "S3", "S0", "uint8"])
            shape = provider.PickValueInList([(), (0,), (3,), (2,), (3, 4), (3, 0), (1, 3, 4)])
            raw = provider.ConsumeBytes(64)
            count = int(np.prod(shape, dtype=int))
            kind = np.dtype(kind) if kind != "S0" else np.dtype("S1")
            raw = raw.ljust(count * kind.itemsize, b"\0")[: count * kind.itemsize]
            arrays[name] = np.frombuffer(raw, kind).reshape(shape).copy()
    content = bytearray(shard._file_content(attributes, arrays))
    for _ in range(provider.ConsumeIntInRange(0, 4)):  # a forger changes bytes of the index and signs it again
        content[provider.ConsumeIntInRange(len(content) - 900, len(content) - 17)] = provider.ConsumeIntInRange(0, 255)
    path.write_bytes(content[:-16] + xxhash.xxh3_128(bytes(content[:-16])).digest())


def read_run(data: bytes) -> None:
    """The bytes as the JSON files of a run's folder."""
    first, _, second = data.partition(b"\n\n")
    (WORK / "result.json").write_bytes(first)
    (WORK / "config.json").write_bytes(second)
    run.finished_result(WORK, "identity")
    run.finished_result(WORK)


def read_list(data: bytes) -> None:
    """The bytes as a manifest: a CSV, and a published list file."""
    path = WORK / "input.csv"
    path.write_bytes(data)
    for read in (listfiles.read_csv, listfiles.read_list):
        with contextlib.suppress(PipeError):
            read(path)


TARGETS = {
    "shard": read_shard,
    "list": read_list,
    "spec": lambda data: read_toml(data, load_spec),
    "recipe": lambda data: read_toml(data, load_recipe),
    "run": read_run,
}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
