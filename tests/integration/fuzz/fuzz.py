"""Coverage-guided fuzzing of everything that is read from files others may have written. CI runs a short round.

    pip install atheris            # is part of the extra [test] where there is a wheel
    python tests/integration/fuzz/fuzz.py shard -max_total_time=600        # or: list, spec, recipe, run, export, all

A crash is any exception that is no UnimosPipeError. libFuzzer writes the input to ./crash-*; put it right, and keep the
input as a test in tests/integration/test_hostile.py. Further arguments are libFuzzer's (a corpus folder, -runs=N,
-seed=N).
"""

import atexit
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["unimos_pipe", "tomllib", "json"]):
    from unimos_pipe.base.errors import UnimosPipeError
    from unimos_pipe.cache import shard
    from unimos_pipe.data import row_lists
    from unimos_pipe.data.dataset_spec import load_spec
    from unimos_pipe.deploy import adapted_model, model_config
    from unimos_pipe.runs import read_run as run_reader
    from unimos_pipe.runs.read_recipe import load_recipe

import numpy as np
import torch
import xxhash
from safetensors.torch import save

from unimos_pipe.base.method_config import HeadSpec, MethodSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.methods.unimos.heads import initial_parameters

WORK = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
SEED_HEADER = {
    "weights_sha256": "0" * 64, "model": "m", "activation": "GELU", "preprocessing": "p", "precision": "fp32",
    "dataset": "d", "domain": "a", "row_start": 0, "row_stop": 3, "skipped": [], "read_at": 0, "origin": {},
    "versions": {}, "features_digest": "",
}  # fmt: skip


def read_toml(data: bytes, load) -> None:
    """The bytes as a .toml file."""
    path = WORK / "input.toml"
    path.write_bytes(data)
    with contextlib.suppress(UnimosPipeError):
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
        with contextlib.suppress(UnimosPipeError):
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
        "paths": np.array([b"a", b"b", b"c"]),
        "rows": np.arange(3),
        "contents": np.zeros((3, 16), np.uint8),
        "stamps": np.zeros((3, 5), np.int64),
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
    content = bytearray(shard._encode_file(attributes, arrays))
    for _ in range(provider.ConsumeIntInRange(0, 4)):  # a forger changes bytes of the index and signs it again
        content[provider.ConsumeIntInRange(len(content) - 900, len(content) - 17)] = provider.ConsumeIntInRange(0, 255)
    path.write_bytes(content[:-16] + xxhash.xxh3_128(bytes(content[:-16])).digest())


def read_run(data: bytes) -> None:
    """The bytes as the JSON files of a run's folder."""
    first, _, second = data.partition(b"\n\n")
    (WORK / "result.json").write_bytes(first)
    (WORK / "config.json").write_bytes(second)
    with contextlib.suppress(UnimosPipeError):
        run_reader.read_run(WORK)


def read_list(data: bytes) -> None:
    """The bytes as a manifest: a CSV, and a published list file."""
    path = WORK / "input.csv"
    path.write_bytes(data)
    for read in (row_lists.read_csv, row_lists.read_list):
        with contextlib.suppress(UnimosPipeError):
            read(path)


METHOD = MethodSpec(HeadSpec(bottleneck_dim=2, weight_hidden=2, discriminator_hidden=2))
SOUND_CONFIG = {
    "format": model_config.FORMAT, "classes": ["x", "y"], "encoder_id": "m_fp32-0", "method": "unimos",
    "about": {"dataset": "d", "source": "a", "target": "b", "accuracy": {"last": 0.5}, "rows": {"source": 3}},
    "options": asdict(METHOD), "temperature": None,
    "encoder": {**dict.fromkeys(EncoderIdentity.__dataclass_fields__, "0"), "weights_sha256": "0" * 64,
                "precision": "fp32", "activation": "GELU"},
}  # fmt: skip
VALUES = [None, True, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), "", "x", "\ud800", [], {}, [[0]]]
VALUES += ["F64", "F32", "F16", "I32", "U8", "BOOL", "F8_E4M3", "C64", [0, 4], [4, 4], [1, 8], [8], [4, 2], [16, 48]]


def sound_tensors() -> dict[str, torch.Tensor]:
    """A model of two classes and four features that fits :data:`SOUND_CONFIG`."""
    tensors = initial_parameters(4, 2, METHOD.heads, torch.Generator().manual_seed(0))
    tensors |= {"bottleneck_bn.running_mean": torch.zeros(2), "bottleneck_bn.running_var": torch.ones(2)}
    return tensors | {"label_prior": torch.full((2,), 0.5), "text_features": torch.eye(2, 4)}


SOUND_WEIGHTS = save(sound_tensors())
HEADER_LENGTH = int.from_bytes(SOUND_WEIGHTS[:8], "little")
HEADER, ARRAYS = json.loads(SOUND_WEIGHTS[8 : 8 + HEADER_LENGTH]), SOUND_WEIGHTS[8 + HEADER_LENGTH :]


def changed(value, provider):
    """A JSON value with some part of it, or all of it, in the fuzzer's choice."""
    if not isinstance(value, dict | list) or not value or provider.ConsumeIntInRange(0, 15) == 15:
        return provider.PickValueInList(VALUES)
    copy = value.copy()
    key = provider.PickValueInList(list(value) if isinstance(value, dict) else [*range(len(value))])
    if provider.ConsumeIntInRange(0, 7) == 7:
        del copy[key]
    else:
        copy[key] = changed(value[key], provider)
    return copy


def changed_text(value, provider) -> bytes:
    """JSON of the value with up to four parts changed, or the fuzzer's bytes."""
    if provider.ConsumeIntInRange(0, 7) == 7:
        return provider.ConsumeBytes(200)
    for _ in range(provider.ConsumeIntInRange(0, 4)):
        value = changed(value, provider)
    return json.dumps(value).encode()


def read_export(data: bytes) -> None:
    """An exported model whose config, safetensors header and arrays are sound but for the fuzzer's changes."""
    provider = atheris.FuzzedDataProvider(data)
    (WORK / model_config.CONFIG).write_bytes(changed_text(SOUND_CONFIG, provider))
    header = changed_text(HEADER, provider)
    length = len(header) if provider.ConsumeIntInRange(0, 7) < 7 else provider.ConsumeIntInRange(0, 2**64 - 1)
    arrays = ARRAYS[: provider.ConsumeIntInRange(0, len(ARRAYS))] if provider.ConsumeIntInRange(0, 7) == 7 else ARRAYS
    (WORK / model_config.WEIGHTS).write_bytes(length.to_bytes(8, "little") + header + arrays)
    with contextlib.suppress(UnimosPipeError):
        loaded = adapted_model.load(WORK, "cpu", allow_edited=True)
        loaded.predict_features(torch.ones(3, loaded.text.shape[1]))


TARGETS = {
    "shard": read_shard,
    "list": read_list,
    "spec": lambda data: read_toml(data, load_spec),
    "recipe": lambda data: read_toml(data, load_recipe),
    "run": read_run,
    "export": read_export,
}


def seeds(name: str) -> list[bytes]:
    """Inputs to start from: sound files, or choices for the targets that forge."""
    if name in ("spec", "recipe"):
        folder = {"spec": "data_manifests", "recipe": "pipelines"}[name]
        return [path.read_bytes() for path in sorted((Path(__file__).parents[3] / folder).glob("*.toml"))]
    if name == "list":
        return [b"path,class\na/1.png,x\nb/2.png,y\n", b"a/1.png 0\nb/2.png 1\n"]
    if name == "run":
        return [b'{"accuracy": {"last": 0.5}}\n\n{"identity": "identity", "spec": {}}']
    rng = random.Random(0)
    return [bytes(200), *(rng.randbytes(200) for _ in range(10))]


def fuzz(name: str, options: Sequence[str]) -> None:
    """Hand a target to libFuzzer, which ends the process."""
    folder = WORK / name
    folder.mkdir()
    for number, content in enumerate(seeds(name)):
        (folder / str(number)).write_bytes(content)
    atheris.Setup([sys.argv[0], *options, str(folder)], TARGETS[name])
    atheris.Fuzz()


def main(name: str, *options: str) -> None:
    """Fuzz one target, or all in turn, each in a fork of this process, which has imported everything."""
    for target in TARGETS if name == "all" else [name]:
        print(f"target {target}", file=sys.stderr, flush=True)
        child = os.fork()
        if child == 0:
            fuzz(target, options)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"target {target} crashed")


if __name__ == "__main__":
    main(*sys.argv[1:])
