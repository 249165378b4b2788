"""Compressed log of every epoch's predictions, so a run can be re-scored after its labels change."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BRANCHES = ("ensemble", "vac", "lac")


@dataclass
class PredictionLog:
    """(3, n) class ids per epoch, in the order of :data:`BRANCHES`.

    Epochs are stored as XOR deltas, so unchanged predictions cost almost nothing.
    """

    classes: int
    parts: list[bytes] = field(default_factory=list)  # zlib of each epoch's ids, XORed with those of the epoch before
    last: np.ndarray | None = None

    def add(self, predictions: np.ndarray) -> None:
        """Append an epoch's (3, n) class ids."""
        ids = np.ascontiguousarray(predictions, _id_type(self.classes))
        self.parts.append(zlib.compress(ids if self.last is None else ids ^ self.last, 1))
        self.last = ids

    def to_bytes(self) -> np.ndarray:
        """Return all epochs as (bytes,) uint8, the input of :func:`from_bytes`."""
        return np.frombuffer(b"".join(self.parts), np.uint8)

    def get_state(self) -> list[str]:
        """Return the log as JSON values, the input of :meth:`set_state`."""
        return [base64.b64encode(part).decode() for part in self.parts]

    def set_state(self, memory: Sequence[str], rows: int) -> None:
        """Restore a log of n rows from :meth:`get_state`."""
        self.parts = [base64.b64decode(part) for part in memory]
        self.last = from_bytes(self.to_bytes(), len(self.parts), rows, self.classes)[-1] if self.parts else None


def from_bytes(packed: np.ndarray, epochs: int, rows: int, classes: int) -> np.ndarray:
    """Return the (epochs, 3, n) class ids of :meth:`PredictionLog.to_bytes`. Raises ValueError on other sizes."""
    dtype, remaining = np.dtype(_id_type(classes)), packed.tobytes()
    size, epochs_ids = len(BRANCHES) * rows * dtype.itemsize, []
    for _ in range(epochs):
        reader = zlib.decompressobj()
        try:
            part = reader.decompress(remaining, size + 1)
        except zlib.error as error:
            raise ValueError(f"predictions that cannot be read: {error}") from None
        if len(part) != size or not reader.eof:
            raise ValueError("predictions of another number of rows or epochs")
        ids, remaining = np.frombuffer(part, dtype).reshape(len(BRANCHES), rows), reader.unused_data
        epochs_ids.append(ids ^ epochs_ids[-1] if epochs_ids else ids)
    if remaining or any((ids >= classes).any() for ids in epochs_ids):
        raise ValueError("predictions of another number of epochs or classes")
    return np.stack(epochs_ids)


def _id_type(classes: int) -> type:
    return np.uint8 if classes <= 1 << 8 else np.uint16 if classes <= 1 << 16 else np.uint32
