"""Measurements of a run during training, kept in memory and written as a run folder at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unimos_pipe.base.plugins import outside_method
from unimos_pipe.base.record_parsing import parse_record, to_plain
from unimos_pipe.data.manifest import NO_LABEL, UNKNOWN_CLASS
from unimos_pipe.evaluation.diagnostics import PairReference, run_diagnostics, setting_validators
from unimos_pipe.evaluation.metrics import score_predictions, score_zero_shot
from unimos_pipe.evaluation.validators import validator_scores, validator_tensors
from unimos_pipe.methods.method_code import method_code
from unimos_pipe.methods.task import AdaptationTask, PairData
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.pseudo_labels import CHUNK, TargetEvaluation, evaluate_target
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import EpochRecord, EpochSnapshot
from unimos_pipe.methods.unimos.training_run import raised_steps_of_spec
from unimos_pipe.runs.method_names import CITATIONS, METHODS, citation
from unimos_pipe.runs.run_spec import RunSpec, run_identity
from unimos_pipe.runs.run_values import (
    Accuracies,
    Calibration,
    EpochScores,
    RecordedSpec,
    RunConfig,
    RunMetrics,
    Scores,
)
from unimos_pipe.runs.write_run import LABEL_COLUMN, RunContents, write_run
from unimos_pipe.training.environment import command_line
from unimos_pipe.training.prediction_log import PredictionLog
from unimos_pipe.training.unknown_rows import RunUnknowns

SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class FinalState:
    """State at the end of training: tensors, provenance for ``config.json`` and the pair's reference predictions."""

    evaluation: TargetEvaluation
    model: UniMoSModel
    heads: dict[str, torch.Tensor]
    sample: dict[str, torch.Tensor]
    environment: Mapping[str, Any]  # of config.json
    stack: Mapping[str, Any]  # of result.json: with how many runs it trained, and a fingerprint of these
    seconds: float
    reference: PairReference
    calibration: Calibration | None
    unknown: RunUnknowns | None


@dataclass
class RunRecorder:
    """Collects the measurements of one run and writes its folder."""

    folder: Path
    spec: RunSpec
    data: PairData
    lines: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    zero_shot: Scores | None = None

    def __post_init__(self):
        self.prediction_log = PredictionLog(len(self.data.held_out.classes))

    def state_dict(self) -> dict[str, Any]:
        """Return the recorder's state as JSON values, the input of :meth:`load_state_dict`."""
        zero_shot = self.zero_shot and to_plain(self.zero_shot)
        return {"lines": self.lines, "zero_shot": zero_shot, "answers": self.prediction_log.get_state()}

    def load_state_dict(self, memory: Mapping[str, Any]) -> None:
        """Restore the recorder from :meth:`state_dict`."""
        self.prediction_log.set_state(memory["answers"], len(self.data.scored_paths))
        self.lines, zero_shot = memory["lines"], memory["zero_shot"]
        self.zero_shot = zero_shot and parse_record(Scores, zero_shot)

    def measure(self, snapshot: EpochSnapshot) -> dict[str, torch.Tensor]:
        """Return the inputs of :meth:`add` as small tensors on the snapshot's device."""
        evaluation, scored = snapshot.evaluation, self.evaluate_scored_rows(snapshot)
        figures = validator_tensors(evaluation.probabilities, evaluation.bottleneck)
        return {"answers": stack_predictions(scored), **figures}

    def add(self, record: EpochRecord) -> None:
        """Append an epoch's line of ``metrics.jsonl``, with accuracies if labels are known."""
        evaluation, predictions = record.evaluation, record.measured["answers"]
        scores = self._score_branches(predictions)
        self.prediction_log.add(predictions.numpy())
        if evaluation.epoch == BEFORE_TRAINING:
            self.zero_shot = score_zero_shot(self.data) if scores["lac"] else None
        line = {
            "epoch": evaluation.epoch,
            "losses": record.losses,
            "train_weight": record.train_weight,
            "inference_weight": evaluation.weight,
            **split_by_metric(scores),
            "validators": validator_scores(record.measured, *evaluation.probabilities.shape)
            | ({} if record.source_accuracy is None else {"source": record.source_accuracy}),
        }
        self.lines.append(line)

    def evaluate_scored_rows(self, snapshot: EpochSnapshot) -> TargetEvaluation:
        """Return the evaluation of the scored rows: the trainer's own, or one of the target's test rows (inductive)."""
        test_features = self.data.held_out.features
        if test_features is None:
            return snapshot.evaluation
        epoch = snapshot.evaluation.epoch
        return evaluate_target(snapshot.heads, test_features, snapshot.text, epoch, self.spec.options.eval)

    def _score_branches(self, predictions: torch.Tensor) -> "BranchScores":
        """Return the scores of (3, n) :func:`stack_predictions` by branch."""
        named = zip(("ensemble", "vac", "lac"), predictions, strict=True)
        return {name: score_predictions(class_ids, self.data.held_out) for name, class_ids in named}

    def write(self, final: FinalState) -> RunMetrics:
        """Write the run folder; return the values of its ``result.json``."""
        evaluation, raw = final.evaluation, final.evaluation.probabilities
        calibrated = raw
        if final.calibration:
            logits = map(final.model.logits, self.data.held_out.rows(self.data.task).split(CHUNK))
            calibrated = (torch.cat(list(logits)) / final.calibration.temperature).softmax(-1)
        predictions = {
            "class": (evaluation.predictions, gather_probabilities(calibrated, evaluation.predictions)),
            **({"raw": (None, gather_probabilities(raw, evaluation.predictions))} if final.calibration else {}),
            "vac": (evaluation.vac_predictions, evaluation.vac_confidence),
            "lac": (evaluation.text_predictions, evaluation.text_confidence),
        }
        sample = {name: tensor.numpy() for name, tensor in final.sample.items()}
        contents = RunContents(
            config=build_run_config(self.spec, self.data, {"environment": final.environment}),
            epochs=self.lines,
            predictions=build_prediction_columns(self.data, predictions, final.unknown),
            heads={name: tensor.numpy() for name, tensor in (final.heads | scorer_tensors(final.unknown)).items()},
            sample={**sample, "answers": self.prediction_log.to_bytes()},
            result=self._build_result(final, raw, calibrated),
        )
        write_run(self.folder, contents)
        return contents.result

    def _build_result(self, final: FinalState, raw: torch.Tensor, calibrated: torch.Tensor) -> RunMetrics:
        evaluation, held_out = final.evaluation, self.data.held_out
        scores = self._score_branches(stack_predictions(evaluation))
        accuracy, selected = summarise_epochs(self.lines, scores, self.zero_shot, held_out.metric)
        branches = evaluation.vac_predictions, evaluation.text_predictions
        last_validators = self.lines[-1]["validators"]
        return RunMetrics(
            **result_counts(self.spec, self.data),
            accuracy=accuracy,
            selected=selected,
            seconds=round(final.seconds, 3),
            stack=dict(final.stack),
            command=command_line(),
            validators=last_validators | setting_validators(final.reference, raw, evaluation.bottleneck),
            **run_diagnostics(final.reference, held_out, raw, calibrated, final.calibration, branches),
            unknown=final.unknown and final.unknown.score(evaluation.predictions, held_out),
        )


def stack_predictions(evaluation: TargetEvaluation) -> torch.Tensor:
    """Return the (3, n) class ids predicted by the ensemble, VAC and LAC."""
    return torch.stack([evaluation.predictions, evaluation.vac_predictions, evaluation.text_predictions])


BranchScores = Mapping[str, Scores | None]  # of ensemble, vac and lac; None without target labels


def split_by_metric(scores: BranchScores) -> dict[str, dict[str, float | None]]:
    """Return the accuracies of an epoch's scores by metric and branch, as ``metrics.jsonl`` stores them."""
    metrics = ("accuracy", "per_class_mean")
    return {metric: {name: value and getattr(value, metric) for name, value in scores.items()} for metric in metrics}


def summarise_epochs(
    lines: Sequence[Mapping[str, Any]], last: BranchScores, zero_shot: Scores | None, metric: str
) -> tuple[Accuracies | None, dict[str, EpochScores]]:
    """Return ``accuracy`` and ``selected`` of ``result.json`` from ``metrics.jsonl``'s lines and the last scores."""
    epochs = [line for line in lines if line["epoch"] > BEFORE_TRAINING]
    accuracy = None
    if last["ensemble"]:
        accuracy = Accuracies(
            last=last["ensemble"],
            vac=last["vac"],
            lac=last["lac"],
            zero_shot=zero_shot,
            oracle_best=_epoch_accuracies(oracle_epoch(epochs, metric)),
        )
    picks = {name: picked_epoch(epochs, name) for name in epochs[0]["validators"]}
    return accuracy, {name: _epoch_accuracies(line) for name, line in picks.items()}


def training_identity(spec: RunSpec, data: PairData) -> str:
    """Return the identity of a run's training. Runs that differ only in their labels for scoring have the same."""
    return run_identity(spec, data.shard_digests, data.held_out.metric, raised_steps_of_spec(spec, data.task))


def pair_identity(spec: RunSpec, data: PairData) -> str:
    """Return the identity of a run on a loaded pair: its training inputs and its labels for scoring."""
    digests = {**data.shard_digests, "scored labels": data.scored_labels}
    return run_identity(spec, digests, data.held_out.metric, raised_steps_of_spec(spec, data.task))


def build_run_config(spec: RunSpec, data: PairData, provenance: Mapping[str, Any]) -> RunConfig:
    """Return the values of ``config.json``."""
    cited = None if spec.method in CITATIONS else citation(spec.method)
    return RunConfig(
        identity=pair_identity(spec, data),
        training=training_identity(spec, data),
        spec=RecordedSpec(**{**asdict(spec), "settings": _all_settings(spec)}, changed=spec.changed),
        label=spec.label(),
        classes=data.held_out.classes,
        encoder=asdict(data.encoder),
        shards={name: tuple(digests) for name, digests in data.shard_digests.items()},
        code=method_code(spec.method, tuple(dict(spec.options.loss.extra))),
        citation=cited or None,
        **provenance,
    )


def _all_settings(spec: RunSpec) -> dict[str, Any]:
    """Return every setting of a method from outside the package; nothing for a shipped one."""
    outside = None if spec.method in METHODS else outside_method(spec.method)
    return outside.all_settings(spec.settings) if outside else {}


def build_prediction_columns(
    data: PairData,
    predictions: Mapping[str, tuple[torch.Tensor | None, torch.Tensor]],
    unknown: RunUnknowns | None,
) -> dict[str, Sequence[str]]:
    """Return the columns of ``predictions.csv`` from (n,) class ids and (n,) probabilities by name.

    ``raw`` has only probabilities: those of ``class`` before calibration. With ``unknown``, the class of a row may be
    none of the classes.
    """
    names = data.held_out.classes
    columns: dict[str, Sequence[str]] = {"path": data.scored_paths}
    for name, (classes, probabilities) in predictions.items():
        if classes is not None:
            columns[name] = [names[k] for k in classes.tolist()]
        column = "probability" if name == "class" else f"{name}_probability"
        columns[column] = [f"{p:.6f}" for p in probabilities.tolist()]
    columns |= unknown.columns(list(columns["class"])) if unknown else {}
    return columns | build_label_column(data)


def scorer_tensors(unknown: RunUnknowns | None) -> dict[str, torch.Tensor]:
    """Return the tensors of the scorer of new rows; none without one."""
    return unknown.scorer.state_dict() if unknown else {}


def build_label_column(data: PairData) -> dict[str, list[str]]:
    """Return the label column of ``predictions.csv``; empty if no row has a label."""
    names, labels, unknown = data.held_out.classes, data.held_out.labels, data.held_out.unknown
    if labels is None and unknown is None:
        return {}
    labels = np.full(len(data.scored_paths), NO_LABEL) if labels is None else labels
    column = ["" if k == NO_LABEL else names[k] for k in labels.tolist()]
    for row in [] if unknown is None else np.flatnonzero(unknown).tolist():
        column[row] = UNKNOWN_CLASS
    return {LABEL_COLUMN: column}


def gather_probabilities(probabilities: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the (n,) probabilities of (n,) classes from (n, K) probabilities."""
    return probabilities.gather(1, classes.unsqueeze(1)).squeeze(1)


def result_counts(spec: RunSpec, data: PairData) -> dict[str, Any]:
    """Return the first entries of every ``result.json``: protocol, metric, counts and the spec file."""
    taught = data.task.target_labels
    return {
        "protocol": spec.protocol,
        "metric": data.held_out.metric,
        "source_rows": len(data.task.source.features),
        "target_rows": len(data.task.target.features),
        "scored_rows": len(data.scored_paths),
        "labelled_rows": len(data.held_out.labelled),
        "taught_rows": taught and len(taught.rows),
        "classes": len(data.held_out.classes),
        "dataset_file": data.dataset_file,
    }


def oracle_epoch(epochs: Sequence[Mapping[str, Any]], metric: str) -> Mapping[str, Any]:
    """Return the line with the best accuracy or per_class_mean by target labels; the first of equal ones."""
    return max(epochs, key=lambda line: line[metric]["ensemble"])


def picked_epoch(epochs: Sequence[Mapping[str, Any]], validator: str) -> Mapping[str, Any]:
    """Return the line with the highest score of a label-free validator; the first of equal ones."""
    return max(epochs, key=lambda line: line["validators"][validator])


def _epoch_accuracies(line: Mapping[str, Any]) -> EpochScores:
    """Return the ensemble's accuracies in one line of ``metrics.jsonl``."""
    metrics = {name: line[name]["ensemble"] for name in ("accuracy", "per_class_mean")}
    return EpochScores(epoch=line["epoch"], **metrics)


def sample_images(task: AdaptationTask) -> dict[str, torch.Tensor]:
    """Return at most 1,000 evenly spaced rows per domain: ``<side>_rows``, ``_image`` (float16), ``source_labels``."""
    sample: dict[str, torch.Tensor] = {}
    for side, domain in (("source", task.source), ("target", task.target)):
        count = len(domain.features)
        rows = torch.from_numpy(np.linspace(0, count - 1, min(count, SAMPLE_ROWS)).round().astype(np.int64))
        sample[f"{side}_rows"] = rows
        sample[f"{side}_image"] = _to_cpu_float16(domain.features[rows.to(domain.features.device)])
    return sample | {"source_labels": task.source.labels.cpu()[sample["source_rows"]]}


@torch.no_grad()
def sample_before_training(task: AdaptationTask, heads: Heads) -> dict[str, torch.Tensor]:
    """Return the image sample and its bottleneck features before training, ``<side>_bottleneck_before`` (float16).

    These bottleneck features are those of x itself, not of f_vac.
    """
    sample = sample_images(task)
    for side, domain in (("source", task.source), ("target", task.target)):
        x = domain.features[sample[f"{side}_rows"].to(domain.features.device)]
        sample[f"{side}_bottleneck_before"] = _to_cpu_float16(heads.bottleneck(x.unsqueeze(0))[0])
    return sample


@torch.no_grad()
def sample_after_training(
    task: AdaptationTask, before: dict[str, torch.Tensor], heads: Heads
) -> dict[str, torch.Tensor]:
    """Return the features of the sample rows in every part of the trained method, for figures.

    Returns:
        ``before`` with ``<side>_lac``, ``_vac`` (m, D) and ``_bottleneck_after`` (m, H), float16.
    """
    sample = dict(before)
    for side, domain in (("source", task.source), ("target", task.target)):
        x = domain.features[before[f"{side}_rows"].to(domain.features.device)].unsqueeze(0)
        f_vac = heads.vac(x)
        sample[f"{side}_vac"], sample[f"{side}_lac"] = _to_cpu_float16(f_vac[0]), _to_cpu_float16(heads.lac(x)[0])
        sample[f"{side}_bottleneck_after"] = _to_cpu_float16(heads.bottleneck(f_vac)[0])
    return sample


def _to_cpu_float16(features: torch.Tensor) -> torch.Tensor:
    return features.to("cpu", torch.float16)
