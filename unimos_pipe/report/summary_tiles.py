"""Summary tiles at the top of a section."""

from dataclasses import dataclass

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import better_baseline, gain_over_baseline, mean_baseline
from unimos_pipe.report.setting_names import BASELINES
from unimos_pipe.report.table import change_cell, mean_cell
from unimos_pipe.runs.method_names import ESTIMATE_WITHIN, UNIMOS_NAME
from unimos_pipe.runs.statistics import MeanStd, mean_and_std


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
    count_tiles = [SummaryTile(name, text, "quiet") for name, text in counts.items()]
    if not experiment.labelled:
        return _unlabelled_tiles(experiment) + count_tiles
    tiles = [*_headline_tiles(experiment)]
    for name in BASELINES:
        if (value := mean_baseline(experiment, name, pairs)) is not None:
            tiles.append(SummaryTile(name, mean_cell(value).text))
    if len(experiment.headline_settings) == 1:
        cell = change_cell(gain_over_baseline(experiment, experiment.default_setting, pairs))
        tiles.append(SummaryTile(f"gain over {better_baseline(experiment, pairs)}", cell.text, cell.sign))
        if (oracle := experiment.mean("oracle_best")) is not None:
            tiles.append(SummaryTile("oracle best", f"{100 * oracle.mean:.1f}", "quiet"))
    return tiles + count_tiles


def _unlabelled_tiles(experiment: Experiment) -> list[SummaryTile]:
    """Return the label-free diagnostics of the default setting."""
    runs = experiment.runs_of(experiment.default_setting)

    def estimate(name: str) -> MeanStd | None:
        values = [(run, getattr(run.result.estimate, name)) for run in runs]
        return mean_and_std((run.pair, run.spec.seed, value) for run, value in values if value is not None)

    accuracy, calibrated = estimate("accuracy"), all(run.result.calibration for run in runs)
    if accuracy is None:
        lead = SummaryTile("estimated accuracy", "–", "lead", "not estimated: label about 50 images to measure it")
    else:
        lead = SummaryTile("estimated accuracy", accuracy.text(), "lead", ESTIMATE_WITHIN)
    means = {
        "VAC and LAC agree": estimate("branches"),
        f"confidence, {'calibrated' if calibrated else 'raw'}": estimate("confidence"),
        "class share distance": estimate("total_variation"),
    }
    return [lead, *(SummaryTile(name, values.text()) for name, values in means.items() if values)]


def _headline_tiles(experiment: Experiment) -> list[SummaryTile]:
    """Return the tile of the headline's mean, or of the range over its settings."""
    if len(experiment.headline_settings) == 1:
        return [SummaryTile(experiment.default_setting_name, experiment.mean("last").text(), "lead")]
    means = [experiment.mean("last", label).mean for label in experiment.headline_settings]
    low, high = (mean_cell(value).text for value in (min(means), max(means)))
    return [SummaryTile(f"{UNIMOS_NAME}, {len(means)} settings", f"{low} to {high}", "lead")]
