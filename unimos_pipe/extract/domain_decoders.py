"""Decoder processes of several domains. Imports no torch until the first image is decoded."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.encoder_protocol import Encoder

if TYPE_CHECKING:
    import torch

    from unimos_pipe.extract.image_loader import Decoders


class DomainDecoders:
    """Decoder processes that the first domain with new images starts, and that stay for the others.

    A context manager. They end with the batches of the last domain, or with the block.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        encoder: Encoder,
        batch_size: int,
        *,
        workers: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ):
        """Start nothing yet.

        Args:
            manifests: all domains that may be read.
            encoder: its preprocessing and its device are used.
            batch_size: images per batch.
            workers: decoder processes; None: by the device.
            max_pixels: largest image that is read.
        """
        self.manifests, self.encoder = manifests, encoder
        self.batch_size = min(batch_size, max(map(len, manifests)))
        self.workers, self.max_pixels = workers, max_pixels
        self.stack = contextlib.ExitStack()
        self.decoders: Decoders | None = None

    def __enter__(self) -> "DomainDecoders":
        return self

    def __exit__(self, *exception) -> None:
        self._close()

    def read_batches(
        self, manifest: Manifest, batches: Sequence[Sequence[int]], on_look: Callable[[int, bool, str], None]
    ) -> Iterator[tuple[list[int], "torch.Tensor", list[tuple[int, str]]]]:
        """Yield what :meth:`unimos_pipe.extract.image_loader.Decoders.read_batches` does for one of the manifests."""
        if self.decoders is None:
            self.decoders = self.stack.enter_context(self._open())
        number = next(number for number, other in enumerate(self.manifests) if other is manifest)
        yield from self.decoders.read_batches(number, batches, on_look)
        if manifest is self.manifests[-1]:
            self._close()

    def _close(self) -> None:
        self.decoders = None
        self.stack.close()

    def _open(self) -> "Decoders":
        from unimos_pipe.extract.image_loader import Decoders, resolve_worker_count  # importing torch takes seconds

        device = self.encoder.device
        return Decoders(
            [(manifest.root, manifest.paths) for manifest in self.manifests],
            self.encoder.preprocess,
            self.batch_size,
            resolve_worker_count(self.workers, device),
            on_gpu=device.type == "cuda",
            max_pixels=self.max_pixels,
        )
