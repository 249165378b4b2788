"""The page of a sweep on embedded data, opened in a browser; and of synthetic runs, for escaping."""

import contextlib
import csv
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest
from factories.browser import browser
from factories.runs import CLASSES, forge_json, write_run
from PIL import Image

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.optional_deps import install_command
from unimos_pipe.methods.unimos.trainer import Trainer

EVIL = "<script>alert(1)</script>"


@contextlib.contextmanager
def opened(chromium, page_file: Path, width: int, scheme: str = "light"):
    """A page with what it asked for and complained about: yields (page, faults)."""
    page, faults = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url))
    page.goto(page_file.as_uri())
    yield page, faults
    page.close()


RECIPE = """
name = "small"
title = "A small sweep"
dataset = "icons"
pairs = ["line->sketch", "sketch->line"]
methods = ["unimos", "fused"]
variants = ["full", "no-im"]
seeds = 3
[options.train]
epochs = 1
[grid]
"loss.alpha" = [0.5, 1.0]
"""


@pytest.fixture(scope="module")
def sweep(cli, icons_cache, tmp_path_factory) -> Path:
    """The researcher's way: two methods, two variants, a grid, three seeds; interrupted after a stack and resumed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.toml").write_text(RECIPE)
    command = ("sweep", folder / "small.toml", "--cache", icons_cache, "--runs", folder / "runs")
    command += ("--stack-size", 12, "--show", "probes")
    real, calls = Trainer._train_epoch, []

    def interrupted(self, epoch):
        calls.append(epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        assert cli(*command).code == 130
    answer = cli(*command)
    assert answer.code == 0 and "14 run(s) trained, 12 kept, 0 failed" in answer.err, answer.err
    return folder / "runs" / "small"


@pytest.fixture(scope="module")
def page(cli, icons_cache, sweep, tmp_path_factory) -> Path:
    """The report of that sweep."""
    out = tmp_path_factory.mktemp("report")
    answer = cli("report", sweep, "--out", out, "--cache", icons_cache, "--pair", "line->sketch")
    assert answer.code == 0 and answer.out.startswith(f"{out / 'report.html'}: 26 run(s)"), answer.err
    return out / "report.html"


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(page, sweep, width, scheme):
    with browser() as chromium, opened(chromium, page, width, scheme) as (tab, faults):
        assert faults == []
        assert tab.locator(".fold > .body:visible").count() == (7 if width > 760 else 1)  # on a phone groups fold
        tab.evaluate("document.querySelectorAll('.fold > input').forEach(box => { box.checked = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        images = tab.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
        assert len(images) == 18 and all(images)
        drawings = tab.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getBBox().width > 100)")
        assert len(drawings) == 13 and all(drawings)
        assert tab.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == tab.evaluate(
            "document.querySelectorAll('[id]').length"
        )
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(244, 246, 249)" if scheme == "light" else "rgb(17, 21, 27)")
        rows = tab.evaluate(
            "[...document.querySelectorAll('table.headline tbody tr')]"
            ".map(row => [...row.cells].map(cell => cell.innerText.replace(/[*]? \\[.*\\]|[*]/, '').trim()))"
        )
    assert rows == [expected_row(sweep, "line", "sketch"), expected_row(sweep, "sketch", "line")]


def expected_row(sweep: Path, source: str, target: str) -> list[str]:
    """A row of the headline table as the runs' result.json have it."""
    found = [
        json.loads(path.read_text())["accuracy"]
        for path in sorted(sweep.glob(f"icons/*/{source}-{target}/full,epochs=1/*/result.json"))
    ]
    assert len(found) == 3

    def cell(values: list[float]) -> str:
        mean = f"{100 * statistics.mean(values):.1f}"
        return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"

    (fused,) = sweep.glob(f"icons/*/{source}-{target}/fused/seed0/result.json")
    last = [a["last"]["accuracy"] for a in found]
    zero = [a["zero_shot"]["accuracy"] for a in found]
    source_only = json.loads((sweep / "baselines.json").read_text())[f"{source}->{target}"]["source_only"]
    gain = round(100 * (statistics.mean(last) - max(zero[0], source_only)), 1)
    return [
        f"{source} → {target}",
        cell(last),
        f"{gain:+.1f}".replace("-", "−") if gain else "0.0",
        cell([json.loads(fused.read_text())["accuracy"]["last"]["accuracy"]]),
        cell(zero[:1]),  # it has no seed
        cell([source_only]),
        cell([a["last"]["per_class_mean"] for a in found]),
        cell([a["oracle_best"]["accuracy"] for a in found]),
    ]


def test_files_beside_the_page(page, sweep):
    out = page.parent
    tables = {"headline", "methods", "sensitivity", "matrix", "ablation", "settings", "selection", "gap"}
    tables |= {"select-settings", "select-methods", "gains"}
    assert {path.name for path in (out / "tables").iterdir()} == {
        *(f"{t}.{s}" for t in tables for s in ("md", "csv", "tex")),
        *(f"{name}.{form}" for name in ("runs", "classes") for form in ("csv", "json")),
    }
    names = {"curves", "losses", "modality-gap", "classes", "confusion", "curves-line--sketch", "curves-sketch--line"}
    names |= {"methods", "classes-methods"} | {
        f"bottleneck-{when}-{by}" for when in ("before", "after") for by in ("class", "domain")
    }
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"{n}.{s}" for n in names for s in ("png", "svg", "pdf")
    }
    with (out / "tables" / "headline.csv").open() as file:
        first = next(csv.DictReader(file))
    results = [json.loads(p.read_text()) for p in sorted(sweep.glob("icons/*/line-sketch/full,epochs=1/*/result.json"))]
    assert float(first["UniMoS, alpha=1.0"]) == pytest.approx(
        100 * statistics.mean(r["accuracy"]["last"]["accuracy"] for r in results), abs=1e-4
    )
    text = page.read_text(encoding="utf-8")
    assert (
        f"unimos-pipe sweep {out}/recipes/small.toml --cache " in text
        and f" --runs {sweep.parent} --show probes\n" in text
        and "train.epochs = 1" in text
        and "http://" not in text.replace("http://www.w3.org/", "")
    )


def test_the_commands_on_the_page_run(cli, page, icons_cache):
    text = re.search(r"<pre><code>(.*?)</code>", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    again, report = (shlex.split(unescape(line)) for line in text.splitlines())
    assert again[:2] == ["unimos-pipe", "sweep"] and report[:2] == ["unimos-pipe", "report"]
    answer = cli(*again[1:])
    assert answer.code == 0 and "0 run(s) trained, 26 kept" in answer.err
    assert cli(*report[1:], "--help").code == 0


def test_names_from_files_are_text(cli, tmp_path):
    """A class, a file and a title that are markup do not run, neither in the page nor in its figures."""
    classes = (EVIL, "square", "bar")
    rows = [(f"{EVIL}{i}.png", EVIL, 0.9, EVIL, 0.8, "bar", 0.7, classes[i % 3]) for i in range(12)]
    write_run(tmp_path / "runs", classes=classes, rows=rows)
    (tmp_path / "runs" / "recipe.json").write_text(json.dumps({"name": EVIL, "title": EVIL}))
    answer = cli("report", tmp_path / "runs", "--out", tmp_path / "out", "--cache", tmp_path)
    assert answer.code == 0, answer.err
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)") > 20
    with browser() as chromium, opened(chromium, tmp_path / "out" / "report.html", 1280) as (tab, faults):
        assert faults == [] and tab.evaluate("document.scripts.length") == 0
        assert tab.inner_text("h1") == EVIL and EVIL in tab.inner_text(".case")


def test_a_target_without_labels(cli, no_figures, tmp_path):
    known = {"accuracy": 0.61, "low": 0.51, "high": 0.71, "branches": 0.3}
    known["agreement"] = {"zero-shot": 0.5, "fused": 0.7, "stacked": 0.75}
    known |= {"confidence": 0.9, "total_variation": 0.2}
    write_run(tmp_path / "runs", labelled=False, more={"estimate": known})
    untold = {**known, "accuracy": None, "low": None, "high": None}
    write_run(tmp_path / "runs", labelled=False, seed=1, more={"estimate": untold})
    assert cli("report", tmp_path / "runs", "--out", tmp_path / "out", "--cache", tmp_path).code == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The target has no labels, so its accuracy is unknown" in text and "Accuracy by pair" not in text
    assert (tmp_path / "out" / "tables" / "diagnostics.csv").read_text(encoding="utf-8") == (
        "run,estimated accuracy,from,to,VAC and LAC,zero-shot,fused,stacked,confidence,share distance\n"
        '"dark → light, UniMoS, seed 0",61.0000,51.0000,71.0000,30.0000,50.0000,70.0000,75.0000,90.0000,20.0000\n'
        '"dark → light, UniMoS, seed 1",,,,30.0000,50.0000,70.0000,75.0000,90.0000,20.0000\n'
    )
    assert "Diagnostics without labels" in text
    assert "The images are not here" not in text or "--data-root" in text
    assert not (tmp_path / "out" / "figures" / "confusion.png").exists()


def test_images_make_thumbnails_and_their_absence_is_said(cli, no_figures, tmp_path):
    rows = [(f"{name}/{i}.png", "bar", 0.6, "bar", 0.8, "square", 0.7, name) for i, name in enumerate(CLASSES * 2)]
    write_run(tmp_path / "runs", rows=rows)
    for path, *_ in rows:
        (tmp_path / "images" / "light" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / "light" / path)
    command = ("report", tmp_path / "runs", "--out", tmp_path / "out", "--cache", tmp_path)
    assert cli(*command).code == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "name the folder that holds them" in text and "data:image/jpeg" not in text
    assert cli(*command, "--data-root", tmp_path / "images").code == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "name the folder that holds them" not in text and text.count('src="data:image/jpeg;base64,') == 6


def test_several_experiments_and_left_out_folders(cli, no_figures, tmp_path):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", dataset="other")
    gone = write_run(tmp_path / "runs" / "b", dataset="other", seed=1)
    (gone / "result.json").unlink()
    answer = cli("report", tmp_path / "runs", "--out", tmp_path / "out", "--cache", tmp_path)
    assert answer.code == 0 and f"skipped {gone}: unfinished" in answer.err.replace("\n", "")
    assert {path.name for path in (tmp_path / "out" / "tables").glob("*headline.csv")} == {
        "mini-headline.csv",
        "other-headline.csv",
    }


def test_what_is_missing_is_said(cli, tmp_path, monkeypatch):
    answer = cli("report", tmp_path, "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (
        2,
        f"Error: no finished run in {tmp_path}; adapt, sweep and demo make runs\n",
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jinja2" else object())
    answer = cli("report", tmp_path, "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (
        2,
        f"Error: report needs jinja2. Install it with: {install_command('report')}\n",
    )
    assert InputError.exit_code == 2


@pytest.mark.slow
def test_a_report_of_252_runs_is_quick_and_small(sweep, icons_cache, tmp_path):
    """12 pairs x 3 seeds x 7 variants, real samples in each; the bound is loose, the figure is printed with -s."""
    template = next(sweep.glob("icons/*/line-sketch/full,epochs=1/seed0"))
    domains = ("line", "solid", "color", "sketch")
    for variant in ("full", "no-ortho", "no-debias", "no-im", "no-distill", "fixed-weight", "no-discriminator"):
        for source in domains:
            for target in domains:
                for seed in range(3 if source != target else 0):
                    folder = tmp_path / "runs/icons/e" / f"{source}-{target}" / variant / f"seed{seed}"
                    shutil.copytree(template, folder)
                    place = {"variant": variant, "source": source, "target": target, "seed": seed, "encoder_id": "e"}

                    def moved(config, place=place):
                        config["label"] = place["variant"]
                        config["spec"] |= place

                    forge_json(folder, "config.json", moved)
    started = time.perf_counter()
    command = [sys.executable, "-m", "unimos_pipe", "report", tmp_path / "runs", "--out", tmp_path / "out"]
    done = subprocess.run([*command, "--cache", icons_cache], capture_output=True, text=True)
    print(f"{time.perf_counter() - started:.1f} s, {(tmp_path / 'out' / 'report.html').stat().st_size:,} bytes")
    assert "252 run(s)" in done.stdout and (tmp_path / "out" / "report.html").stat().st_size < 10_000_000
