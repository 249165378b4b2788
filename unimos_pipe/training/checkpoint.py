"""Checkpoint of a stack between epochs, so that an interrupted plan resumes.

The file is safetensors (the trainer's tensors, and ``notes``: JSON as bytes) followed by the xxh3 digest of its bytes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save

from unimos_pipe.base.atomic_io import atomic_write, recover_leftovers
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, read_bytes
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.training.run_recorder import RunRecorder

CHECKPOINTS = ".checkpoints"  # the folder's usual name
SAVE_INTERVAL = 15.0  # seconds
DIGEST_BYTES = 16
NOT_STARTED = BEFORE_TRAINING - 1
# What reading a damaged file raises, or one of another stack.
DAMAGE = (SafetensorError, KeyError, TypeError, ValueError, RecursionError)


@dataclass
class Checkpoint:
    """Checkpoint file of one stack; ``path`` None: no checkpoint."""

    path: Path | None
    key: str
    saved_at: float

    @classmethod
    def open(cls, folder: Path | None, identities: Sequence[str]) -> "Checkpoint":
        """Return the checkpoint of the stack with exactly these runs, in this order."""
        key = fingerprint(list(identities))
        return cls(folder / f"{key[:16]}.safetensors" if folder else None, key, time.monotonic())

    def load(self, trainer: Trainer, recorders: Sequence[RunRecorder | None]) -> tuple[int, str | None]:
        """Restore trainer and recorders, or leave them as they are.

        Returns:
            The last epoch done, -2 where there is nothing to go on from; and why a file that is there was refused.
        Raises:
            ReadError: a file that is there and cannot be read.
        """
        if self.path is None:
            return NOT_STARTED, None
        recover_leftovers(self.path)
        if not self.path.is_file():
            return NOT_STARTED, None
        try:
            notes, state = self._read_verified()
            pairs = list(zip(recorders, notes["runs"], strict=True))
            if any(recorder and "answers" not in (note or {}) for recorder, note in pairs):
                raise ValueError("it lacks a run that is to be trained")
            failures = {int(index): message for index, message in notes["failures"].items()}
            trainer.load_state_dict(state)
        except DAMAGE as error:
            reason = " ".join(str(error).split())[:120]
            return NOT_STARTED, f"checkpoint {self.path} is skipped ({reason}); its runs start from the beginning"
        trainer.failures = failures
        for recorder, note in pairs:
            if recorder:
                recorder.load_state_dict(note)
        return notes["epoch"], None

    def count_epochs(self) -> int:
        """Return the number of epochs from which training would resume: 0 without a sound checkpoint."""
        if self.path is None or not self.path.is_file():
            return 0
        try:
            return self._read_verified()[0]["epoch"] + 1
        except DAMAGE:
            return 0

    def _read_verified(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The notes and the trainer's state of the file. Raises ValueError, or what a damaged file raises."""
        content = memoryview(read_bytes(self.path, MAX_ARRAY_BYTES))
        if xxhash.xxh3_128(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
            raise ValueError("it is not what was written")
        state = load(bytes(content[:-DIGEST_BYTES]))
        notes = json.loads(state.pop("notes").numpy().tobytes())
        if notes["key"] != self.key:
            raise ValueError("it belongs to another stack")
        return notes, state

    def save_if_due(self, epoch: int, trainer: Trainer, recorders: Sequence[RunRecorder | None]) -> None:
        """Write the state after an epoch if the last write is at least :data:`SAVE_INTERVAL` seconds ago."""
        if self.path is None or time.monotonic() - self.saved_at < SAVE_INTERVAL:
            return
        notes = {
            "key": self.key,
            "epoch": epoch,
            "failures": trainer.failures,
            "runs": [recorder.state_dict() if recorder else None for recorder in recorders],
        }
        text = torch.frombuffer(bytearray(json.dumps(notes).encode()), dtype=torch.uint8)
        content = save({**trainer.state_dict(), "notes": text})
        with atomic_write(self.path) as part:
            part.write_bytes(content + xxhash.xxh3_128(content).digest())
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the checkpoint of a finished stack."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
