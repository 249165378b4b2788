"""Print label-free diagnostics of a run: auto's selection, estimated accuracy, agreement, class shares."""

from collections.abc import Iterable

import unimos_pipe
from unimos_pipe.base.errors import join_names
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.runs.method_names import AUTO, ESTIMATE_ERROR, UNIMOS
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Estimate, RunMetrics, UnknownScores

NOT_ESTIMATED = "accuracy cannot be estimated: {}; label about 50 images to measure it"
MAX_OUTVOTED = 0.15
SHOWN = 3  # classes whose shares differ most


def print_diagnostics(output: Output, spec: RunSpec, result: RunMetrics, classes: tuple[str, ...]) -> None:
    """Print auto's selection, diagnostics if no row has a label, and warnings."""
    estimate = result.estimate
    if spec.method == AUTO:
        output.result(f"  auto: {result.choice.reason}")
    if result.answers and result.answers.predictions != result.answers.model:
        agreement = format_percent(result.answers.agreement)
        output.result(
            f"  new images: a linear head, which agrees with {spec.method} on {agreement}% of the target's rows"
        )
    if result.accuracy is None or spec.method == AUTO:
        output.result(f"  {_accuracy(estimate, spec.method)}")
    if result.accuracy is None:
        for line in _lines(estimate, classes, result.calibration is not None):
            output.result(f"  {line}")
    if result.unknown:
        output.result(f"  {_unknown_line(result)}")
        if result.unknown.scores:
            output.result(f"  {_unknown_scores_line(result.unknown.scores)}")
    for what, share in _agreements(spec.method, estimate):
        if share < 0.5:
            output.warn(
                f"{what} disagree on {format_percent(1 - share)}% of the rows; "
                "check a sample before using these predictions"
            )
    if spec.method == UNIMOS and (estimate.outvoted or 0) > MAX_OUTVOTED:
        output.warn(
            f"on {format_percent(estimate.outvoted)}% of the rows zero-shot and stacked agree on another class than "
            "unimos; try --method auto"
        )


def _accuracy(estimate: Estimate, method: str) -> str:
    if estimate.accuracy is None:
        return NOT_ESTIMATED.format(estimate.reason)
    accuracy, low, high = (format_percent(getattr(estimate, name)) for name in ("accuracy", "low", "high"))
    unmeasured = "" if method == AUTO else f", it was not measured for {method}"
    return f"estimated accuracy {accuracy}, from {low} to {high}; {ESTIMATE_ERROR}{unmeasured}"


def _lines(estimate: Estimate, classes: tuple[str, ...], calibrated: bool) -> list[str]:
    """Return the diagnostics of predictions without labels, one line each."""
    alike = ", ".join(f"{name} {format_percent(share)}%" for name, share in estimate.agreement.items())
    alike = f"agreement with {alike}; " if alike else ""
    branches = "" if estimate.branches is None else f"VAC and LAC agree on {format_percent(estimate.branches)}%; "
    shares = list(zip(classes, estimate.class_shares, estimate.source_shares, strict=True))
    shares.sort(key=lambda row: -abs(row[1] - row[2]))
    most = ", ".join(
        f"{name} {format_percent(predicted)}% ({format_percent(source)}%)" for name, predicted, source in shares[:SHOWN]
    )
    kind = "calibrated" if calibrated else "raw"
    return [
        f"{alike}{branches}mean {kind} probability {estimate.confidence:.2f}",
        f"class shares differ by {format_percent(estimate.total_variation)}% from the source's, most (source): {most}",
    ]


def _unknown_line(result: RunMetrics) -> str:
    """Return how many images are of none of the classes."""
    count = round(result.unknown.share * result.scored_rows)
    percent = format_percent(result.unknown.share)
    return f"{UNKNOWN_CLASS}: {count} of {result.scored_rows} images, {percent}%, look like none of the classes"


def _unknown_scores_line(scores: UnknownScores) -> str:
    """Return the metrics of unknown images against labels."""
    before, after, recall, h_score, best, auroc, oscr = (
        format_percent(getattr(scores, name))
        for name in ("known_before", "known_after", "found", "h_score", "best_h_score", "auroc", "oscr")
    )
    return (
        f"of {scores.unknown_rows} images labelled {UNKNOWN_CLASS} {recall}% are found; accuracy on "
        f"{scores.known_rows} known ones {before}, after that {after}; H-score {h_score} (best threshold {best}), "
        f"AUROC {auroc}, OSCR {oscr}"
    )


def _agreements(method: str, estimate: Estimate) -> list[tuple[str, float]]:
    pairs = [(f"{method} and {name}", share) for name, share in estimate.agreement.items() if name != method]
    return pairs + ([("VAC and LAC", estimate.branches)] if estimate.branches is not None else [])


def warn_of_changed_code(output: Output, runs: "Iterable[unimos_pipe.RunResult]") -> None:
    """Warn about kept runs that were trained with different code."""
    changed = [run for run in runs if run.changed_code]
    if changed:
        modules = join_names(dict.fromkeys(name for run in changed for name in run.changed_code), 3)
        output.warn(
            f"{len(changed)} kept run(s) were trained with different code ({modules}); --stale rerun retrains them"
        )
