"""Report of finished runs as page, tables and figures. Needs no torch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.errors import Call
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter


@dataclass(frozen=True)
class Report:
    """Result of :func:`make_report`: page, number of runs, a line for each skipped folder."""

    page: Path
    runs: int
    skipped: tuple[str, ...]
    seconds: float


def make_report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path = "report",
    *,
    pair: str | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    format_call: Callable[[Call], str] = str,
    reporter: ProgressReporter = NO_PROGRESS,
) -> Report:
    """Write ``report.html``, ``tables/`` and ``figures/`` below ``out``.

    Args:
        runs: folder of a run, of a sweep, or above several; one or a sequence.
        pair: ``source->target`` that figures show; None takes the one with the largest gain.
        root: folder of the domains' folders, for thumbnails; embedded data needs none.
        cache: where embedded images are unpacked; None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        format_call: how the page shows the calls that reproduce it; Python by default.
    Raises:
        InputError: missing packages, no finished run, no run of the pair, or damaged files.
    """
    require_extra("report", "report")
    out = Path(out)
    check_writable_folder(out.parent, "out")

    from unimos_pipe.report.find_runs import find_runs
    from unimos_pipe.report.page import write_page  # of the extra [report]
    from unimos_pipe.report.section import STEPS
    from unimos_pipe.runs.run_label_changes import describe_run_label_changes

    folders = [runs] if isinstance(runs, str | Path) else runs
    started = time.perf_counter()
    experiments, skipped = find_runs([Path(folder) for folder in folders])
    for run in (run for experiment in experiments for run in experiment.runs):
        if changes := describe_run_label_changes(run):
            reporter.warn(changes)
    with reporter.progress("report", STEPS * len(experiments), "steps") as advance:
        write_page(
            experiments,
            skipped,
            out,
            call=_report_call([Path(folder) for folder in folders], out, pair, root, cache),
            format_call=format_call,
            pair=pair,
            data_root=root,
            cache=cache,
            on_step=advance,
        )
    count = sum(len(experiment.runs) for experiment in experiments)
    return Report(out / "report.html", count, tuple(skipped), time.perf_counter() - started)


def _report_call(runs: Sequence[Path], out: Path, pair: str | None, root: Path | None, cache: Path | None) -> Call:
    """Return the call that reproduces this report."""
    values = {"out": out, "pair": pair, "root": root, "cache": cache}
    given = {name: value for name, value in values.items() if value is not None}
    return Call("make_report", {"runs": [str(run) for run in runs], **given})
