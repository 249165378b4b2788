"""The yardstick of methods: files of features, variants by seed, and figures against hand counts."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.tasks import random_task
from safetensors.numpy import save_file

from unimos_pipe.base.errors import InputError
from unimos_pipe.bench import methods as methods_module
from unimos_pipe.bench.feature_pairs import FORMS, LabelledPair, LabelledRows, make_variant, read_pairs
from unimos_pipe.bench.method_results import MethodResult, hash_inputs, read_results, write_results
from unimos_pipe.bench.methods import bench_methods, measure_pair, summarise
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.runs.run_spec import RESULTS_VERSION

TASK = random_task()
TEXT = TASK.text_features.numpy()


def rows(count: int, seed: int) -> LabelledRows:
    return LabelledRows(random_task(target=count, seed=seed).target.features.numpy(), np.arange(count) % 5, TEXT)


PAIR = LabelledPair("made", "closed", "a->b", rows(60, 1), rows(100, 2))


@pytest.fixture
def file(tmp_path):
    parts = {"a": rows(40, 0), "b": rows(60, 1)}
    np.savez(
        tmp_path / "made.npz",
        x=np.concatenate([part.features for part in parts.values()]).astype(np.float16),
        y=np.concatenate([part.labels for part in parts.values()]),
        d=np.repeat(list(parts), [40, 60]),
        mu=TEXT,
        classes=np.array(list("vwxyz")),
    )
    return tmp_path / "made.npz"


def test_three_forms_of_files_give_the_same_pairs(file, tmp_path):
    (tmp_path / "made").mkdir()
    named = {"classes": np.array(list("vwxyz")), "text": TEXT}
    for pair in read_pairs(file, ["a->b"]):
        for name, part in (("a", pair.source), ("b", pair.target)):
            tensors = {"features": part.features, "labels": part.labels, "text": TEXT}
            save_file(
                {key: np.ascontiguousarray(value) for key, value in tensors.items()},
                tmp_path / f"made/{name}.safetensors",
            )
            named |= {name: part.features, f"{name}_labels": part.labels}
    np.savez(tmp_path / "named.npz", **named)
    wanted = read_pairs(file)
    assert [pair.name for pair in wanted] == ["a->b", "b->a"]
    for other in (tmp_path / "made", tmp_path / "named.npz"):
        for found, pair in zip(read_pairs(other), wanted, strict=True):
            assert found.name == pair.name and np.array_equal(found.target.labels, pair.target.labels)
            assert np.array_equal(found.source.features, pair.source.features)


def test_named_pairs_are_taken_and_a_file_without_them_gives_all(file):
    assert [pair.name for pair in read_pairs(file, ["b->a", "x->y"])] == ["b->a"]
    assert len(read_pairs(file, ["x->y"])) == 2


def test_files_of_other_forms_are_named(tmp_path):
    np.savez(tmp_path / "odd.npz", z=np.zeros(3))
    with pytest.raises(InputError) as error:
        read_pairs(tmp_path / "odd.npz")
    assert str(error.value) == f"{tmp_path / 'odd.npz'}: expected {FORMS}, got an .npz of z"
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"got 0 file\(s\) of features, labels and text"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("variant", "side", "counts"),
    [
        ("partial", "target", [20, 0, 0, 20, 0]),
        ("long-tailed", "target", [20, 10, 7, 5, 4]),
        ("few-target-2", "target", [2] * 5),
        ("few-source-5", "source", [5] * 5),
    ],
)
def test_variants_by_count(variant, side, counts):
    made = make_variant(PAIR, variant)
    found = np.bincount(getattr(made, side).labels, minlength=5)
    assert sorted(found) == sorted(counts) and (variant == "long-tailed" or list(found) == counts)
    other = "source" if side == "target" else "target"
    assert getattr(made, other) is getattr(PAIR, other) and made.variant == variant
    assert np.array_equal(getattr(make_variant(PAIR, variant), side).features, getattr(made, side).features)


def test_a_variant_that_changes_nothing_is_none():
    assert make_variant(LabelledPair("made", "closed", "a->b", rows(10, 1), rows(10, 2)), "few-source-2") is None
    with pytest.raises(InputError, match=r"^unknown variant 'few'"):
        make_variant(PAIR, "few")


def test_results_are_those_of_the_methods_counted_by_hand():
    results = {result.method: result for result in measure_pair(PAIR, ["zero-shot", "fused", "auto"])}
    task, labels = PAIR.task(), torch.from_numpy(PAIR.target.labels)
    right = {name: float((METHODS[name].fit(task).classes == labels).double().mean()) for name in results}
    assert {name: result.accuracy for name, result in results.items()} == right
    best = max(right["zero-shot"], right["fused"])  # auto is no part of what it is measured against
    for name, result in results.items():
        assert (result.regret, result.gain) == (best - right[name], right[name] - right["zero-shot"])
        assert (result.source_rows, result.target_rows) == (60, 100)
        assert result.estimate is None or result.low <= result.estimate <= result.high
    assert results["auto"].ece_matched is not None


def test_selectors_alone_are_measured_against_each_other():
    results = measure_pair(PAIR, ["auto", "ensv"])
    best = max(result.accuracy for result in results)
    assert [result.regret for result in results] == [best - result.accuracy for result in results]


def test_methods_of_other_outputs_answer_as_if_fitted_alone_and_count_their_seconds():
    parts = ["zero-shot", "source-probe", "fused", "stacked", "gda", "linear-im"]
    together = {result.method: result for result in measure_pair(PAIR, [*parts, "ensemble3", "ensv"])}
    for name, used in (("ensemble3", ("fused", "linear-im")), ("ensv", parts)):
        (alone,) = measure_pair(PAIR, [name])
        assert (together[name].accuracy, together[name].ece) == (alone.accuracy, alone.ece)
        assert together[name].seconds > sum(together[part].seconds for part in used)


def result(dataset: str, **changes) -> MethodResult:
    values = {
        "dataset": dataset, "variant": "closed", "pair": "a->b", "method": "m", "source_rows": 1, "target_rows": 1,
        "accuracy": 0.5, "regret": 0.0, "gain": 0.0, "estimate": None, "low": None, "high": None, "ece": 0.1,
        "ece_matched": None, "seconds": 1.0,
    }  # fmt: skip
    return MethodResult(**values | changes)


def test_means_are_over_data_sets_and_counts_over_pairs():
    told = {"estimate": 0.6, "low": 0.4, "high": 0.7, "ece_matched": 0.05}
    found = summarise(
        [
            result("a", accuracy=0.4, regret=0.2, gain=-0.02, **told),
            result("a", accuracy=0.8, regret=0.1, gain=-0.005, **told),
            result("b", accuracy=0.9, regret=-0.1, gain=0.3),
        ]
    )
    assert found.accuracy == pytest.approx((0.6 + 0.9) / 2) and found.regret == pytest.approx((0.15 - 0.1) / 2)
    assert (found.worst_regret, found.worst_gain, found.losses, found.pairs) == (0.2, -0.02, 1, 3)
    assert found.estimate_error == pytest.approx(0.2) and found.estimated == pytest.approx(2 / 3)
    assert found.covered == 0.5 and found.ece_matched == pytest.approx(0.05) and found.ece == pytest.approx(0.1)
    silent = summarise([result("a")])
    assert (silent.estimate_error, silent.covered, silent.ece_matched, silent.estimated) == (None, None, None, 0)


def test_the_command_prints_a_table_a_variant_and_writes_every_result(cli, file, tmp_path):
    options = ("--variant", "closed", "--variant", "few-source-2", "--method", "zero-shot", "--method", "auto")
    answer = cli("bench", "methods", file, *options, "--out", tmp_path / "m.csv")
    assert answer.code == 0, answer.err
    for title in ("closed: 2 pairs", "few-source-2: 2 pairs", "all: 4 pairs"):
        assert title in answer.out
    with (tmp_path / "m.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert [(row["variant"], row["pair"], row["method"]) for row in found][:3] == [
        ("closed", "a->b", "zero-shot"),
        ("closed", "a->b", "auto"),
        ("closed", "b->a", "zero-shot"),
    ]
    assert len(found) == 8 and 0 < float(found[0]["accuracy"]) <= 1


def test_unimos_is_measured_where_it_is_asked_for(file):
    found = bench_methods([file], ["zero-shot", "unimos"], ["few-source-2"], ["a->b"]).results
    assert [result.method for result in found] == ["zero-shot", "unimos"] and 0 < found[1].accuracy <= 1
    with pytest.raises(InputError, match=r"^unknown method 'best'"):
        bench_methods([file], ["best"])


def test_an_interrupted_file_is_continued(file, tmp_path, monkeypatch):
    arguments = [file], ["zero-shot", "clip-distillation"], ["closed", "few-source-2"]
    whole = bench_methods(*arguments, out=tmp_path / "whole.csv")
    measured = []

    def stop_at(count):
        def measure(pair, methods):
            if len(measured) == count:
                raise KeyboardInterrupt
            measured.append((pair.variant, pair.name))
            return measure_pair(pair, methods)

        return measure

    monkeypatch.setattr(methods_module, "measure_pair", stop_at(3))
    with pytest.raises(KeyboardInterrupt):
        bench_methods(*arguments, out=tmp_path / "part.csv")
    monkeypatch.setattr(methods_module, "measure_pair", stop_at(None))
    part = bench_methods(*arguments, out=tmp_path / "part.csv")
    assert measured == [(variant, pair) for variant in arguments[2] for pair in ("a->b", "b->a")]
    assert [replace(row, seconds=0) for row in part.results] == [replace(row, seconds=0) for row in whole.results]
    assert bench_methods(*arguments, out=tmp_path / "part.csv") == part and len(measured) == 4  # every float as it was


def test_files_of_other_versions_columns_pairs_and_methods_are_refused(tmp_path):
    path, key = tmp_path / "m.csv", hash_inputs(PAIR)
    remedy = ". Give another file, or remove this one"
    write_results(path, {key: [result("made", estimate=0.25)]})
    sound = path.read_text()
    assert read_results(path, [key], ["m"]) == {key: [result("made", estimate=0.25)]}
    assert read_results(tmp_path / "none.csv", [key], ["m"]) == {}

    def message(text: str, inputs=(key,), methods=("m",)) -> str:
        path.write_text(text)
        with pytest.raises(InputError) as error:
            read_results(path, inputs, methods)
        return str(error.value).removeprefix(str(path)).removesuffix(remedy)

    assert message(sound.replace(f"{RESULTS_VERSION},{key}", f"1,{key}")) == (
        f": version of the results: expected {RESULTS_VERSION}, got 1"
    )
    header = sound.splitlines()[0]
    assert message(sound.replace("version,", "", 1)) == f": columns: expected {header}, got {header[8:]}"
    assert message("") == f": columns: expected {header}, got none"
    assert message(sound, methods=("m", "auto")) == ": methods: expected m, auto, got m"
    assert message(sound.replace("0.25", "high")) == ", line 2: could not convert string to float: 'high'"
    assert message(sound + "6\n") == ", line 3: cells: expected 17, got 1"
    other = hash_inputs(replace(PAIR, target=replace(PAIR.target, labels=PAIR.target.labels[::-1])))
    assert message(sound, inputs=(other,)) == ", line 2: expected a pair of this command, got made, closed, a->b"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"m\.csv is no CSV file: 'utf-8' codec"):
        read_results(path, [key], ["m"])
