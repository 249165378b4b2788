"""Cache of encoder identities, so that an extraction with nothing to encode loads neither model nor torch.

``<cache>/.encoders/*.json`` hold an encoder's identity, the path and the stamp of the weights file it was read
from, and the versions it was read with. What is damaged, older or of another file is passed over: the weights are read.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.encoder_presets import EMBEDDED, PRESETS
from unimos_pipe.base.errors import ReadError, UnimosPipeError
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.method_config import DEFAULT_VIEWS, EncoderSpec
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.cache.encoder_identity import EncoderIdentity, is_weights_name, is_weights_path, recorded_views
from unimos_pipe.data.file_digests import FileRecord, stat_file
from unimos_pipe.data.image_decoding import DECODER
from unimos_pipe.extract.encoder_protocol import Encoder
from unimos_pipe.extract.write_shards import library_versions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightsFile:
    """A weights file as it was found: its absolute path, its stamp (:func:`file_stamp`), and when (ns)."""

    path: str
    stamp: tuple[int, ...]
    read_at: int


def locate_weights_file(spec: EncoderSpec) -> WeightsFile | None:
    """Return a spec's weights file without importing open_clip; None if it is unknown or missing.

    Tags are known for presets only. ``local-dir:`` and ``hf-hub:`` models depend on more files than their weights.
    """
    if is_weights_name(spec.model):
        return None
    if spec.pretrained == "embedded":
        path = EMBEDDED / f"{spec.model}.safetensors"
    elif is_weights_path(spec.pretrained):
        path = Path(spec.pretrained)
    else:
        path = _find_preset_weights(spec)
    try:
        record = path and stat_file(path)
    except ReadError:
        return None
    return record and WeightsFile(str(path.absolute()), record.stamp, record.read_at)


def _find_preset_weights(spec: EncoderSpec) -> Path | None:
    from unimos_pipe.extract.hub import HubFile, cached_weights  # importing the hub's client is slow

    repositories = (preset.hub for preset in PRESETS.values() if preset.hub and _have_same_weights(preset.spec, spec))
    repository = next(repositories, None)
    return repository and cached_weights(HubFile(repository))


def _have_same_weights(first: EncoderSpec, second: EncoderSpec) -> bool:
    return (first.model, first.pretrained) == (second.model, second.pretrained)


def identity_path(cache: Path, spec: EncoderSpec, weights: WeightsFile) -> Path:
    """Return the cache file of the identity of a spec's encoder."""
    views = [] if spec.views == DEFAULT_VIEWS else [spec.views]
    key = fingerprint([spec.model, spec.pretrained, spec.precision, weights.path, *views])
    return cache / ".encoders" / f"{key[:16]}.json"


def load_identity(cache: Path, spec: EncoderSpec) -> EncoderIdentity | None:
    """Return the cached identity of a spec's encoder, or None if its weights must be read."""
    weights = None if spec.precision == "auto" else locate_weights_file(spec)
    if weights is None:
        return None
    try:
        digest, _, body = read_text(identity_path(cache, spec, weights), MAX_SETTINGS_BYTES).partition("\n")
        if digest != xxhash.xxh3_128(body.encode()).hexdigest():
            return None
        values = json.loads(body)
        recorded = FileRecord(tuple(values["weights"]["stamp"]), values["weights"]["read_at"], b"")
        valid = recorded.is_unchanged(weights.stamp) and values["versions"] == library_versions()
        identity = EncoderIdentity(**values["identity"])
        valid &= json.loads(identity.preprocessing)["decoder"].startswith(DECODER)
        valid &= (identity.model, identity.precision) == (spec.model, spec.precision)
        valid &= recorded_views(identity) == spec.views
    except (ReadError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return identity if valid else None


def store_identity(cache: Path, spec: EncoderSpec, weights: WeightsFile | None, identity: EncoderIdentity) -> None:
    """Store the identity of a spec's encoder if ``weights`` is still the file that was read; ignore write errors."""
    if load_identity(cache, spec) == identity:
        return
    if (
        weights is None
        or (current := locate_weights_file(spec)) is None
        or (current.path, current.stamp) != (weights.path, weights.stamp)
    ):
        return
    body = json.dumps({"weights": asdict(weights), "versions": library_versions(), "identity": asdict(identity)})
    path = identity_path(cache, spec, weights)
    with contextlib.suppress(OSError, UnimosPipeError), writer_lock(path, wait=True):
        write_text(path, f"{xxhash.xxh3_128(body.encode()).hexdigest()}\n{body}")


class EncoderIdentityChangedError(Exception):
    """The loaded encoder differs from the cached identity."""


class LazyEncoder:
    """An encoder of cached identity that is loaded on first use."""

    def __init__(self, identity: EncoderIdentity, load: Callable[[], Encoder]):
        """``load`` returns the encoder. Its first use raises EncoderIdentityChangedError if the identity differs."""
        self.identity, self._load = identity, load

    @cached_property
    def encoder(self) -> Encoder:
        """The loaded encoder."""
        encoder = self._load()
        if encoder.identity != self.identity:
            raise EncoderIdentityChangedError
        return encoder

    @property
    def preprocess(self) -> Callable:
        """Function from an image to (H, W, 3) uint8 pixels."""
        return self.encoder.preprocess

    @property
    def device(self) -> "torch.device":
        """Device of the encoder."""
        return self.encoder.device

    @property
    def logit_scale(self) -> float | None:
        """1/T that the model learned, or None, see :func:`unimos_pipe.extract.encoder.native_logit_scale`."""
        return self.encoder.logit_scale

    def encode_images(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Return (n, D) float32 unit-norm features on the CPU of (n, H, W, 3) uint8 pixels."""
        return self.encoder.encode_images(pixels)

    def start_encoding(self, pixels: "torch.Tensor") -> Callable[[], "torch.Tensor"]:
        """Start :meth:`encode_images`; return a function that waits for the features."""
        return self.encoder.start_encoding(pixels)

    def encode_texts(self, sentences: Sequence[str]) -> "torch.Tensor":
        """Return (n, D) float32 unit-norm features on the CPU of n sentences."""
        return self.encoder.encode_texts(sentences)
