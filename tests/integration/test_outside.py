"""What a package of its own (pipelines/outside) brings: from the sweep to predict and the report."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import unimos_pipe
from unimos_pipe.base import plugins
from unimos_pipe.base.errors import InputError
from unimos_pipe.cli.options import show_choices
from unimos_pipe.evaluation.validators import validator_scores, validator_tensors
from unimos_pipe.extract.plugin_encoder import open_encoder
from unimos_pipe.methods.base import LinearModel
from unimos_pipe.methods.unimos.loss_terms import LOSSES

EXAMPLE = Path(__file__).parents[2] / "pipelines" / "outside"
PAIR = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")
RECIPE = """name = "outside"
dataset = "icons"
pairs = ["line->sketch"]
seeds = 2
select = "certain_share"
methods = ["unimos", "ridge", "fused"]
[options.train]
epochs = 1
[options.ridge]
prompts = 2.0
[grid]
"ridge.penalty" = [0.5, 1.0]
"loss.vision_entropy" = [0.0, 0.5]
"""
ENTRY_POINTS = """[unimos_pipe.methods]
ridge = outside_methods
[unimos_pipe.losses]
vision_entropy = outside_methods
[unimos_pipe.validators]
certain_share = outside_methods
[unimos_pipe.encoders]
tiny-mirrored = outside_methods
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example installed: its module on the path, its entry points in a dist-info; forgotten afterwards."""
    place = tmp_path / "site"
    info = place / "unimos_outside-0.1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(EXAMPLE / "outside_methods.py", place)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unimos-outside\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(place)
    forget()
    yield place
    forget()


def forget():
    plugins._entry_points.cache_clear()
    sys.modules.pop("outside_methods", None)
    for group in plugins._registered.values():
        group.clear()
    LOSSES.pop("vision_entropy", None)


def test_sweep_report_predict_and_export(cli, example, icons_cache, no_figures, tmp_path):
    recipe = tmp_path / "outside.toml"
    recipe.write_text(RECIPE)
    args = ("sweep", recipe, "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert cli(*args, "--dry-run").out.startswith("outside: 9 runs, 0 finished, ")
    answer = cli(*args)
    assert answer.code == 0 and "9 run(s) trained" in answer.err
    labels = [line.split("│")[1].strip() for line in answer.out.splitlines() if line.startswith("│")]
    assert labels == [
        *("zero-shot", "UniMoS, vision_entropy=0.0", "UniMoS, vision_entropy=0.5"),
        *("ridge,penalty=0.5,prompts=2.0", "ridge,prompts=2.0", "fused"),
    ]
    runs = sorted((tmp_path / "runs").rglob("ridge,penalty=0.5,prompts=2.0/seed1/config.json"))
    config = json.loads(runs[0].read_text())
    assert config["spec"]["settings"] == {"penalty": 0.5, "prompts": 2.0, "dropout": 0.1}
    assert config["spec"]["changed"] == {"ridge.penalty": 0.5, "ridge.prompts": 2.0}
    assert {"outside_methods", "unimos_pipe.methods.base"} <= config["code"].keys()
    weighed = next((tmp_path / "runs").rglob("*vision_entropy=0.5*/seed0/config.json"))
    assert "outside_methods" in json.loads(weighed.read_text())["code"]
    selected = json.loads((weighed.parent / "result.json").read_text())["selected"]
    assert list(selected)[-1] == show_choices()[-3] == "certain_share"
    plain = next((tmp_path / "runs").rglob("full,epochs=1/seed0/config.json"))
    assert "outside_methods" not in json.loads(plain.read_text())["code"]

    report = tmp_path / "report"
    assert cli("report", tmp_path / "runs" / "outside", "--out", report, "--cache", icons_cache).code == 0
    page = (report / "report.html").read_text()
    assert "ridge: Hoerl and Kennard, Technometrics 1970" in page and "ridge, penalty=0.5, prompts=2.0" in page
    head = (report / "tables" / "runs.csv").read_text().splitlines()[0].split(",")
    assert {"ridge.penalty", "ridge.prompts", "loss.vision_entropy", "validator_certain_share"} <= {*head}
    assert "vision_entropy=0.5 (selected by certain_share)" in page
    assert "| certain_share |" in (report / "tables" / "select-settings.md").read_text()

    answers = tmp_path / "answers.csv"
    run = runs[0].parent
    asked = cli("predict", "--run", run, "--domain", "sketch", "--cache", icons_cache, "-o", answers)
    assert asked.code == 0 and "716 rows of icons/sketch" in asked.out
    assert cli("export", "--run", run, "--out", tmp_path / "model").code == 0
    assert unimos_pipe.load(tmp_path / "model").method == "ridge"


def test_settings_seeds_and_calibration_by_adapt(cli, example, icons_cache, tmp_path):
    args = ("adapt", *PAIR, "--cache", icons_cache, "--method", "ridge", "--out", tmp_path / "run")
    assert cli(*args, "--set", "ridge.penalty=0.5", "--seeds", 2).code == 0
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "run").rglob("result.json"))]
    assert len(results) == 2 and results[0]["accuracy"] != results[1]["accuracy"]
    assert results[0]["calibration"]["temperature"] != 1.0
    wrong = cli(*args, "--set", "ridge.penalties=1")
    assert wrong.code == 2 and "--set ridge.penalties: no such option; did you mean ridge.penalty" in wrong.err
    other = cli(*args, "--set", "loss.alpha=1")
    assert other.code == 2 and "ridge has no setting loss.alpha" in other.err


def test_the_plugin_option_and_what_cannot_be_imported(cli, icons_cache, tmp_path):
    forget()
    words = ("adapt", *PAIR, "--cache", icons_cache, "--method", "ridge", "--no-calibrate", "--out", tmp_path / "run")
    unknown = cli(*words)
    assert unknown.code == 2 and "'ridge' is not one of its values" in unknown.err
    assert cli("--plugin", EXAMPLE / "outside_methods.py", *words).code == 0
    forget()
    (tmp_path / "broken.py").write_text("1 / 0\n")
    broken = cli("--plugin", tmp_path / "broken.py", *words)
    assert broken.code == 2
    assert broken.err == (
        f"Error: plugin {tmp_path}/broken.py cannot be imported: ZeroDivisionError: division by zero\n"
    )


def test_an_edited_method_and_a_declared_version(cli, example, icons_cache, tmp_path):
    recipe = tmp_path / "one.toml"
    recipe.write_text('name = "one"\ndataset = "icons"\npairs = ["line->sketch"]\nseeds = 1\nmethods = ["ridge"]\n')
    args = ("sweep", recipe, "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert cli(*args).code == 0
    source = example / "outside_methods.py"
    source.write_text(source.read_text().replace("10 * weight", "20 * weight"))
    forget()
    line = "1 kept run(s) were trained with different code (outside_methods); --stale rerun retrains them"
    assert line in cli(*args).err
    assert "1 run(s) trained, 0 kept" in cli(*args, "--stale", "rerun").err
    source.write_text(source.read_text().replace('citation="', 'version="2", citation="'))
    forget()
    assert "1 run(s) trained, 0 kept" in cli(*args, "--stale", "rerun").err
    config = json.loads(next((tmp_path / "runs").rglob("config.json")).read_text())
    assert config["code"] == {"ridge": "version 2"}


def test_an_encoder_from_images_to_predictions(cli, example, miniature, tmp_path):
    cache, pair = tmp_path / "cache", ("--src", "dark", "--tgt", "light")
    given = ("--dataset", miniature.spec, "--encoder", "tiny-mirrored", "--cache", cache)
    answer = cli("extract", *given, "--all", "--data-root", miniature.root, "--workers", 0)
    assert answer.code == 0, answer.err
    (folder,) = (cache / "mini").iterdir()
    assert folder.name.startswith("tiny-mirrored_plugin_fp32-") and "--encoder tiny-mirrored" in answer.err
    assert cli("adapt", *given, *pair, "--method", "fused", "--out", tmp_path / "run").code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert json.loads(config["encoder"]["preprocessing"])["code"] == "version 1"
    features = unimos_pipe.feature_set(str(miniature.spec), encoder="tiny-mirrored", cache=cache)
    images = sorted((miniature.root / "light").rglob("*.png"))
    model = unimos_pipe.load(tmp_path / "run", device="cpu")
    stored = torch.from_numpy(features.store().domain("light").features).float()
    encoder = model.encoder()
    pixels = torch.stack([encoder.preprocess(Image.open(image).convert("RGB")) for image in images])
    assert encoder.encode_images(pixels) == pytest.approx(stored, abs=2**-11)  # stored in float16
    mirrored = encoder.encode_images(pixels.flip(2))
    assert (mirrored * encoder.encode_images(pixels)).sum(-1).min() > 1 - 1e-5
    with pytest.raises(InputError, match="precision of encoder tiny-mirrored: expected fp32 or auto, got fp16"):
        open_encoder(unimos_pipe.EncoderSpec("tiny-mirrored", "plugin", "fp16"), torch.device("cpu"))
    with pytest.raises(InputError, match="encoder 'RN50': expected a name of letters, digits, '-' and"):
        unimos_pipe.register_encoder("RN50", print, version="1")
    unknown = cli("extract", "--dataset", miniature.spec, "--encoder", "tiny-mirored", "--all", "--cache", cache)
    assert unknown.code == 2 and "unknown encoder 'tiny-mirored'; did you mean tiny-mirrored?" in unknown.err


def test_a_validator_gives_one_number():
    forget()
    probabilities, bottleneck = torch.tensor([[0.95, 0.05], [0.5, 0.5]]), torch.randn(2, 3)
    try:
        unimos_pipe.register_validator("rows", lambda probabilities, features: len(features))
        scores = validator_scores(validator_tensors(probabilities, bottleneck), 2, 2)
        assert scores["rows"] == 2.0 and list(scores) == ["im", "entropy", "bnm", "snd", "rows"]
        unimos_pipe.register_validator("rows", lambda probabilities, features: probabilities)
        with pytest.raises(InputError, match=r"score of validator rows: expected one number, got a tensor of \(2, 2\)"):
            validator_tensors(probabilities, bottleneck)
        with pytest.raises(InputError, match="'snd': expected a Python name that no shipped validator has"):
            unimos_pipe.register_validator("snd", lambda probabilities, features: 1.0)
    finally:
        forget()


def test_from_python(example, icons_cache):
    task = unimos_pipe.make_task(unimos_pipe.feature_set("icons", cache=icons_cache), "line", "sketch")
    model = unimos_pipe.adapt_task(task, method="ridge", settings={"ridge.penalty": 0.5})
    assert model.settings["about"]["accuracy"]["last"] > 0.55
    with pytest.raises(InputError, match="method 'best' has no model that predicts new images"):
        unimos_pipe.adapt_task(task, method="best")
    with pytest.raises(InputError, match="that no shipped method has"):
        unimos_pipe.register_method("gda", lambda task: None)
    with pytest.raises(InputError, match="expected a Python name that no option of loss has"):
        unimos_pipe.register_loss("alpha", lambda outputs: None)

    def fit(task, on_epoch):
        output = LinearModel(task.text_features.mT, task.text_features.new_zeros(36)).predict_target(task)
        on_epoch(output.logits, loss=1.0)
        return output

    unimos_pipe.register_method("epochs", fit)
    runs = unimos_pipe.adapt_pairs(
        unimos_pipe.feature_set("icons", cache=icons_cache),
        [("line", "sketch")],
        unimos_pipe.AdaptOptions(method="epochs", calibrate=False),
        unimos_pipe.RunLocation(out=icons_cache.parent / "epochs"),
    )
    (line,) = (runs[0].folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["losses"] == {"loss": 1.0} and json.loads(line)["accuracy"]["ensemble"] > 0.5
