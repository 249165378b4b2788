"""Stage one on Ray: each shard is a task."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.ray_cluster import RayOptions, connect_ray
from unimos_pipe.cache.shard import first_difference
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.encoder_protocol import Encoder
from unimos_pipe.extract.plugin_encoder import open_encoder
from unimos_pipe.extract.write_shards import EncodeResult, ShardJob, encode_shards


def encode_on_cluster(
    job: ShardJob,
    indices: Sequence[int],
    encoder: Encoder,
    on_rows: Callable[[int], None],
    *,
    spec: EncoderSpec,
    options: RayOptions,
) -> EncodeResult:
    """Run :func:`unimos_pipe.extract.write_shards.encode_shards` on a cluster whose machines share images and cache.

    Args:
        encoder: of this process; only its identity and device are used.
        spec: how workers load their encoder, which must have the same identity.
    """
    spec = replace(spec, precision=encoder.identity.precision)
    # workers may run on other machines, so paths are absolute
    manifest = replace(job.manifest, root=job.manifest.root.absolute())
    files = tuple(path.absolute() for path in job.older_files)
    job = replace(job, manifest=manifest, folder=job.folder.absolute(), older_files=files)
    if Path(spec.pretrained).is_file():
        spec = replace(spec, pretrained=str(Path(spec.pretrained).absolute()))
    total = EncodeResult()
    with connect_ray(options) as cluster:
        shared = job, spec, encoder.device.type, max(1, int(options.cpus))
        for index, result in cluster.run(_encode_shard, indices, *shared):
            total.add(result)
            on_rows(job.rows(index))
    return total


def _encode_shard(index: int, job: ShardJob, spec: EncoderSpec, device: str, threads: int) -> EncodeResult:
    """Encode one shard in a worker process."""
    encoder = _load_encoder(spec, device, threads)
    if difference := first_difference(job.encoder, encoder.identity):
        field, expected, got = difference
        raise ExecutionError(
            f"a worker's encoder differs: {field}",
            expected=expected,
            got=got,
            todo="Install the same weights and the same unimos-pipe on every machine",
        )
    return encode_shards(job, [index], encoder)


@functools.lru_cache(maxsize=1)
def _load_encoder(spec: EncoderSpec, device: str, threads: int) -> ClipEncoder:
    """Return the encoder of this process, loaded once."""
    torch.set_num_threads(threads)
    return open_encoder(spec, torch.device(device))
