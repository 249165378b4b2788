"""A target with labels for some rows: accuracy and its interval on them, everywhere, and nothing else changes."""

import csv
import json
import re

import pytest

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.runs.statistics import describe_labelled_rows

LABELLED = 6  # of 24 rows


@pytest.fixture
def some(cli, miniature, tmp_path):
    """Options that name a data set whose target has 6 labels in 24 rows, extracted; circles have none."""
    known = {f"{name}/{index}.png": name for name in ("square", "bar") for index in range(3)}
    paths = [f"{name}/{index}.png" for name in ("circle", "square", "bar") for index in range(8)]
    rows = "".join(f"{path},{known.get(path, '')}\n" for path in paths)
    (miniature.root / "light" / "labels.csv").write_text(f"path,class\n{rows}")
    spec = tmp_path / "my.toml"
    domains = f"--domain=shop={miniature.root}/dark", f"--domain=phone={miniature.root}/light:labels.csv"
    assert cli("manifest", "scan", *domains, "-o", spec, "--encoder", "tiny").code == 0
    given = "--dataset", spec, "--cache", tmp_path / "c"
    assert cli("extract", *given, "--all", "--workers", 0).code == 0
    return given


def adapted(cli, given, out, *options):
    answer = cli("adapt", *given, "--src", "shop", "--tgt", "phone", "--epochs", 2, "--out", out, *options)
    assert answer.code == 0, answer.err
    return answer.out, json.loads((out / "result.json").read_text())


def test_six_of_24_rows(cli, some, no_figures, tmp_path):
    out = tmp_path / "run"
    told, result = adapted(cli, some, out)
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    known = [row for row in rows if row["label"]]
    right = sum(row["class"] == row["label"] for row in known) / LABELLED
    last = result["accuracy"]["last"]
    worth = describe_labelled_rows(right, LABELLED, 24)
    assert len(rows) == 24 and len(known) == LABELLED == result["labelled_rows"]
    assert last["accuracy"] == right and last["per_class"][1] is None  # bar, circle, square
    assert worth.endswith(f"interval {100 * last['interval'][0]:.1f} to {100 * last['interval'][1]:.1f}")
    assert f"accuracy UniMoS {100 * right:.1f} (last epoch), zero-shot " in told
    assert f"; accuracy on {worth}; " in told

    answer = cli("predict", "--run", out, "--domain", "phone", *some, "-o", tmp_path / "a.csv")
    assert answer.out == f"{tmp_path / 'a.csv'}: 24 rows of my/phone; accuracy {100 * right:.1f} on {worth}\n"
    card = cli("export", "--run", out, "--out", tmp_path / "model")
    assert card.code == 0
    assert f"| accuracy on phone, {worth} | % |" in (tmp_path / "model" / "README.md").read_text()

    assert cli("report", out, "--out", tmp_path / "report").code == 0
    table = list(csv.DictReader((tmp_path / "report/tables/headline.csv").open()))
    assert table[0]["labels"] == worth and table[0]["UniMoS"] == f"{100 * right:.4f}"
    page = (tmp_path / "report/report.html").read_text()
    assert worth in page and "95% Wilson interval" in page


def test_the_other_methods_say_it_too(cli, some, tmp_path):
    out = tmp_path / "run"
    answer = cli("adapt", *some, "--src", "shop", "--tgt", "phone", "--method", "source-probe", "--out", out)
    rows = [row for row in csv.DictReader((out / "predictions.csv").open()) if row["label"]]
    right = sum(row["class"] == row["label"] for row in rows) / LABELLED
    assert f"; accuracy on {describe_labelled_rows(right, LABELLED, 24)}; " in answer.out
    told = cli("predict", "--run", out, "--domain", "phone", *some, "-o", tmp_path / "a.csv").out
    assert told.endswith(f"; accuracy {100 * right:.1f} on {describe_labelled_rows(right, LABELLED, 24)}\n")


def test_labels_change_nothing_but_the_scores(cli, some, tmp_path):
    """Weights and answers are those of a run whose target has no labels, to the byte."""
    adapted(cli, some, tmp_path / "some")
    table = tmp_path / "my.phone.csv"
    table.write_text(re.sub(",.+", ",", table.read_text()).replace("path,", "path,class"))
    assert cli("extract", *some, "--all").code == 0
    _, result = adapted(cli, some, tmp_path / "none")
    assert result["accuracy"] is None and result["labelled_rows"] == 0
    assert (tmp_path / "some/heads.safetensors").read_bytes() == (tmp_path / "none/heads.safetensors").read_bytes()
    tables = [list(csv.DictReader((tmp_path / name / "predictions.csv").open())) for name in ("some", "none")]
    assert [{**row, "label": ""} for row in tables[0]] == [{**row, "label": ""} for row in tables[1]]


def test_a_sweep_says_what_its_accuracies_are_of_and_takes_new_labels(cli, some, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\ndataset = "{some[1]}"\npairs = ["shop->phone"]\nseeds = 1\n[options.train]\nepochs = 1\n'
    )
    sweep = ("sweep", recipe, "--cache", some[3], "--runs", tmp_path / "runs")
    first = cli(*sweep)
    assert "accuracies on phone are those of 6 labelled of 24 rows" in first.err.splitlines()
    assert "target probe" not in first.out  # an oracle of six rows is none
    assert "1 run(s) trained, 0 kept" in first.err and "0 run(s) trained, 1 kept" in cli(*sweep).err
    table = tmp_path / "my.phone.csv"
    table.write_text(table.read_text().replace("circle/0.png,", "circle/0.png,circle"))
    assert cli("extract", *some[:4], "--all").code == 0
    again = cli(*sweep)
    assert "accuracies on phone are those of 7 labelled of 24 rows" in again.err.splitlines()
    assert "0 run(s) trained, 1 kept" in again.err and "1 run(s) re-scored without training" in again.err


def test_labels_teach_a_method_and_are_scored_by_fits_without_them(cli, some, tmp_path):
    given = *some, "--src", "shop", "--tgt", "phone", "--use-target-labels"
    answer = cli("adapt", *given, "--method", "auto", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    right = sum(row["class"] == row["label"] for row in rows if row["label"]) / LABELLED
    assert result["accuracy"]["last"]["accuracy"] == right
    assert (result["taught_rows"], result["labelled_rows"]) == (LABELLED, LABELLED)
    assert "; 6 labels of the target taught; each is scored by a fit without it; " in answer.out
    assert cli("predict", "--run", tmp_path / "run", "--domain", "phone", *some, "-o", tmp_path / "a.csv").code == 0
    refused = cli("adapt", *given, "--method", "zero-shot", "--out", tmp_path / "other")
    assert (refused.code, refused.err) == (2, "Error: zero-shot learns from no labels\n")


def test_labels_teach_unimos_and_are_not_scored(cli, some, tmp_path):
    told, result = adapted(cli, some, tmp_path / "run", "--use-target-labels")
    assert "24 rows without labels predicted in " in told and " s after learning from 6 labels of the target\n" in told
    assert (result["accuracy"], result["taught_rows"], result["labelled_rows"]) == (None, LABELLED, 0)
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    assert "label" not in rows[0]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["label"] == "full,target-labels,epochs=2" and len(config["shards"]["target labels"]) == 1
    again = cli("adapt", *some, "--src", "phone", "--tgt", "shop", "--out", tmp_path / "other")
    assert again.code == 2  # a source needs every label


def test_labels_of_a_target_without_any_are_refused(cli, some, tmp_path):
    table = tmp_path / "my.phone.csv"
    table.write_text(re.sub(r",(square|bar)$", ",", table.read_text(), flags=re.MULTILINE))
    assert cli("extract", *some, "--all", "--workers", 0).code == 0
    answer = cli("adapt", *some, "--src", "shop", "--tgt", "phone", "--use-target-labels", "--out", tmp_path / "run")
    told = "target labels are to be used, and no image of phone has one. Label some in its CSV and extract again"
    assert (answer.code, answer.err) == (2, f"Error: {told}\n")


def test_images_to_label_next_come_first_in_the_label_file(cli, some, tmp_path):
    run, table = tmp_path / "run", tmp_path / "my.phone.csv"
    pair = ("--src", "shop", "--tgt", "phone", "--method", "fused", "--out", run)
    assert cli("adapt", *some, *pair).code == 0
    before = table.read_text().splitlines()
    answer = cli("label", "next", "--run", run, "-n", 4, "--cache", tmp_path / "c")
    assert (answer.code, answer.out) == (0, f"{table}: 4 of 18 images without a label are now first\n"), answer.err
    after = table.read_text().splitlines()
    assert after[0] == before[0] and sorted(after) == sorted(before)
    assert all(line.endswith(",") for line in after[1:5])
    assert [line for line in before if line not in after[1:5]] == [after[0], *after[5:]]
    assert answer.err.startswith("".join(f"  {line[:-1]}\n" for line in after[1:5]))
    assert cli("extract", *some, "--all", "--workers", 0).code == 0
    told = cli("adapt", *some, *pair, "--force").err
    assert "labels of phone changed" not in told
    other = cli("label", "next", "--run", run, "-n", 30, "--way", "random", "--cache", tmp_path / "c")
    assert other.out == f"{table}: 18 of 18 images without a label are now first\n"
    wrong = cli("label", "next", "--run", run, "--way", "rnadom")
    assert wrong.code == 2 and "'rnadom' is not one of its values" in wrong.err


def test_labels_teach_a_task_from_python(some, tmp_path):
    features = unimos_pipe.feature_set(str(some[1]), cache=some[3])
    task = unimos_pipe.make_task(features, "shop", "phone", device="cpu")
    rows = task.data.task.target.features
    for method, settings in (("fused", {}), ("unimos", {"train.epochs": 2})):
        plain = unimos_pipe.adapt_task(task, method=method, settings=settings)
        taught = unimos_pipe.adapt_task(task, method=method, settings=settings, use_target_labels=True)
        assert plain.settings["about"]["rows"]["labelled"] == LABELLED
        assert taught.settings["about"]["accuracy"] is None and "labelled" not in taught.settings["about"]["rows"]
        first, second = (model.predict_features(rows).probabilities for model in (plain, taught))
        assert (first - second).abs().max() > 1e-3
    with pytest.raises(InputError, match=r"^zlap learns from no labels$"):
        unimos_pipe.adapt_task(task, method="zlap", use_target_labels=True)
