"""Every asterisk of a report, recomputed by scipy from the runs' result.json."""

import csv
import json
from itertools import permutations
from statistics import mean

import numpy as np
import pytest
from factories.figures import leave_out_figures
from factories.runs import write_run
from scipy import stats

METHODS = ("zero-shot", "source-probe", "fused", "gda", "zlap")
TESTED = METHODS[2:]


def write_sweep(folder) -> None:
    """Runs of five methods on 12 pairs by hand, of which one is clearly better than zero-shot and one by luck."""
    gains, rng = dict(zip(METHODS, (0, -0.02, 0.03, 0.006, -0.01), strict=True)), np.random.default_rng(0)
    for pair in permutations(("line", "solid", "color", "sketch"), 2):
        zero_shot = 0.6 + 0.1 * rng.random()
        for name in METHODS:
            last = zero_shot + gains[name] + (name != "zero-shot") * rng.normal(0, 0.012)
            write_run(folder / "quick", "->".join(pair), method=name, last=last, zero_shot=zero_shot)
    (folder / "quick" / "recipe.json").write_text(json.dumps({"name": "quick", "methods": METHODS}))


@pytest.fixture(scope="module", params=["by hand", pytest.param("icons", marks=pytest.mark.slow)])
def sweep(request, cli, icons_cache, tmp_path_factory):
    """Five methods on 12 pairs, and the report of it; the icons' sweep takes a minute."""
    folder = tmp_path_factory.mktemp("quick")
    recipe = folder / "quick.toml"
    recipe.write_text(f'name = "quick"\ndataset = "icons"\nmethods = {json.dumps(METHODS)}\n')
    if request.param == "by hand":
        write_sweep(folder)
    else:
        assert cli("sweep", recipe, "--cache", icons_cache, "--runs", folder).code == 0
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
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


def test_every_asterisk_of_the_report_is_scipys(sweep):
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
