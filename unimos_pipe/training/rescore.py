"""Re-score a finished run with other target labels, without training."""

from dataclasses import replace

import numpy as np
import torch

from unimos_pipe.evaluation.diagnostics import labelled_metrics
from unimos_pipe.evaluation.metrics import score_predictions, score_zero_shot
from unimos_pipe.evaluation.open_set import score_unknown_rows
from unimos_pipe.methods.task import PairData
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.pseudo_labels import CHUNK
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Reliability, RunMetrics, Unknown
from unimos_pipe.runs.write_run import HEADS, LABEL_COLUMN, SAMPLE, RunContents, write_run
from unimos_pipe.training.prediction_log import BRANCHES, from_bytes
from unimos_pipe.training.run_recorder import (
    BranchScores,
    build_label_column,
    pair_identity,
    result_counts,
    split_by_metric,
    summarise_epochs,
    training_identity,
)


def is_relabelled(run: FinishedRun, spec: RunSpec, data: PairData) -> bool:
    """Return whether a run has equal inputs and differs only in the labels it is scored by."""
    return run.config.training == training_identity(spec, data) and run.identity != pair_identity(spec, data)


def can_be_rescored(run: FinishedRun) -> bool:
    """Return whether a run has a prediction log. Methods other than UniMoS have none: fitting them again is as fast."""
    return run.method == UNIMOS and "answers" in run.arrays(SAMPLE)


def rescore_run(run: FinishedRun, spec: RunSpec, data: PairData) -> RunMetrics:
    """Rewrite a run folder with every value that depends on labels; return the values of its ``result.json``.

    Accuracies of every epoch, the best epoch, the metrics of the selected epochs, the reliability (from the stored
    weights) and the label column are recomputed. Weights, predictions, losses and validators stay.

    Raises:
        ValueError: the stored predictions do not belong to this run.
    """
    scores = _score_epochs(run, data)
    lines = [{**line, **split_by_metric(epoch_scores)} for line, epoch_scores in zip(run.epochs, scores, strict=True)]
    zero_shot = score_zero_shot(data)
    accuracy, selected = summarise_epochs(lines, scores[-1], zero_shot, data.held_out.metric)
    columns = {name: [row[name] for row in run.predictions] for name in run.predictions[0] if name != LABEL_COLUMN}
    contents = RunContents(
        config=replace(run.config, identity=pair_identity(spec, data)),
        epochs=lines,
        predictions=columns | build_label_column(data),
        heads=run.arrays(HEADS),
        sample=run.arrays(SAMPLE),
        result=replace(
            run.result,
            **result_counts(spec, data),
            accuracy=accuracy,
            selected=selected,
            reliability=_measure_reliability(run, spec, data),
            unknown=_score_unknown_rows(run, data),
        ),
    )
    write_run(run.folder, contents)
    return contents.result


def _score_unknown_rows(run: FinishedRun, data: PairData) -> Unknown | None:
    """Return the values of unknown rows with scores against the new labels; None if the run has none."""
    values = run.result.unknown
    if values is None:
        return None
    ids = {name: k for k, name in enumerate(data.held_out.classes)}
    predictions = torch.tensor([ids[row["known_class"]] for row in run.predictions])
    scores = torch.tensor([float(row["unknown_score"]) for row in run.predictions], dtype=torch.float64)
    return replace(values, scores=score_unknown_rows(predictions, scores, values.threshold, data.held_out))


def _score_epochs(run: FinishedRun, data: PairData) -> list[BranchScores]:
    """Return the scores of every epoch's predictions, by branch."""
    classes = len(data.held_out.classes)
    epochs = from_bytes(run.arrays(SAMPLE)["answers"], len(run.epochs), len(data.scored_paths), classes)
    scores = []
    for predictions in epochs.astype(np.int64):
        values = [score_predictions(torch.from_numpy(ids), data.held_out) for ids in predictions]
        scores.append(dict(zip(BRANCHES, values, strict=True)))
    return scores


@torch.no_grad()
def _measure_reliability(run: FinishedRun, spec: RunSpec, data: PairData) -> Reliability | None:
    """Return the calibration metrics of the run's probabilities against the labels."""
    rows = data.held_out.rows(data.task)
    state = {name: torch.from_numpy(array) for name, array in run.arrays(HEADS).items()}
    heads = Heads.from_state(state, spec.options.heads, rows.device)
    model = UniMoSModel(heads, state["text_features"].to(rows.device), spec.options)
    logits = torch.cat([model.logits(part) for part in rows.split(CHUNK)])
    calibration = run.result.calibration
    calibrated = (logits / calibration.temperature).softmax(-1) if calibration else None
    return labelled_metrics(data.held_out, logits.softmax(-1), calibrated)
