"""What ``adapt`` says of a run's answers beside their accuracy: auto's pick, and what is known without labels."""

from collections.abc import Iterable, Mapping
from typing import Any

import unimos_pipe
from unimos_pipe.base.errors import join_names
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.runs.method_names import AUTO, ESTIMATE_ERROR
from unimos_pipe.runs.run_spec import RunSpec

UNTOLD = "accuracy cannot be estimated: {}; label about 50 images to measure it"
SHOWN = 3  # classes whose shares differ most


def print_diagnostics(output: Output, spec: RunSpec, result: Mapping[str, Any], classes: tuple[str, ...]) -> None:
    """Print auto's pick, what can be known where no row has a label, and warnings."""
    found = result["estimate"]
    if spec.method == AUTO:
        _tell_choice(output, result["choice"], found)
    if result["accuracy"] is None:
        for line in _lines(found, classes, result["calibration"] is not None):
            output.result(f"  {line}")
    for what, share in _pairs_of_answers(spec.method, found):
        if share < 0.5:
            output.warn(
                f"{what} disagree on {format_percent(1 - share)}% of the rows; do not trust these answers unseen"
            )


def _tell_choice(output: Output, choice: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    output.result(f"  auto: {choice['reason']}")
    output.result(f"  {_accuracy(found)}")


def _accuracy(found: Mapping[str, Any]) -> str:
    if found["accuracy"] is None:
        return UNTOLD.format(found["reason"])
    accuracy, low, high = (format_percent(found[name]) for name in ("accuracy", "low", "high"))
    return f"estimated accuracy {accuracy}, from {low} to {high}; {ESTIMATE_ERROR}"


def _lines(found: Mapping[str, Any], classes: tuple[str, ...], calibrated: bool) -> list[str]:
    """What can be known of answers to rows without labels."""
    alike = ", ".join(f"{name} {format_percent(share)}%" for name, share in found["agreement"].items())
    branches = "" if found["branches"] is None else f"; VAC and LAC agree on {format_percent(found['branches'])}%"
    shares = list(zip(classes, found["class_shares"], found["source_shares"], strict=True))
    shares.sort(key=lambda row: -abs(row[1] - row[2]))
    most = ", ".join(
        f"{name} {format_percent(own)}% ({format_percent(source)}%)" for name, own, source in shares[:SHOWN]
    )
    kind = "calibrated" if calibrated else "raw"
    return [
        _accuracy(found),
        f"answers shared with {alike}{branches}; mean {kind} probability {found['confidence']:.2f}",
        f"class shares {format_percent(found['total_variation'])}% apart from the source's, most (source): {most}",
    ]


def _pairs_of_answers(method: str, found: Mapping[str, Any]) -> list[tuple[str, float]]:
    pairs = [(f"{method} and {name}", share) for name, share in found["agreement"].items() if name != method]
    return pairs + ([("VAC and LAC", found["branches"])] if found["branches"] is not None else [])


def warn_of_changed_code(output: Output, runs: "Iterable[unimos_pipe.RunResult]") -> None:
    """Say which kept runs were made by other code than is here."""
    changed = [run for run in runs if run.changed_code]
    if changed:
        modules = join_names(dict.fromkeys(name for run in changed for name in run.changed_code), 3)
        output.warn(f"{len(changed)} kept run(s) were made by other code ({modules}); --stale rerun makes them again")
