"""A run's folder, written while the run trains."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from unimos_pipe.adapt.scores import score
from unimos_pipe.adapt.validators import validators
from unimos_pipe.base.cells import name_to_cell, path_to_cell
from unimos_pipe.base.files import replacing, write_text
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.pseudo_labels import Assessment, assess
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import EpochRecord
from unimos_pipe.runs.folder import FILES, PREDICTION_COLUMNS, RunSpec, run_identity

SAMPLE_ROWS = 1000


@dataclass
class RunRecorder:
    """Writes one run's folder while it trains."""

    folder: Path
    spec: RunSpec
    data: PairData
    lines: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    zero_shot: dict[str, Any] | None = None

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin the folder afresh: ``config.json``, and the epochs known so far. ``about`` joins the config."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)
        config = {
            "identity": run_identity(self.spec, self.data.shard_digests),
            "spec": asdict(self.spec),
            "label": self.spec.label(),
            "classes": self.data.held_out.classes,
            "encoder": asdict(self.data.encoder),
            "shards": self.data.shard_digests,
            **about,
        }
        write_text(self.folder / "config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        self._append(*self.lines)

    def memory(self) -> dict[str, Any]:
        """What :meth:`restore` needs to go on from here, as plain values."""
        return {"lines": self.lines, "zero_shot": self.zero_shot}

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Take over the memory of an interrupted recorder; call it before :meth:`start`."""
        self.lines, self.zero_shot = memory["lines"], memory["zero_shot"]

    def add(self, record: EpochRecord) -> Assessment:
        """Append an epoch's line to ``metrics.jsonl``, scored where labels are known; returns what was scored."""
        found, scored = record.assessment, self._scored(record)
        scores = self._scores(scored)
        if record.epoch == BEFORE_TRAINING:
            self.zero_shot = scores["lac"]
        line = {
            "epoch": record.epoch,
            "losses": record.losses,
            "train_weight": record.train_weight,
            "inference_weight": found.weight,
            "accuracy": {name: value and value["accuracy"] for name, value in scores.items()},
            "per_class_mean": {name: value and value["per_class_mean"] for name, value in scores.items()},
            "validators": validators(found.probabilities, found.bottleneck)
            | ({} if record.source_accuracy is None else {"source": record.source_accuracy}),
        }
        self.lines.append(line)
        self._append(line)
        return scored

    def _scored(self, record: EpochRecord) -> Assessment:
        """The view to score: the trainer's own, or one of the target's test rows, from which nothing flows back."""
        test = self.data.held_out.features
        if test is None:
            return record.assessment
        return assess(record.heads, test, self.data.task.text_features, record.epoch, self.spec.method.eval)

    def _append(self, *lines: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def _scores(self, found: Assessment) -> dict[str, dict[str, Any] | None]:
        answers = {"ensemble": found.predictions, "vac": found.vac_predictions, "lac": found.text_predictions}
        scores = {name: score(predictions, self.data.held_out) for name, predictions in answers.items()}
        return {name: value and asdict(value) for name, value in scores.items()}

    def finish(
        self, final: Assessment, state: dict[str, torch.Tensor], sample: dict[str, torch.Tensor], seconds: float
    ) -> dict[str, Any]:
        """Write predictions, weights, sample and, last, ``result.json``; returns the result."""
        self._write_predictions(final)
        state = {**state, "text_features": self.data.task.text_features.cpu().clone()}
        for name, tensors in (("heads.safetensors", state), ("sample.safetensors", sample)):
            with replacing(self.folder / name) as part:
                part.write_bytes(save({key: tensor.contiguous() for key, tensor in tensors.items()}))
        result = self._result(final, seconds)
        write_text(self.folder / "result.json", json.dumps(result, indent=1) + "\n")
        return result

    def _write_predictions(self, final: Assessment) -> None:
        held_out: HeldOutLabels = self.data.held_out
        names = [name_to_cell(name) for name in held_out.classes]
        top = final.probabilities.max(-1)
        columns = [
            [path_to_cell(path) for path in self.data.scored_paths],
            [names[k] for k in top.indices.tolist()],
            [f"{p:.6f}" for p in top.values.tolist()],
            [names[k] for k in final.vac_predictions.tolist()],
            [f"{p:.6f}" for p in final.vac_confidence.tolist()],
            [names[k] for k in final.text_predictions.tolist()],
            [f"{p:.6f}" for p in final.text_confidence.tolist()],
        ]
        head = list(PREDICTION_COLUMNS)
        if held_out.labels is not None:
            head.append("label")
            columns.append([names[k] for k in held_out.labels.tolist()])
        with replacing(self.folder / "predictions.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(zip(*columns, strict=True))

    def _result(self, final: Assessment, seconds: float) -> dict[str, Any]:
        scores, held_out = self._scores(final), self.data.held_out
        epochs = [line for line in self.lines if line["epoch"] > BEFORE_TRAINING]
        accuracy = None
        if scores["ensemble"]:
            best = max(epochs, key=lambda line: line[held_out.metric]["ensemble"])
            accuracy = {
                "last": scores["ensemble"],
                "vac": scores["vac"],
                "lac": scores["lac"],
                "zero_shot": self.zero_shot,
                "oracle_best": _epoch_figures(best),
            }
        picks = {name: max(epochs, key=lambda line: line["validators"][name]) for name in epochs[0]["validators"]}
        task = self.data.task
        return {
            "protocol": self.spec.protocol,
            "metric": held_out.metric,
            "source_rows": len(task.source.features),
            "target_rows": len(task.target.features),
            "scored_rows": len(self.data.scored_paths),
            "classes": len(held_out.classes),
            "accuracy": accuracy,
            "selected": {name: _epoch_figures(line) for name, line in picks.items()},
            "seconds": round(seconds, 3),
        }


def _epoch_figures(line: Mapping[str, Any]) -> dict[str, Any]:
    """The ensemble's figures of one epoch's line in ``metrics.jsonl``."""
    return {"epoch": line["epoch"], **{name: line[name]["ensemble"] for name in ("accuracy", "per_class_mean")}}


@torch.no_grad()
def untrained_sample(task: AdaptationTask, heads: Heads) -> dict[str, torch.Tensor]:
    """What :func:`sample_features` shows from before training: ``<side>_rows``, ``_image``, ``_bottleneck_before``.

    At most 1,000 evenly spaced rows a domain; features are float16, the bottleneck is that of x itself.
    """
    sample: dict[str, torch.Tensor] = {}
    for side, domain in (("source", task.source), ("target", task.target)):
        count = len(domain.features)
        rows = torch.from_numpy(np.linspace(0, count - 1, min(count, SAMPLE_ROWS)).round().astype(np.int64))
        x = domain.features[rows.to(domain.features.device)]
        sample[f"{side}_rows"] = rows
        sample[f"{side}_image"] = _compact(x)
        sample[f"{side}_bottleneck_before"] = _compact(heads.bottleneck(x.unsqueeze(0))[0])
    return sample


@torch.no_grad()
def sample_features(task: AdaptationTask, before: dict[str, torch.Tensor], heads: Heads) -> dict[str, torch.Tensor]:
    """The sample rows as every part of the trained method sees them, for figures.

    Returns:
        ``before`` with ``<side>_lac``, ``_vac`` (m, D) and ``_bottleneck_after`` (m, H), float16, and
        ``source_labels`` (m,).
    """
    sample = dict(before)
    sample["source_labels"] = task.source.labels.cpu()[before["source_rows"]]
    for side, domain in (("source", task.source), ("target", task.target)):
        x = domain.features[before[f"{side}_rows"].to(domain.features.device)].unsqueeze(0)
        f_vac = heads.vac(x)
        sample[f"{side}_vac"], sample[f"{side}_lac"] = _compact(f_vac[0]), _compact(heads.lac(x)[0])
        sample[f"{side}_bottleneck_after"] = _compact(heads.bottleneck(f_vac)[0])
    return sample


def _compact(features: torch.Tensor) -> torch.Tensor:
    return features.to("cpu", torch.float16)
