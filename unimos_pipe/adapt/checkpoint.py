"""A stack's state between epochs in one safetensors file, so that an interrupted sweep goes on where it was."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from unimos_pipe.adapt.record import RunRecorder
from unimos_pipe.base.config import fingerprint
from unimos_pipe.base.files import replacing
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer

SECONDS_BETWEEN = 15.0
NOT_STARTED = BEFORE_TRAINING - 1


@dataclass
class Checkpoint:
    """The checkpoint file of one stack; ``path`` None keeps none."""

    path: Path | None
    key: str
    saved_at: float

    @classmethod
    def open(cls, folder: Path | None, identities: Sequence[str]) -> "Checkpoint":
        """The checkpoint of the stack of exactly these runs, in this order."""
        key = fingerprint(list(identities))
        return cls(folder / f"{key[:16]}.safetensors" if folder else None, key, time.monotonic())

    def load(self, trainer: Trainer, recorders: Sequence[RunRecorder | None]) -> int:
        """Restore trainer and recorders; returns the last epoch done, -2 where there is nothing (usable) to restore.

        A damaged or foreign file counts as none: the stack starts anew.
        """
        if self.path is None or not self.path.is_file():
            return NOT_STARTED
        try:
            with safe_open(self.path, "pt") as file:
                notes = json.loads(file.metadata()["unimos"])
            pairs = list(zip(recorders, notes["runs"], strict=True))
            if notes["key"] != self.key or any(recorder and note is None for recorder, note in pairs):
                return NOT_STARTED
            trainer.load_state(load_file(self.path, device=str(trainer.device)))
        except (SafetensorError, KeyError, ValueError, TypeError, OSError):
            return NOT_STARTED
        trainer.failures = {int(index): message for index, message in notes["failures"].items()}
        for recorder, note in pairs:
            if recorder:
                recorder.restore(note)
        return notes["epoch"]

    def save_if_due(self, epoch: int, trainer: Trainer, recorders: Sequence[RunRecorder | None]) -> None:
        """Write the state after an epoch if the last write was long enough ago."""
        if self.path is None or time.monotonic() - self.saved_at < SECONDS_BETWEEN:
            return
        notes = {
            "key": self.key,
            "epoch": epoch,
            "failures": trainer.failures,
            "runs": [recorder.memory() if recorder else None for recorder in recorders],
        }
        with replacing(self.path) as part:
            part.write_bytes(save(trainer.full_state(), {"unimos": json.dumps(notes)}))
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """The stack is finished: nothing to go on from."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
