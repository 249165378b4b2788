"""``--json``: every document is valid by its documented schema, and nothing else is on stdout."""

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest
from workspace import copy_workspace

import unimos_pipe
from unimos_pipe.bench.adapt import SIZES, AdaptBench, StepTimes
from unimos_pipe.bench.compare_reference import ReferenceComparison, Timings
from unimos_pipe.bench.extract import BaselineSpeedup, ExtractBench, ExtractRates
from unimos_pipe.bench.memory import MemoryTrial
from unimos_pipe.bench.method_results import MethodResult
from unimos_pipe.bench.methods import MethodsBench
from unimos_pipe.bench.store import StoreTimes
from unimos_pipe.cli.json_output import to_json
from unimos_pipe.cli.schema_builders import FORMAT, TEXT, many, maybe, record
from unimos_pipe.cli.schemas import SCHEMAS
from unimos_pipe.report.make_report import Report

DATA = ("--dataset", "mini.toml", "--cache", "cache")
PAIR = ("adapt", *DATA, "--src", "dark", "--tgt", "light", "--epochs", 1)
RECIPE = ("recipe.toml", "--cache", "cache")
BENCHES = {
    "bench_extract": ExtractBench(
        (ExtractRates(10.0, 20.0, 5.0, 1e6), ExtractRates(12.0, 22.0, 6.0, 1e6)),
        *(True, 10**8, 0, BaselineSpeedup(16, 8, ((4.0, 2.0, 3.0),), math.nan, "fp32, 2 workers")),
    ),
    "bench_store": StoreTimes((0.2, 0.3), (0.1, 0.1)),
    "bench_adapt": AdaptBench(
        SIZES["icons"], "cpu", StepTimes(1e9, 10**6, 0.01, 1.0, 0.1, {1: 0.5, 12: 2.0}, 10**9), (("addmm", 0.25),)
    ),
    "bench_methods": MethodsBench(
        (MethodResult("a", "closed", "s->t", "zero-shot", 9, 8, 0.5, 0.25, 0.0, None, None, None, 0.1, None, 0.2),)
    ),
    "bench_memory": [MemoryTrial("extract, 1,000 images", 10**9, 1.5)],
    "bench_compare_reference": ReferenceComparison(
        SIZES["icons"], "cpu", Timings("plain", (2.0,), (1.0,)), (Timings("ours", (1.0,), (2.0,)),), (0.5, 1.0), 1.5, 2
    ),
}


@pytest.fixture(scope="module")
def work(prepared, tmp_path_factory) -> Path:
    return copy_workspace(prepared, tmp_path_factory.mktemp("json") / "work")


@pytest.fixture
def document(cli, work, monkeypatch):
    """Run a command line with --json in the prepared folder: ``document(schema's name, words...)``."""
    monkeypatch.chdir(work)

    def run(name: str, *words, code: int = 0) -> dict:
        answer = cli(*words, "--json")
        assert answer.code == code, answer.err
        found = json.loads(answer.out)
        jsonschema.validate(found, SCHEMAS[name])
        assert found["format"] == FORMAT
        assert answer.out.isascii() and answer.out == json.dumps(found, indent=1) + "\n"
        return found

    return run


def test_the_schemas_are_schemas_and_printed(cli):
    printed = {}
    for words in {name.partition(" --")[0] for name in SCHEMAS}:
        answer = cli(*words.split(), "--json-schema")
        found = json.loads(answer.out)
        assert answer.code == 0 and found.pop("$schema") == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
        printed |= {form.pop("title"): form for form in found.get("anyOf", [found])}
    assert printed == SCHEMAS
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_adapt(document, cli, work):
    found = document("adapt", *PAIR, "--seeds", 2, "--runs", "runs-a")
    runs, mean = found["runs"], found["mean"]
    assert [(run["spec"]["seed"], run["reused"], run["error"]) for run in runs] == [(0, False, None), (1, False, None)]
    stored = [json.loads((work / run["folder"] / "result.json").read_text())["accuracy"]["last"] for run in runs]
    assert [run["result"]["accuracy"]["last"] for run in runs] == stored
    assert mean["mean"] == pytest.approx(sum(scores["accuracy"] for scores in stored) / 2) and mean["std"] >= 0
    assert runs[0]["spec"]["changed"] == {"train.epochs": 1}
    again = document("adapt", *PAIR, "--seeds", 2, "--runs", "runs-a")
    assert [run["reused"] for run in again["runs"]] == [True, True] and again["mean"] == mean
    auto = document("adapt", *PAIR[:-2], "--method", "auto", "--runs", "runs-a")
    assert auto["mean"] is None and 0.9 < auto["runs"][0]["result"]["choice"]["head_agreement"] <= 1
    refused = cli(*PAIR[:-2], "--epochs", 0, "--json")
    assert refused.code == 2 and refused.out == ""


def test_a_failed_run_is_told_in_the_document(document, monkeypatch):
    def diverged(*args, **kwargs):
        (run,) = adapt_pairs(*args, **kwargs)
        return [replace(run, result=None, error="the loss is not finite")]

    adapt_pairs = unimos_pipe.adapt_pairs
    monkeypatch.setattr(unimos_pipe, "adapt_pairs", diverged, raising=False)
    (run,) = document("adapt", *PAIR, "--runs", "runs-b", "--no-calibrate", code=1)["runs"]
    assert (run["result"], run["error"]) == (None, "the loss is not finite")


def test_sweep_and_run(document, work, monkeypatch):
    page = Report(Path("report.html"), 2, (), 0.1)
    monkeypatch.setattr("unimos_pipe.api.make_report", lambda *args, **kwargs: page)
    monkeypatch.setattr("unimos_pipe.api.find_missing_packages", lambda extra: [])
    plan = document("sweep --dry-run", "sweep", *RECIPE, "--dry-run")
    assert (plan["runs"], plan["finished"], plan["stacks"]) == (2, 0, 1)
    assert document("run --dry-run", "run", *RECIPE, "--dry-run")["sweep"].keys() == plan.keys() - {"format"}
    before = document("run --dry-run", "run", "recipe.toml", "--cache", "new", "--data-root", "images", "--dry-run")
    assert before["sweep"] is None and before["recipe"]["missing"] == ["dark", "light"]
    assert (before["recipe"]["images"], before["recipe"]["problem"]) == (18, None)
    assert before["recipe"]["unexpected_counts"] == []
    found = document("run", "run", "recipe.toml", "--cache", "new", "--data-root", "images", "--workers", 0)
    assert [report["encoded"] for report in found["extracted"]["reports"]] == [9, 9]
    assert found["report"] == {"page": "report.html", "runs": 2, "skipped": [], "seconds": 0.1}
    monkeypatch.setattr(unimos_pipe, "make_report", lambda *args, **kwargs: page, raising=False)
    assert document("report", "report", "runs")["page"] == "report.html"
    again = document("sweep", "sweep", "recipe.toml", "--cache", "new")
    assert all(run["reused"] for run in again["runs"]) and again["pairs"] == ["dark->light", "light->dark"]
    rows = {row["label"]: row for row in again["rows"]}
    for row in found["sweep"]["rows"]:
        assert row["mean"] == rows[row["label"]]["mean"]
    last = [run["result"]["accuracy"]["last"]["accuracy"] for run in again["runs"]]
    assert rows["full"]["mean"] == {"mean": pytest.approx(sum(last) / 2), "std": None}
    assert rows["full"]["values"] == {"dark->light": {"0": last[0]}, "light->dark": {"0": last[1]}}


def test_predict(document, cli, work):
    (work / "broken.png").write_bytes(b"")
    images = ("--images", "images/light", "broken.png", "--workers", 0)
    found = document("predict", "predict", "--run", "run", *images, "-o", "answers.csv")
    assert (found["rows"], found["accuracy"]) == (10, None)
    assert found["unreadable"] == [{"name": "broken.png", "reason": "an empty file"}]
    domain = ("--domain", "light", "--dataset", "mini.toml", "--cache", "cache", "-o", "cached.csv")
    found = document("predict", "predict", "--run", "run", *domain)
    assert (found["name"], found["labelled"], found["table"]) == ("mini/light", 9, "cached.csv")
    both = cli("predict", "--run", "run", *images, "-o", "-", "--json")
    told = "Error: --json and -o - both write to stdout; name a file for the predictions\n"
    assert (both.code, both.out, both.err) == (2, "", told)


def test_cache_and_manifest(document, work):
    shutil.copytree(work / "cache", work / "spoilt", dirs_exist_ok=True)
    entries = document("cache ls", "cache", "ls", "--cache", "spoilt")["entries"]
    assert {entry["domain"]: entry["rows"] for entry in entries} == {"dark": 9, "light": 9, "text": 6}
    assert document("cache verify", "cache", "verify", "--cache", "spoilt")["problems"] == []
    next((work / "spoilt").rglob("light/shard-*.h5")).write_bytes(b"x")
    assert len(document("cache verify", "cache", "verify", "--cache", "spoilt", code=1)["problems"]) == 1
    listed = document("manifest ls", "manifest", "ls")["datasets"]
    shown = document("manifest show", "manifest", "show", "office_home")
    assert (
        shown["dataset"]["domains"]["art"] == {"word": "art", "images": 2427} and "ROOT/Art/Drill/" in shown["layout"]
    )
    encoders = document("encoder ls", "encoder", "ls")
    assert encoders["outside"] == [] and encoders["encoders"][0]["name"] == "tiny" and encoders["encoders"][0]["cached"]
    icons = next(entry for entry in listed if entry["name"] == "icons")
    assert icons["domains"] == ["line", "solid", "color", "sketch"] and len(icons["classes"]) == 36
    check = ("manifest", "check", "mini.toml", "--data-root")
    assert document("manifest check", *check, "images")["findings"] == []
    shutil.copytree(work / "images", work / "odd")
    (work / "odd" / "dark" / "bar" / "0.png").write_bytes(b"")
    found = document("manifest check", *check, "odd")
    assert found["faults"] == 0 and found["findings"][0] == {
        "kind": "unreadable image",
        "serious": False,
        "places": ["dark/bar/0.png (an empty file)"],
    }


def test_bench(document, monkeypatch):
    for name, value in BENCHES.items():
        monkeypatch.setattr(unimos_pipe, name, lambda *args, value=value, **kwargs: value, raising=False)
    found = document("bench extract", "bench", "extract", "--dataset", "mini.toml")
    assert found["speedup"]["cosine"] is None and found["share"] == 0.5
    assert document("bench store", "bench", "store")["ratio"] == 2.5
    found = document("bench adapt", "bench", "adapt")
    assert found["times"]["runs_per_second"] == {"1": 0.5, "12": 2.0} and found["shares"] == {"addmm": 0.25}
    (found,) = document("bench methods", "bench", "methods", "mini.toml")["results"]
    assert found == asdict(BENCHES["bench_methods"].results[0]) and found["estimate"] is None
    found = document("bench memory", "bench", "memory")["trials"]
    assert found == [{"name": "extract, 1,000 images", "peak_bytes": 10**9, "seconds": 1.5}]
    found = document("bench adapt --compare-rounds", "bench", "adapt", "--compare-rounds", 1)
    assert found["stacks"] == [{"name": "ours", "seconds": [1.0], "faults": [2.0]}]


def test_what_is_not_plain_becomes_plain():
    schema = record("any", a=maybe(many({"type": "number"})), b=TEXT, c=TEXT, d=maybe(TEXT))
    value = {"a": [math.nan, -math.inf, 1.5], "b": Path("x") / "\udcff", "c": ValueError("why")}
    assert to_json(value, schema) == {"a": [None, None, 1.5], "b": "x/\\udcff", "c": "why", "d": None}
