"""The command line as a user meets it: both stages, whole messages, exit codes, help."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import click
import numpy as np
import pytest
import torch
from factories.images import draw

from unimos_pipe import __version__
from unimos_pipe.base.method_config import VARIANTS
from unimos_pipe.cli.main import main
from unimos_pipe.runs.write_run import BRANCH_COLUMNS, PREDICTION_COLUMNS, RAW_COLUMN

FAST = ("--epochs", 3)


def adapt_args(cache, runs, source="line", target="sketch"):
    return "adapt", "--dataset", "icons", "--cache", cache, "--runs", runs, "--src", source, "--tgt", target


@pytest.fixture
def mini(cli, miniature, tmp_path):
    """A miniature data set with cached features: (miniature, cache)."""
    cache = tmp_path / "cache"
    answer = cli("extract", *miniature.args(cache), "--all", "--data-root", miniature.root, "--workers", 0)
    assert answer.code == 0, answer.err
    return miniature, cache


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def test_adapt_writes_a_whole_run(cli, icons_cache, tmp_path):
    answer = cli(*adapt_args(icons_cache, tmp_path), *FAST)
    assert answer.code == 0
    run = only(tmp_path, "icons/tinyclip-r24-64_embedded_fp32-*/line-sketch/full,epochs=3/seed0")
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "heads.safetensors",
        "metrics.jsonl",
        "predictions.csv",
        "result.json",
        "sample.safetensors",
    ]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [-1, 0, 1, 2]
    assert lines[0]["losses"] == {} and set(lines[3]["losses"]) == {
        "lac",
        "vac",
        "im",
        "ortho",
        "bce_source",
        "bce_target",
    }
    assert 0 < lines[3]["train_weight"] < 1 and lines[3]["inference_weight"] == pytest.approx(0.7)
    result = json.loads((run / "result.json").read_text())
    assert (result["source_rows"], result["target_rows"], result["classes"]) == (624, 716, 36)
    accuracy = result["accuracy"]
    assert accuracy["zero_shot"]["accuracy"] == pytest.approx(0.624, abs=0.003)
    assert accuracy["last"]["accuracy"] == lines[3]["accuracy"]["ensemble"]
    best = max(line["accuracy"]["ensemble"] for line in lines[1:])
    assert accuracy["oracle_best"]["accuracy"] == best
    assert result["selected"]["bnm"]["accuracy"] in {line["accuracy"]["ensemble"] for line in lines[1:]}
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 716 and rows[0].keys() == {*PREDICTION_COLUMNS, RAW_COLUMN, *BRANCH_COLUMNS, "label"}
    right = sum(row["class"] == row["label"] for row in rows)
    assert right / 716 == pytest.approx(accuracy["last"]["accuracy"], abs=1e-12)
    per_class = accuracy["last"]["per_class"]
    assert len(per_class) == 36 and sum(per_class) / 36 == pytest.approx(accuracy["last"]["per_class_mean"], abs=1e-12)
    assert answer.out.startswith(
        f"line -> sketch, full,epochs=3, seed 0 (transductive): accuracy UniMoS "
        f"{100 * accuracy['last']['accuracy']:.1f} (last epoch), "
        f"zero-shot {100 * accuracy['zero_shot']['accuracy']:.1f}, oracle best "
    )
    shown = [f"{100 * accuracy['last'][figure]:.1f}" for figure in ("accuracy", "per_class_mean")]
    assert f"; per-class mean {shown[1]}; " in answer.out.splitlines()[0] and shown[0] != shown[1]


def test_the_same_seed_repeats_to_the_byte_and_another_does_not(cli, icons_cache, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = "--out", tmp_path / name, "--seed", seed
        assert cli(*adapt_args(icons_cache, tmp_path), *FAST, *out).code == 0
    for name in ("metrics.jsonl", "predictions.csv", "heads.safetensors", "sample.safetensors"):
        a, b, c = ((tmp_path / run / name).read_bytes() for run in "abc")
        assert a == b and a != c, name


def test_a_finished_run_is_refused_without_force(cli, icons_cache, tmp_path):
    args = (*adapt_args(icons_cache, tmp_path), "--epochs", 1, "--out", tmp_path / "run")
    assert cli(*args).code == 0
    again = cli(*args)
    assert (again.code, again.err) == (
        2,
        f"Error: {tmp_path}/run holds a finished run; add --force to train it again, or choose another --out or "
        "--runs\n",
    )
    assert cli(*args, "--force").code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not delete")
    refused = cli(*args[:-1], tmp_path / "mine", "--force")
    assert refused.code == 2 and "is not empty and not a run folder" in refused.err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "do not delete"


def test_adapt_needs_no_images_and_no_weights(cli, tmp_path):
    """In a copy of the package without embedded data: only the cache is read."""
    from unimos_pipe.data.dataset_spec import PACKAGE

    cache = tmp_path / "cache"
    assert cli("extract", "--dataset", "icons", "--domain", "line", "--domain", "color", "--cache", cache).code == 0
    shutil.rmtree(cache / "embedded")
    bare = tmp_path / "bare"
    shutil.copytree(PACKAGE, bare / "unimos_pipe", ignore=shutil.ignore_patterns("embedded", "__pycache__"))
    shutil.copytree(PACKAGE.parent / "data_manifests", bare / "data_manifests")
    args = [str(arg) for arg in adapt_args(cache, tmp_path / "runs", "line", "color")]
    command = [sys.executable, "-m", "unimos_pipe", *args, "--epochs", "1"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(bare)}, cwd=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("line -> color, full,epochs=1, seed 0 (transductive): accuracy UniMoS ")


def test_a_target_without_labels_gets_predictions_and_no_accuracy(cli, miniature, tmp_path):
    text = miniature.spec.read_text().replace("light = {}", 'light = { labels = "none" }')
    miniature.spec.write_text(text)
    cache = tmp_path / "cache"
    assert cli("extract", *miniature.args(cache), "--all", "--data-root", miniature.root, "--workers", 0).code == 0
    out = tmp_path / "run"
    args = ("adapt", *miniature.args(cache), "--src", "dark", "--tgt", "light", "--out", out, *FAST)
    answer = cli(*args)
    assert answer.code == 0
    first, *known = answer.out.splitlines()
    assert re.fullmatch(
        r"dark -> light, full,epochs=3, seed 0 \(transductive\): 24 rows without labels predicted in \d+\.\d s", first
    )
    assert len(known) == 3 and known[1].startswith("  agreement with zero-shot ")
    assert json.loads((out / "result.json").read_text())["accuracy"] is None
    header, *rows = (out / "predictions.csv").read_text().splitlines()
    assert header == ",".join([*PREDICTION_COLUMNS, RAW_COLUMN, *BRANCH_COLUMNS]) and len(rows) == 24
    backwards = cli("adapt", *miniature.args(cache), "--src", "light", "--tgt", "dark", "--runs", tmp_path)
    assert (backwards.code, backwards.err) == (
        2,
        "Error: source domain light has images without a label; only a target may have them\n",
    )


def test_unknown_domain_lists_the_known(cli, tmp_path):
    answer = cli("extract", "--dataset", "icons", "--domain", "oil", "--cache", tmp_path)
    assert (answer.code, answer.err) == (
        2,
        "Error: data set icons has no domain 'oil'; known: line, solid, color, sketch\n",
    )
    assert cli(*adapt_args(tmp_path, tmp_path, "line", "oil")).err == answer.err


def test_missing_features_name_the_command_that_makes_them(cli, icons_cache, mini, tmp_path):
    answer = cli("adapt", "--src", "art", "--tgt", "clipart", "--cache", tmp_path / "none")
    assert (answer.code, answer.err) == (
        2,
        f"Error: no features of office_home by RN50-quickgelu_openai in {tmp_path}/none. Make them first: "
        f"unimos-pipe extract --dataset office_home --cache {tmp_path}/none --all\n",
    )
    answer = cli("adapt", "--src", "art", "--tgt", "clipart", "--cache", icons_cache)
    assert answer.code == 2 and answer.err.endswith(
        f"extract --dataset office_home --cache {icons_cache} --all. There are features of icons\n"
    )
    miniature, cache = mini
    folder = only(cache, "mini/*/light")
    shutil.rmtree(folder)
    answer = cli("adapt", *miniature.args(cache), "--src", "dark", "--tgt", "light", "--runs", tmp_path)
    assert (answer.code, answer.err) == (
        2,
        f"Error: shards of mini/light are missing in {folder}: expected all of them, got none. "
        f"Run: unimos-pipe extract --dataset {miniature.spec} --cache {cache} --domain light\n",
    )


def test_missing_data_root_shows_the_layout(cli, tmp_path):
    answer = cli("extract", "--domain", "art", "--cache", tmp_path)
    layout = "a folder ROOT that holds Art, Clipart, Product, Real World; images such as ROOT/Art/Drill/<image>"
    assert answer.code == 2
    assert answer.err.startswith(
        f"Error: the images of office_home are missing: expected {layout}, got no folder and no UNIMOS_DATA_ROOT. "
    )
    (tmp_path / "root" / "Sculpture").mkdir(parents=True)
    answer = cli("extract", "--domain", "art", "--cache", tmp_path, "--data-root", tmp_path / "root")
    assert (answer.code, answer.err) == (
        2,
        f"Error: domain art of office_home is not in {tmp_path}/root: expected {layout}, got in "
        f"{tmp_path}/root: Sculpture. Pass the right --data-root\n",
    )


def test_an_unreadable_image_is_left_out_or_fails_the_run(cli, miniature, tmp_path):
    (miniature.root / "light" / "circle" / "3.png").write_bytes(b"")
    args = ("extract", *miniature.args(tmp_path / "cache"), "--domain", "light", "--data-root", miniature.root)
    answer = cli(*args, "--on-error", "fail")
    assert answer.code == 1 and "circle/3.png" in answer.err and "--on-error skip" in answer.err
    answer = cli(*args)
    (listed,) = (tmp_path / "cache").rglob("unreadable.csv")
    assert answer.code == 0
    assert (
        "Warning: light: 1 unreadable image(s) are left out: circle/3.png (an empty file); "
        f"listed in {listed}\nmini/light: 23 rows, 0 encoded, 23 reused, "
    ) in answer.err
    assert listed.read_bytes() == b"path,reason\r\ncircle/3.png,an empty file\r\n"


def test_class_folders_that_do_not_fit(cli, miniature, tmp_path):
    (miniature.root / "light" / "bar").rename(miniature.root / "light" / "triangle")
    args = ("extract", *miniature.args(tmp_path / "cache"), "--domain", "light", "--data-root", miniature.root)
    answer = cli(*args)
    assert (answer.code, answer.err) == (
        2,
        f"Error: the class folders in {miniature.root}/light do not fit mini: unknown triangle; without a folder: bar. "
        "Correct the folders or the spec's class list\n",
    )


def test_a_class_list_that_does_not_fit_the_shards(cli, mini, tmp_path):
    miniature, cache = mini
    miniature.spec.write_text(
        miniature.spec.read_text().replace('["circle", "square", "bar"]', '["bar", "circle", "square"]')
    )
    answer = cli("adapt", *miniature.args(cache), "--src", "dark", "--tgt", "light", "--runs", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(
        f"Error: stale labels in {only(cache, 'mini/*/dark')}/domain.json: class_names, number 1: expected 'bar', "
        "got 'circle'. Run: unimos-pipe extract "
    )


def test_fewer_than_two_rows(cli, miniature, tmp_path):
    for path in sorted((miniature.root / "light").rglob("*.png"))[1:]:
        path.unlink()
    cache = tmp_path / "cache"
    assert cli("extract", *miniature.args(cache), "--all", "--data-root", miniature.root).code == 0
    answer = cli("adapt", *miniature.args(cache), "--src", "dark", "--tgt", "light", "--runs", tmp_path)
    assert (answer.code, answer.err) == (2, "Error: the target domain is too small: expected at least 2 rows, got 1\n")


def test_source_equal_to_target(cli, icons_cache, tmp_path):
    answer = cli(*adapt_args(icons_cache, tmp_path, "line", "line"))
    assert (answer.code, answer.err) == (2, "Error: source and target are both 'line'; adaptation needs two domains\n")


def test_a_cache_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("")
    answer = cli("extract", "--dataset", "icons", "--all", "--cache", tmp_path / "file" / "cache")
    assert (answer.code, answer.err) == (
        2,
        f"Error: cannot write to {tmp_path}/file/cache: Not a directory; choose another folder with --cache\n",
    )


def test_no_network_and_no_local_weights(cli, miniature, tmp_path, monkeypatch):
    from unimos_pipe.extract import hub

    def unreachable(url, timeout):
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(hub, "cached_weights", lambda hub_file: None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", unreachable)
    args = ("extract", *miniature.args(tmp_path / "cache"), "--all", "--data-root", miniature.root)
    answer = cli(*args, "--encoder", "RN50")
    assert (answer.code, answer.err) == (
        2,
        "Error: weights 'openai' of RN50-quickgelu are not on this machine and cannot be downloaded (Temporary failure "
        "in name resolution). Connect to the network once, or copy open_clip_model.safetensors from "
        "https://huggingface.co/timm/resnet50_clip.openai to this machine and pass its path as --pretrained\n",
    )
    answer = cli(*args, "--encoder", "RN50", "--pretrained", "weights/none.pt")
    assert (answer.code, answer.err) == (
        2,
        "Error: no weights file weights/none.pt; --pretrained takes a file or one of open_clip's tags\n",
    )


def test_openai_weights_in_a_gelu_model_are_refused(cli, miniature, tmp_path):
    weights = tmp_path / "openai" / "RN50.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    args = ("extract", *miniature.args(tmp_path / "cache"), "--all", "--data-root", miniature.root)
    answer = cli(*args, "--model", "RN50", "--pretrained", weights)
    assert (answer.code, answer.err) == (
        2,
        "Error: weights RN50.pt were trained with QuickGELU, the model: expected RN50-quickgelu, got RN50, which has "
        "GELU and would corrupt the features\n",
    )


def test_bad_options_are_named(cli, icons_cache, tmp_path):
    base = adapt_args(icons_cache, tmp_path)
    assert cli(*base, "--set", "loss.gama=1").err.startswith(
        "Error: --set loss.gama: no such option; did you mean loss.gamma? known: heads."
    )
    assert cli(*base, "--set", "loss.gamma=much").err == "Error: --set loss.gamma: expected float, got 'much'\n"
    answer = cli(*base, "--set", "loss.gamma=-1", "--set", "train.momentum=2")
    assert (answer.code, answer.err) == (
        2,
        "Error: adapt: loss.gamma: expected at least 0.0, got -1.0; train.momentum: expected 0.0 to 0.9999, got 2.0\n",
    )
    clash = cli(*base, "--variant", "no-im", "--set", "loss.im=true")
    assert clash.err == "Error: adapt: variant no-im is defined by loss.im; do not set it as well\n"
    assert "'no-such' is not one of" in cli(*base, "--variant", "no-such").err
    assert list(VARIANTS)[1] in cli(*base, "--variant", "no-such").err


def test_a_device_that_is_not_there(cli, icons_cache, tmp_path):
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    answer = cli(*adapt_args(icons_cache, tmp_path), "--device", absent)
    assert answer.code == 2
    assert answer.err.startswith(f"Error: --device {absent}: expected a device that torch can use here (cpu")


def test_nan_features_cannot_get_into_a_shard(tmp_path):
    from unimos_pipe.base.errors import ExecutionError
    from unimos_pipe.cache.shard import write_image_shard

    features = np.full((2, 4), 0.5)
    features[1, 0] = np.nan
    with pytest.raises(ExecutionError, match=r"the encoder's feature of b.png: expected unit norm, got nan"):
        write_image_shard(tmp_path / "s.h5", None, features, ["a.png", "b.png"], [0, 1], [[0] * 16] * 2, [[0] * 3] * 2)
    assert not list(tmp_path.iterdir())


def test_precisions_side_by_side_have_to_be_chosen_from(cli, mini, tmp_path):
    miniature, cache = mini
    extract = ("extract", *miniature.args(cache), "--all", "--data-root", miniature.root, "--workers", 0)
    assert cli(*extract, "--encoder-precision", "bf16").code == 0
    adapt = ("adapt", *miniature.args(cache), "--src", "dark", "--tgt", "light", "--runs", tmp_path, "--epochs", 1)
    answer = cli(*adapt)
    ids = sorted(path.name for path in (cache / "mini").iterdir())
    assert (answer.code, answer.err) == (
        2,
        f"Error: mini was encoded in several ways: {ids[0]}, {ids[1]}; choose one with --encoder-id\n",
    )
    assert cli(*adapt, "--encoder-id", ids[0]).code == 0


def test_version_and_verbosity(cli, miniature, tmp_path):
    assert cli("--version").out == f"unimos-pipe, version {__version__}\n"
    args = ("extract", *miniature.args(tmp_path), "--domain", "dark", "--data-root", miniature.root, "--workers", 0)
    assert cli("-q", *args).err == ""
    assert re.match(r"mini/dark: 24 rows, 0 encoded, 24 reused, \d+\.\d s\n", cli(*args).err)
    assert "weights sha256 1fd650a7" in cli("-v", *args).err
    assert cli("-q", "-v", *args).code == 2


@pytest.mark.parametrize("command", [(), *((name,) for name in main.commands)])
def test_help_names_every_option_and_needs_no_heavy_library(command):
    code = f"""
import sys
from unimos_pipe.cli.main import main
try:
    main({[*command, "--help"]!r})
finally:
    heavy = {{"torch", "open_clip", "h5py", "sklearn", "matplotlib", "numpy.linalg"}} & set(sys.modules)
    print("HEAVY", sorted(heavy - {{"numpy.linalg"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("Usage: ") and done.stdout.endswith("HEAVY []\n"), done.stdout[-300:] + done.stderr
    if command:
        shown = main.commands[command[0]]
        options = [name for param in shown.params for name in param.opts if name.startswith("--")]
        assert all(name in done.stdout for name in options)
        assert all(param.help for param in shown.params if isinstance(param, click.Option))


def test_domain_drawn_twice_is_encoded_once(cli, miniature, tmp_path):
    args = ("extract", *miniature.args(tmp_path / "c"), "--data-root", miniature.root, "--workers", 0)
    answer = cli(*args, "--domain", "dark", "--domain", "dark")
    assert answer.err.count("mini/dark") == 1
    assert cli(*args).err == "Error: say which domains: --domain NAME (known: dark, light) or --all\n"
    draw(miniature.root / "dark" / "bar" / "9.png", 2, np.random.default_rng(1), True)
    assert cli(*args, "--domain", "dark").err.startswith("mini/dark: 25 rows, 1 encoded, 24 reused, ")


@pytest.mark.parametrize("words", [(), ("cache",), ("manifest",), ("encoder",)])
def test_a_group_alone_prints_its_help(words, cli):
    lines = cli(*words).err.splitlines()
    assert lines[0] == " ".join(("Usage:", "main", *words, "[OPTIONS] COMMAND [ARGS]..."))
    assert "Commands:" in lines and "\\n" not in "".join(lines)
