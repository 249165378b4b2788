"""Every method on labelled features: accuracy, regret, loss to zero-shot, estimates, calibration, seconds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import torch

from unimos_pipe.base.errors import InputError, suggestions
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.bench.feature_pairs import PARTIAL, VARIANTS, LabelledPair, make_variants, read_pairs
from unimos_pipe.bench.method_results import MethodResult, hash_inputs, read_results, write_results
from unimos_pipe.evaluation.calibration import calibration_metrics, match_temperature
from unimos_pipe.evaluation.diagnostics import PairReference, PairReferenceCache, estimate_run_accuracy
from unimos_pipe.methods import ensemble3, ensv, zero_shot
from unimos_pipe.methods.auto import fit_auto
from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.method_names import AUTO, OTHER_METHODS, UNIMOS

SELECTORS = (AUTO, "ensv")  # not among those whose best is the measure of regret
LOSS = -0.01  # to zero-shot, that counts as one
# Methods of other methods' outputs, which are not fitted again; their seconds include those of the parts.
COMBINED = {"ensemble3": ("fused", "linear-im"), "ensv": tuple(ensv.CANDIDATES)}


@dataclass(frozen=True)
class MethodSummary:
    """A method over the pairs of a variant, or of all. ``accuracy`` and ``regret`` are means over data sets."""

    method: str
    pairs: int
    accuracy: float
    regret: float
    worst_regret: float
    worst_gain: float
    losses: int  # pairs more than 1 point below zero-shot
    estimate_error: float | None
    estimated: float  # share of the pairs
    covered: float | None  # share of the estimated
    ece: float
    ece_matched: float | None
    seconds: float


@dataclass(frozen=True)
class MethodsBench:
    """Result of :func:`bench_methods`, and means by variant; ``all`` is over the data sets of all variants."""

    results: tuple[MethodResult, ...]

    def summaries(self) -> dict[str, list[MethodSummary]]:
        """Return summaries of each method by variant, and over all variants if there are several."""
        variants = list(dict.fromkeys(result.variant for result in self.results))
        groups = {variant: [result for result in self.results if result.variant == variant] for variant in variants}
        if len(groups) > 1:
            groups["all"] = list(self.results)
        return {
            name: [
                summarise([result for result in group if result.method == method])
                for method in dict.fromkeys(result.method for result in group)
            ]
            for name, group in groups.items()
        }


def bench_methods(
    paths: Sequence[str | Path],
    methods: Sequence[str] = OTHER_METHODS,
    variants: Sequence[str] = VARIANTS,
    pairs: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    reporter: ProgressReporter = NO_PROGRESS,
) -> MethodsBench:
    """Fit methods to every variant of every pair of labelled features, in float32 on the CPU.

    Args:
        paths: files and folders, as :func:`unimos_pipe.bench.feature_pairs.read_pairs` takes them.
        methods: of :data:`unimos_pipe.runs.method_names.METHODS`; UniMoS trains for seconds a pair, with seed 0.
        variants: of :data:`unimos_pipe.bench.feature_pairs.VARIANTS`.
        pairs: ``SRC->TGT``; of a file that has none of them, all.
        out: a CSV of all results, written after every pair. If it exists, the pairs that it lacks are measured.
    Raises:
        InputError: unknown names, a file of another form, or ``out`` of other arguments or another version.
    """
    for name in methods:
        if name not in (UNIMOS, *OTHER_METHODS):
            raise InputError(f"unknown method {name!r}; {suggestions(name, (UNIMOS, *OTHER_METHODS))}")
    tasks = list(make_variants([pair for path in paths for pair in read_pairs(Path(path), pairs)], variants))
    inputs = [hash_inputs(pair) for pair in tasks]
    results = read_results(Path(out), inputs, methods) if out else {}
    if results:
        reporter.note(f"{out} has {len(results)} of {len(tasks)} pairs; the others are measured")
    with reporter.progress("methods", len(tasks) - len(results), "pairs") as advance:
        for key, pair in zip(inputs, tasks, strict=True):
            if key in results:
                continue
            results[key] = measure_pair(pair, methods)
            if out:
                write_results(Path(out), results)
            advance(1)
    return MethodsBench(tuple(result for key in inputs for result in results[key]))


def measure_pair(pair: LabelledPair, methods: Sequence[str]) -> list[MethodResult]:
    """Fit methods to a pair and score them by its target's labels."""
    task, labels = pair.task(), torch.from_numpy(pair.target.labels)
    reference = PairReferenceCache().get(PairData(task, HeldOutLabels(None, ()), (), None, {}, []))
    baseline = _accuracy(zero_shot.fit(task), labels)
    outputs: dict[str, tuple[MethodOutput, float]] = {}
    for name in methods:
        parts = [outputs.get(part) for part in COMBINED.get(name, ())]
        started = time.perf_counter()
        if parts and all(parts):
            output = _combine(name, task, [part for part, _ in parts])
        else:
            output, parts = _select_fit(name, pair)(task), []
        outputs[name] = output, time.perf_counter() - started + sum(seconds for _, seconds in parts)
    accuracies = {name: _accuracy(output, labels) for name, (output, _) in outputs.items()}
    best = max(accuracies[name] for name in ({*accuracies} - {*SELECTORS} or accuracies))
    return [
        MethodResult(
            pair.dataset,
            pair.variant,
            pair.name,
            name,
            len(task.source.labels),
            len(labels),
            accuracies[name],
            best - accuracies[name],
            accuracies[name] - baseline,
            *_estimate(reference, name, output, labels),
            seconds,
        )
        for name, (output, seconds) in outputs.items()
    ]


def summarise(results: Sequence[MethodResult]) -> MethodSummary:
    """Return the summary of one method's results."""
    groups = [
        [result for result in results if (result.dataset, result.variant) == key]
        for key in dict.fromkeys((result.dataset, result.variant) for result in results)
    ]
    estimated = [result for result in results if result.estimate is not None]
    matched = [result.ece_matched for result in results if result.ece_matched is not None]
    return MethodSummary(
        results[0].method,
        len(results),
        mean(mean(result.accuracy for result in group) for group in groups),
        mean(mean(result.regret for result in group) for group in groups),
        max(result.regret for result in results),
        min(result.gain for result in results),
        sum(result.gain < LOSS for result in results),
        mean(abs(result.estimate - result.accuracy) for result in estimated) if estimated else None,
        len(estimated) / len(results),
        mean(result.low <= result.accuracy <= result.high for result in estimated) if estimated else None,
        mean(result.ece for result in results),
        mean(matched) if matched else None,
        mean(result.seconds for result in results),
    )


def _select_fit(name: str, pair: LabelledPair) -> Callable[[AdaptationTask], MethodOutput]:
    if name == UNIMOS:
        return _fit_unimos
    if name == AUTO and pair.variant == PARTIAL:
        return lambda task: fit_auto(task, "partial").output
    return METHODS[name].fit


def _combine(name: str, task: AdaptationTask, parts: Sequence[MethodOutput]) -> MethodOutput:
    return ensv.select_output(parts) if name == "ensv" else ensemble3.average_outputs(task, *parts)


def _fit_unimos(task: AdaptationTask, seed: int = 0) -> MethodOutput:
    """Return the output of UniMoS after its last epoch, with default options."""
    run = create_run(task, method_spec(), seed)
    model = None
    for _, records in Trainer([run]).train():
        for record in records:
            model = UniMoSModel(record.heads, record.text, run.method)
    return MethodOutput(model.logits(task.target.features))


def _estimate(
    reference: PairReference, name: str, output: MethodOutput, labels: torch.Tensor
) -> tuple[float | None, float | None, float | None, float, float | None]:
    """Return the estimated accuracy, its range, and the ECE before and after temperature matching."""
    logits, classes = output.logits, output.classes
    estimate = estimate_run_accuracy(reference, classes)
    target_accuracy = estimate.accuracy
    if target_accuracy is None and name == AUTO:
        target_accuracy = reference.stacked_probability(classes)
    ece = partial(_ece, labels=labels)
    matched = None if target_accuracy is None else ece(logits / match_temperature(logits, target_accuracy))
    return estimate.accuracy, estimate.low, estimate.high, ece(logits), matched


def _ece(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return calibration_metrics(logits.softmax(-1), labels).ece


def _accuracy(output: MethodOutput, labels: torch.Tensor) -> float:
    return float((output.classes == labels).double().mean())
