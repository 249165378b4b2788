"""What stage one needs of an encoder; tests may bring their own. Imports no torch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from unimos_pipe.cache.encoder_identity import EncoderIdentity

if TYPE_CHECKING:
    import torch


class Encoder(Protocol):
    """A frozen encoder of images and sentences, of known identity."""

    identity: EncoderIdentity
    preprocess: Callable
    device: "torch.device"
    logit_scale: float | None  # 1/T of a model that has one of its own

    def encode_images(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """(n, H, W, 3) uint8 pixels as ``preprocess`` makes them -> (n, D) float32 unit-norm features on the CPU."""

    def start_encoding(self, pixels: "torch.Tensor") -> Callable[[], "torch.Tensor"]:
        """As ``encode_images``, given back as a function that waits for the features; until then pixels must stay."""

    def encode_texts(self, sentences: Sequence[str]) -> "torch.Tensor":
        """n sentences -> (n, D) float32 unit-norm features on the CPU."""
