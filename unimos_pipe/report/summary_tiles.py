"""Summary tiles at the top of a section."""

from dataclasses import dataclass

from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.photos.label_sample import labels_like_random
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import better_baseline, gain_over_baseline, mean_baseline
from unimos_pipe.report.photo_overview import SURE, UNSURE, count_photos, is_photo_target
from unimos_pipe.report.setting_names import BASELINES
from unimos_pipe.report.table import change_cell, mean_cell
from unimos_pipe.runs.method_names import AUTO, ESTIMATE_WITHIN, UNIMOS_NAME
from unimos_pipe.runs.statistics import mean_and_std, wilson_interval


@dataclass(frozen=True)
class SummaryTile:
    """A value with its name; ``kind`` is lead, quiet, up, down, even or empty; ``note`` is shown below."""

    name: str
    text: str
    kind: str = ""
    note: str = ""


def summary_tiles(experiment: Experiment) -> list[SummaryTile]:
    """Return the tiles: headline, baselines, gain, and numbers of runs, pairs and target images."""
    runs, pairs = experiment.runs, experiment.pairs
    rows = {run.spec.target: run.result.target_rows for run in runs if run.label == experiment.default_setting}
    counts = {"runs": f"{len(runs)}", "pairs": f"{len(pairs)}", "target images": f"{sum(rows.values()):,}"}
    photos = is_photo_target(experiment)
    counts = {"photos": counts["target images"]} if photos and len(runs) == 1 else counts
    count_tiles = [SummaryTile(name, text, "quiet") for name, text in counts.items()]
    if not experiment.labelled:
        return [_estimate_tile(experiment), *_photo_tiles(experiment), *count_tiles]
    tiles = [*_headline_tiles(experiment)]
    for name in BASELINES:
        if (value := mean_baseline(experiment, name, pairs)) is not None:
            tiles.append(SummaryTile(name, mean_cell(value).text))
    if len(experiment.headline_settings) == 1:
        if baseline := better_baseline(experiment, pairs):
            cell = change_cell(gain_over_baseline(experiment, experiment.default_setting, pairs))
            tiles.append(SummaryTile(f"gain over {baseline}", cell.text, cell.sign))
        if (oracle := experiment.mean("oracle_best")) is not None:
            tiles.append(SummaryTile("oracle best", f"{100 * oracle.mean:.1f}", "quiet"))
    return [*tiles, *(_photo_tiles(experiment) if photos else ()), *count_tiles]


def _estimate_tile(experiment: Experiment) -> SummaryTile:
    """Return the tile of the default setting's estimated accuracy."""
    runs = experiment.runs_of(experiment.default_setting)
    estimates = [(run, run.result.estimate.accuracy) for run in runs]
    accuracy = mean_and_std((run.pair, run.spec.seed, value) for run, value in estimates if value is not None)
    if accuracy is None:
        return SummaryTile("estimated accuracy", "–", "lead", "not estimated: label about 50 images to measure it")
    first = runs[0].result.estimate
    measured = ESTIMATE_WITHIN if all(run.method == AUTO for run in runs) else "the range was measured for auto only"
    if len(runs) == 1 and first.low is not None and first.high is not None:
        note = f"from {mean_cell(first.low).text} to {mean_cell(first.high).text}; {measured}"
        return SummaryTile("estimated accuracy", accuracy.text(), "lead", note)
    return SummaryTile("estimated accuracy", accuracy.text(), "lead", measured)


def _photo_tiles(experiment: Experiment) -> list[SummaryTile]:
    """Return how many photos of the shown run are sure, doubtful and of no class."""
    run = experiment.select(experiment.choose_pair(None))[0]
    unknown = sum(row["class"] == UNKNOWN_CLASS for row in run.predictions)
    counts = {
        f"sure, {100 * SURE:.0f}% and more": count_photos(run, SURE),
        f"doubtful, below {100 * UNSURE:.0f}%": count_photos(run, 0.0, UNSURE),
    }
    counts |= {"of no class": unknown} if unknown else {}
    return [SummaryTile(name, f"{count:,}") for name, count in counts.items()]


def _headline_tiles(experiment: Experiment) -> list[SummaryTile]:
    """Return the tile of the headline's mean, or of the range over its settings."""
    if len(experiment.headline_settings) == 1:
        counts = experiment.label_counts(experiment.pairs[0]) if len(experiment.pairs) == 1 else None
        mean = experiment.mean("last")
        if counts:
            runs = experiment.runs_of(experiment.default_setting)
            accuracy = mean_and_std((run.pair, run.spec.seed, run.accuracy("last")) for run in runs).mean
            low, high = (mean_cell(end).text for end in wilson_interval(accuracy, counts[0]))
            note = f"{counts[0]} of {counts[1]:,} labelled, 95% interval {low} to {high}"
            if not all(labels_like_random(run.predictions) for run in runs):
                note = f"on {counts[0]} of {counts[1]:,} photos; not drawn at random, so not that of all photos"
            return [SummaryTile(f"accuracy, {experiment.default_setting_name}", mean.text(), "lead", note)]
        return [SummaryTile(experiment.default_setting_name, mean.text(), "lead")]
    means = [experiment.mean("last", label).mean for label in experiment.headline_settings]
    low, high = (mean_cell(value).text for value in (min(means), max(means)))
    return [SummaryTile(f"{UNIMOS_NAME}, {len(means)} settings", f"{low} to {high}", "lead")]
