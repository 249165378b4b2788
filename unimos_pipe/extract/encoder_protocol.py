"""Protocol of encoders. Imports no torch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from unimos_pipe.cache.encoder_identity import EncoderIdentity

if TYPE_CHECKING:
    import torch

BATCHES_IN_FLIGHT = 3  # whose features a GPU still computes or copies when the next batch is started


class Encoder(Protocol):
    """A frozen encoder of images and sentences."""

    identity: EncoderIdentity
    preprocess: Callable
    device: "torch.device"
    logit_scale: float | None  # 1/T that the model learned, None for CLIP models

    def encode_images(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Return (n, D) float32 unit-norm features on the CPU of (n, H, W, 3) or (n, V, H, W, 3) uint8 pixels."""

    def start_encoding(self, pixels: "torch.Tensor") -> Callable[[], "torch.Tensor"]:
        """Start ``encode_images``; return a function that waits for the features. ``pixels`` must stay until then."""

    def encode_texts(self, sentences: Sequence[str]) -> "torch.Tensor":
        """Return (n, D) float32 unit-norm features on the CPU of n sentences."""
