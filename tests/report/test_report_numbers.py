"""Every number on the page of a sweep with a grid, recomputed from the runs' result.json."""

import csv
import json
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import pytest
from factories.figures import leave_out_figures
from factories.runs import write_run
from scipy import stats

PAIRS, SEEDS = ("dark->light", "light->dark"), (0, 1, 2)
ALPHAS, VARIANTS = (0.1, 1.0, 2.5), ("full", "no-im")
METHODS = {"zero-shot": 0.6, "source-probe": 0.64, "fused": 0.68}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two pairs, three seeds, a grid of three, two variants, three more methods; every accuracy another one."""
    root = tmp_path_factory.mktemp("sweep") / "grid"
    for number, (pair, seed, alpha, variant) in enumerate(product(PAIRS, SEEDS, ALPHAS, VARIANTS)):
        last = 0.61 + 0.1 * PAIRS.index(pair) + 0.02 * ALPHAS.index(alpha) + (number * 37 % 23) / 1000
        changed = {"train.epochs": 2} | ({} if alpha == 1.0 else {"loss.alpha": alpha})
        zero = 0.6 + 0.01 * PAIRS.index(pair)
        write_run(root, pair, seed=seed, variant=variant, changed=changed, last=last, zero_shot=zero, epochs=2)
    for (name, last), pair in product(METHODS.items(), PAIRS):
        place = PAIRS.index(pair)
        write_run(root, pair, method=name, last=last + 0.01 * place, zero_shot=0.6 + 0.01 * place)
    recipe = {
        "name": "grid",
        "methods": ["unimos", *METHODS],
        "variants": list(VARIANTS),
        "options": {"train": {"epochs": 2}},
    }
    (root / "recipe.json").write_text(json.dumps(recipe | {"grid": {"loss.alpha": list(ALPHAS)}}))
    return root


@pytest.fixture(scope="module")
def report(cli, sweep, tmp_path_factory) -> Path:
    """The report of that sweep."""
    out = tmp_path_factory.mktemp("report") / "out"
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        assert cli("report", sweep, "--out", out, "--cache", out.parent).code == 0
    return out


class Tables(HTMLParser):
    """The texts of every table's rows by the table's class, and of the tiles."""

    def __init__(self, page: Path):
        super().__init__()
        self.tables, self.tiles, self.table, self.cell = {}, {}, None, None
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs)["class"], [])
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th", "dt", "dd"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.table[-1].append(" ".join(self.cell.split()))
        elif tag == "dt":
            self.term = self.cell
        elif tag == "dd":
            self.tiles.setdefault(self.term, self.cell)

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


class Runs:
    """The runs' result.json, read without the package."""

    def __init__(self, sweep: Path):
        self.values = {}
        for path in sweep.rglob("result.json"):
            spec = json.loads((path.parent / "config.json").read_text())["spec"]
            pair, result = f"{spec['source']}->{spec['target']}", json.loads(path.read_text())
            alpha = spec["options"]["loss"]["alpha"] if spec["method"] == "unimos" else None
            self.values[spec["method"], spec["variant"], alpha, pair, spec["seed"]] = result

    def of(self, setting: tuple, pairs=PAIRS, which="last", figure="accuracy") -> dict[str, dict[int, float]]:
        """pair -> seed -> figure of a setting: method, variant, alpha."""
        picked = {pair: {} for pair in pairs}
        for (*place, pair, seed), result in self.values.items():
            if tuple(place) == setting and pair in pairs:
                picked[pair][seed] = result["accuracy"][which][figure]
        return picked


def text(by_pair: dict[str, dict[int, float]]) -> str:
    """Mean over seeds then pairs, and the spread of the seeds' means over pairs."""
    value = f"{100 * mean(mean(seeds.values()) for seeds in by_pair.values()):.1f}"
    seeds = sorted(next(iter(by_pair.values())))
    if len(seeds) == 1:
        return value
    return f"{value} ± {100 * stdev(mean(found[seed] for found in by_pair.values()) for seed in seeds):.1f}"


def by_pair(ours, other) -> list[float]:
    """Each pair's difference, averaged over its seeds. ``other`` may have one seed."""
    return [
        mean(value - other[pair].get(seed, other[pair][0]) for seed, value in seeds.items())
        for pair, seeds in ours.items()
    ]


def change(ours, other, comparisons=()) -> str:
    """The gain, its asterisk by scipy's t-test over pairs and Holm's rule over the table's comparisons, its interval.

    Args:
        comparisons: every (ours, other) of the table; the gain's own alone where it is empty.
    """
    differences = by_pair(ours, other)
    values = differences
    if len(differences) == 1:
        values = [value - other[pair].get(seed, other[pair][0]) for pair in ours for seed, value in ours[pair].items()]
    gain = mean(differences)
    shown = f"{100 * gain:+.1f}" if round(100 * gain, 1) else "0.0"
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        low, high = gain - half, gain + half
    p_values = sorted(p_value(*pair) for pair in comparisons or [(ours, other)])
    rejected = 0  # Holm: the smallest p against 0.05 / m, the next one against 0.05 / (m - 1), ...
    while rejected < len(p_values) and p_values[rejected] < 0.05 / (len(p_values) - rejected):
        rejected += 1
    star = "*" if len(differences) > 1 and p_value(ours, other) in p_values[:rejected] and shown != "0.0" else ""
    brackets = f" [{100 * low + 0:.1f}, {100 * high + 0:.1f}]" if len(values) > 1 else ""
    return f"{shown}{star}{brackets}".replace("-", "−")


def p_value(ours, other) -> float:
    differences = by_pair(ours, other)
    return stats.ttest_1samp(differences, 0).pvalue if len(differences) > 1 else 1.0


MAIN = ("unimos", "full", 1.0)
OTHERS = {name: (name, "", None) for name in METHODS}
SETTINGS = {
    **{f"UniMoS{v}, alpha={a}": ("unimos", variant, a) for variant, v in zip(VARIANTS, ("", ", no-im"), strict=True)
       for a in ALPHAS},
    **OTHERS,
}  # fmt: skip


def test_headline_and_tiles(report, sweep):
    runs, page = Runs(sweep), Tables(report / "report.html")
    rows = []
    for pairs in (PAIRS[:1], PAIRS[1:], PAIRS):
        main = runs.of(MAIN, pairs)
        rows.append(
            [
                pairs[0].replace("->", " → ") if len(pairs) == 1 else "mean of 2",
                text(main),
                change(main, runs.of(OTHERS["source-probe"], pairs)),
                *(text(runs.of(OTHERS[name], pairs)) for name in ("fused", "zero-shot", "source-probe")),
                text(runs.of(MAIN, pairs, figure="per_class_mean")),
                text(runs.of(MAIN, pairs, "oracle_best")),
            ]
        )
    columns = ["pair", "UniMoS, alpha=1.0", "gain", "fused", "zero-shot", "source-probe", "class mean", "oracle best"]
    assert page.tables["headline"] == [columns, *rows]
    mean_row = dict(zip(columns, rows[-1], strict=True))
    assert page.tiles["UniMoS, alpha=1.0"] == mean_row["UniMoS, alpha=1.0"]
    assert page.tiles["gain over source-probe"] == mean_row["gain"]
    assert [page.tiles[name] for name in ("zero-shot", "source-probe")] == [
        mean_row["zero-shot"],
        mean_row["source-probe"],
    ]
    assert [page.tiles[name] for name in ("oracle best", "runs", "pairs", "target images")] == ["80.0", "42", "2", "24"]
    with (report / "tables" / "headline.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [
        f"{float(row['UniMoS, alpha=1.0']):.1f} ± {float(row['UniMoS, alpha=1.0 std']):.1f}" for row in written
    ] == [row[1] for row in rows]
    latex = (report / "tables" / "headline.tex").read_text()
    escaped = {"±": r"$\pm$", "−": "$-$"}
    for cell in (cell for row in rows for cell in row[1:]):
        assert "".join(escaped.get(char, char) for char in cell) in latex
    assert [line.split(" | ")[1] for line in (report / "tables" / "headline.md").read_text().splitlines()[6:]] == [
        row[1] for row in rows
    ]


def test_settings_sensitivity_and_ablation(report, sweep):
    runs, page = Runs(sweep), Tables(report / "report.html")
    baselines = ("zero-shot", "source-probe")
    zero, probe = (runs.of(OTHERS[name]) for name in baselines)
    rows = [
        [name, "2", str(n), str(2 * n), text(runs.of(at)), text(zero), text(probe), gain]
        for tested in [[(runs.of(at), probe) for name, at in SETTINGS.items() if name not in baselines]]
        for name, at in SETTINGS.items()
        for n in [3 if at[0] == "unimos" else 1]
        for gain in ["" if name in baselines else change(runs.of(at), probe, tested)]
    ]
    main = next(row for row in rows if row[0] == "UniMoS, alpha=1.0")
    assert page.tables["settings"][1:] == [main, *(row for row in rows if row is not main)]
    tested = [(runs.of(("unimos", "full", alpha)), runs.of(MAIN)) for alpha in (0.1, 2.5)]
    assert page.tables["sensitivity"][1:] == [
        ["alpha=0.1", text(runs.of(("unimos", "full", 0.1))), change(*tested[0], tested)],
        ["alpha=1.0 (default)", text(runs.of(MAIN)), "–"],
        ["alpha=2.5", text(runs.of(("unimos", "full", 2.5))), change(*tested[1], tested)],
    ]
    no_im = ("unimos", "no-im", 1.0)
    branches = {at: [text(runs.of(at, which=w)).partition(" ")[0] for w in ("vac", "lac")] for at in (MAIN, no_im)}
    assert page.tables["ablation"][1:] == [
        ["full", text(runs.of(MAIN)), "", *branches[MAIN]],
        ["no-im", text(runs.of(no_im)), change(runs.of(no_im), runs.of(MAIN)), *branches[no_im]],
    ]


def test_methods_matrix_and_choice_of_epoch(report, sweep):
    runs, page = Runs(sweep), Tables(report / "report.html")
    compared = {"UniMoS, alpha=1.0": MAIN, "UniMoS, no-im, alpha=1.0": ("unimos", "no-im", 1.0), **OTHERS}
    means = {name: [mean(runs.of(at)[pair].values()) for pair in PAIRS] for name, at in compared.items()}
    best = [max(values) for values in zip(*means.values(), strict=True)]
    probe = runs.of(OTHERS["source-probe"])
    tested = [(runs.of(at), probe) for name, at in compared.items() if name not in ("zero-shot", "source-probe")]
    rows = []
    for name, at in compared.items():
        below = [top - value for top, value in zip(best, means[name], strict=True)]
        gain = "" if name in ("zero-shot", "source-probe") else change(runs.of(at), probe, tested)
        figures = [f"{100 * mean(below):.1f}", f"{100 * max(below):.1f}"]
        rows.append([name, text(runs.of(at)), gain, *figures, "–", "–", "–", "2.5"])
    assert page.tables["methods"][1:] == rows
    one = {name: [f"{100 * value:.1f}" for value in values] for name, values in means.items()}
    assert page.tables["matrix"][1:] == [
        ["dark", "–", one["UniMoS, alpha=1.0"][0]],
        ["light", one["UniMoS, alpha=1.0"][1], "–"],
        *([f"mean, {name}", *one[name][::-1]] for name in ("UniMoS, alpha=1.0", "fused", "zero-shot", "source-probe")),
    ]
    last = runs.of(MAIN)
    picked = {pair: {seed: value + 0.02 for seed, value in seeds.items()} for pair, seeds in last.items()}
    oracle = runs.of(MAIN, which="oracle_best")
    tested = [(picked, last), (oracle, last)]
    assert page.tables["selection"][1:] == [
        ["last epoch (headline)", text(last), "0.0"],
        ["im", text(picked), change(picked, last, tested)],
        ["oracle best", text(oracle), change(oracle, last, tested)],
    ]
    known = {"headline", "methods", "matrix", "selection", "ablation", "sensitivity", "settings", "gap"}
    known |= {"select-settings", "select-methods", "gains"}  # reckoned in test_setting_selection and test_gain_table
    assert set(page.tables) == known  # the gap is reckoned in test_report_gap


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles_and_no_table_is_too_wide(report, tmp_path):
    tables = sorted((report / "tables").glob("*.tex"))
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in tables)
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx,xcolor}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Overfull" not in done.stdout and "multiply defined" not in done.stdout


def test_pandas_reads_the_runs_as_they_are(report, sweep):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(report / "tables" / "runs.csv")
    tuned = frame[(frame.method == "unimos") & (frame.variant == "full")].copy()
    means = tuned.groupby(["loss.alpha", "target"]).accuracy.mean().groupby("loss.alpha").mean()
    runs = Runs(sweep)
    for alpha in ALPHAS:
        wanted = mean(mean(seeds.values()) for seeds in runs.of(("unimos", "full", alpha)).values())
        assert means[alpha] == pytest.approx(wanted, rel=1e-12)
    assert len(frame) == 42 and len(pandas.read_csv(report / "tables" / "classes.csv")) == 42 * 3
