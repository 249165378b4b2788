"""A run's folder: what shaped it, what it measured each epoch, what it answered, and its weights.

``result.json`` is written last; a folder without it is unfinished. No file but it holds times, so equal runs give
equal bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unimos_pipe.base.config import MethodSpec, fingerprint
from unimos_pipe.base.errors import UserError

PREDICTION_COLUMNS = ("path", "class", "probability", "vac", "vac_probability", "lac", "lac_probability")
FILES = (  # in the order of removal: without a result a folder is unfinished
    "result.json",
    "config.json",
    "metrics.jsonl",
    "predictions.csv",
    "heads.safetensors",
    "sample.safetensors",
)


@dataclass(frozen=True)
class RunSpec:
    """Everything that shapes a run but the shards it reads."""

    dataset: str
    encoder_id: str
    source: str
    target: str
    variant: str
    seed: int
    templates: tuple[str, ...]
    method: MethodSpec
    changed: dict[str, Any] = field(default_factory=dict)  # options that set it apart from its variant's plain run
    protocol: str = "transductive"  # or inductive: learn from the target's train rows, score its test rows

    def label(self) -> str:
        """``no-im`` or ``full,inductive,alpha=0.1``: the run's part in a table, and its folder's name."""
        protocol = ["inductive"] if self.protocol == "inductive" else []
        changed = (f"{key.rpartition('.')[2]}={value}" for key, value in self.changed.items())
        return ",".join([self.variant, *protocol, *changed])

    def folder(self, runs: Path) -> Path:
        """Where the run lives below a runs folder."""
        pair = f"{self.source}-{self.target}"
        return runs / self.dataset / self.encoder_id / pair / self.label() / f"seed{self.seed}"


def run_identity(spec: RunSpec, shard_digests: Mapping[str, list[str]]) -> str:
    """Fingerprint of a run's spec and of the shards it reads: equal identity, equal run."""
    return fingerprint([asdict(spec), dict(shard_digests)])


def finished_result(folder: Path, identity: str | None = None) -> dict[str, Any] | None:
    """A finished run's result, or None; with ``identity``, only if the run was made from exactly that."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not (isinstance(result, dict) and isinstance(config, dict)):
        return None
    return result if identity in (None, config.get("identity")) else None


def check_folder(folder: Path, force: bool) -> None:
    """Raise UserError if the folder holds files that no run wrote or, without ``force``, a finished run."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not empty and no run's folder; choose another --out")
    if not force and finished_result(folder) is not None:
        raise UserError(f"{folder} holds a finished run; add --force to train it again, or choose another --out")
