"""Unknown rows against labels: classes that a spec hides, and rows that a label file calls unknown."""

import csv
import json

import pytest

PAIR = ("--src", "dark", "--tgt", "light")


def read(run):
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    return rows, json.loads((run / "result.json").read_text())


def check_scores(rows, result):
    known = [row for row in rows if row["label"] not in ("", "(unknown)")]
    unknown = [row for row in rows if row["label"] == "(unknown)"]
    scores = result["unknown"]["scores"]
    assert (scores["known_rows"], scores["unknown_rows"]) == (len(known), len(unknown))
    assert scores["known_before"] == sum(row["known_class"] == row["label"] for row in known) / len(known)
    assert scores["known_after"] == sum(row["class"] == row["label"] for row in known) / len(known)
    assert scores["found"] == sum(row["class"] == "(unknown)" for row in unknown) / len(unknown)
    assert result["accuracy"]["last"]["accuracy"] == scores["known_before"]


@pytest.mark.parametrize(("protocol", "rows"), [("open-set", 24), ("open-partial", 16)])
def test_hidden_classes_of_a_spec(cli, miniature, tmp_path, protocol, rows):
    lines = 'unknown_classes = ["bar"]\nsource_only_classes = ["square"]\n[domains]'
    miniature.spec.write_text(miniature.spec.read_text().replace("[domains]", lines))
    given = miniature.args(tmp_path / "c")
    assert cli("extract", *given, "--all", "--data-root", miniature.root, "--workers", 0).code == 0
    options = (*PAIR, "--method", "auto", "--protocol", protocol, "--unknown", "auto", "--out", tmp_path / "run")
    answer = cli("adapt", *given, *options)
    assert answer.code == 0, answer.err
    table, result = read(tmp_path / "run")
    assert len(table) == rows and {row["class"] for row in table} <= {"circle", "square", "(unknown)"}
    assert {row["path"].partition("/")[0] for row in table if row["label"] == "(unknown)"} == {"bar"}
    check_scores(table, result)
    assert f"of 8 images labelled (unknown) {100 * result['unknown']['scores']['found']:.1f}% are found; " in answer.out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["label"] == f"auto,{protocol},unknown"
    taught = cli("adapt", *given, *options, "--use-target-labels", "--force")
    told = f"Error: protocol {protocol} hides classes of the target, whose labels cannot teach then\n"
    assert (taught.code, taught.err) == (2, told)


def test_rows_that_a_label_file_calls_unknown(cli, miniature, tmp_path):
    spec = tmp_path / "my.toml"
    names = {"circle": "(unknown)", "square": "square", "bar": "bar"}
    lines = [f"{name}/{index}.png,{label}\n" for name, label in names.items() for index in range(8)]
    (miniature.root / "light" / "labels.csv").write_text("path,class\n" + "".join(lines))
    domains = f"--domain=dark={miniature.root}/dark", f"--domain=light={miniature.root}/light:labels.csv"
    assert cli("manifest", "scan", *domains, "-o", spec, "--encoder", "tiny").code == 0
    given = "--dataset", spec, "--cache", tmp_path / "c"
    assert cli("extract", *given, "--all", "--workers", 0).code == 0
    run = tmp_path / "run"
    trained = ("adapt", *given, *PAIR, "--epochs", 2, "--no-calibrate", "--unknown", "0.25", "--out", run)
    assert cli(*trained).code == 0
    table, result = read(run)
    assert sum(row["label"] == "(unknown)" for row in table) == 8 == result["unknown"]["scores"]["unknown_rows"]
    check_scores(table, result)
    file = tmp_path / "my.light.csv"
    file.write_text(file.read_text().replace("circle/0.png,(unknown)", "circle/0.png,circle"))
    assert cli("extract", *given, "--all", "--workers", 0).code == 0
    again = cli(*trained, "--force")
    assert again.code == 0, again.err
    table, result = read(run)
    assert result["unknown"]["scores"]["unknown_rows"] == 7
    check_scores(table, result)
