"""Every asterisk of a report on the icons, recomputed by scipy from the runs' result.json."""

import csv
import json
from statistics import mean

import pytest
from scipy import stats

from unimos_pipe.report import figures as report_figures

METHODS = ("zero-shot", "source-probe", "fused", "gda", "zlap")
TESTED = METHODS[2:]


@pytest.fixture(scope="module")
def sweep(cli, icons_cache, tmp_path_factory):
    """Five quick methods on all 12 pairs, and the report of it."""
    folder = tmp_path_factory.mktemp("icons")
    recipe = folder / "quick.toml"
    recipe.write_text(f'name = "quick"\ndataset = "icons"\nmethods = {json.dumps(METHODS)}\n')
    assert cli("sweep", recipe, "--cache", icons_cache, "--runs", folder).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_figures, "save_figure", lambda *_: "<svg></svg>")
        assert cli("report", folder / "quick", "--out", folder / "report", "--cache", icons_cache).code == 0
    return folder


def accuracies(folder) -> dict[str, dict[str, float]]:
    """By method and pair, from result.json."""
    values = {name: {} for name in METHODS}
    for path in folder.rglob("result.json"):
        spec = json.loads((path.parent / "config.json").read_text())["spec"]
        accuracy = json.loads(path.read_text())["accuracy"]["last"]["accuracy"]
        values[spec["method"]][f"{spec['source']}->{spec['target']}"] = accuracy
    return values


def test_every_asterisk_of_the_icons_report_is_scipys(sweep):
    values = accuracies(sweep / "quick")
    pairs = sorted(values["fused"])
    assert len(pairs) == 12
    better = max(METHODS[:2], key=lambda name: mean(values[name].values()))
    gains = {name: [values[name][pair] - values[better][pair] for pair in pairs] for name in TESTED}
    tests = {name: stats.ttest_1samp(gain, 0) for name, gain in gains.items()}
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(TESTED, key=lambda name: tests[name].pvalue)):
        largest = max(largest, min(1.0, tests[name].pvalue * (len(TESTED) - rank)))
        adjusted[name] = largest
    tables = sweep / "report" / "tables"
    with (tables / "methods.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    markdown = (tables / "methods.md").read_text()
    for name in TESTED:
        row, interval = rows[name], tests[name].confidence_interval()
        wilcoxon = stats.wilcoxon(gains[name]).pvalue
        written = [float(row[f"gain{part}"]) for part in ("", " low", " high", " p", " p Holm", " p Wilcoxon")]
        wanted = [100 * mean(gains[name]), 100 * interval.low, 100 * interval.high]
        assert written == pytest.approx([*wanted, tests[name].pvalue, adjusted[name], wilcoxon], abs=1e-4)
        points = round(100 * mean(gains[name]), 1)
        star = "*" if adjusted[name] < 0.05 and points else ""
        shown = f"| {f'{points:+.1f}'.replace('-', '−') if points else '0.0'}{star} ["
        assert shown in next(line for line in markdown.splitlines() if line.startswith(f"| {name} |"))
    assert "Holm-corrected for the 3 comparisons of this table" in markdown
    stars = markdown.partition("| --- |")[2].count("*")
    assert stars == sum(p < 0.05 for p in adjusted.values()) > 0
