"""Image features without text: methods that read none run, the others are refused with the methods that work."""

import json

import numpy as np
import pytest

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.runs.read_run import read_run

REFUSED = (
    "Error: the features by 'DINOv2' have no text, and {} reads text features. Choose --method source-probe or "
    "--method linear-im, which read none, or import text features of the classes with --text or --text-from\n"
)


@pytest.fixture
def work(cli, tmp_path):
    """The imported domains a and b, three classes that a probe can separate: the cache and the spec."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 16))
    (tmp_path / "classes.txt").write_text("cup\nbus\ncat\n")
    args = ("--dataset", tmp_path / "own.toml", "--classes", tmp_path / "classes.txt", "--encoder-name", "DINOv2")
    for domain in "ab":
        labels = np.arange(60) % 3
        np.save(tmp_path / f"{domain}.npy", centres[labels] + 0.3 * rng.standard_normal((60, 16)))
        np.save(tmp_path / f"{domain}-labels.npy", labels)
        files = tmp_path / f"{domain}.npy", "--labels", tmp_path / f"{domain}-labels.npy"
        answer = cli("cache", "import", *files, *args, "--domain", domain, "--cache", tmp_path / "cache")
        assert answer.code == 0, answer.err
    assert "adapt --src a --tgt b --method source-probe --dataset" in answer.err
    return tmp_path


def test_methods_that_read_no_text_run_and_the_others_say_so(cli, work, no_figures):
    own = ("--dataset", work / "own.toml", "--cache", work / "cache")
    adapt = ("adapt", *own, "--src", "a", "--tgt", "b", "--runs", work / "runs")
    for method in ("unimos", "auto", "zero-shot"):
        answer = cli(*adapt, "--method", method)
        assert (answer.code, answer.out, answer.err) == (2, "", REFUSED.format(method))
    assert not (work / "runs").exists()
    answer = cli(*adapt, "--method", "source-probe")
    line = answer.out.split("; ")[0]
    assert (answer.code, line) == (0, "a -> b, source-probe (transductive): accuracy source-probe 100.0")
    (folder,) = (path.parent for path in (work / "runs").rglob("result.json"))
    result = json.loads((folder / "result.json").read_text())
    assert "zero_shot" not in result["accuracy"] and result["estimate"]["reason"] == "the features have no text"
    assert read_run(folder).scores("zero_shot") is None and result["calibration"]["basis"] == "source"
    assert cli("report", folder, "--out", work / "report").code == 0
    answer = cli("predict", "--run", folder, "--domain", "b", "-o", work / "p.csv", *own)
    assert answer.code == 0 and len((work / "p.csv").read_text().splitlines()) == 61
    assert cli("export", "--run", folder, "-o", work / "export").code == 0
    assert "CLIP zero-shot" not in (work / "export" / "README.md").read_text()
    answer = cli(*adapt, "--method", "source-probe", "--unknown", "auto", "--force")
    assert answer.code == 1 and "unknown: the features have no text" in answer.err


def test_a_recipe_of_such_methods_is_a_table_without_zero_shot(cli, work):
    recipe = work / "own_methods.toml"
    recipe.write_text(
        f'name = "own"\ndataset = "{work / "own.toml"}"\nmethods = ["source-probe", "linear-im"]\nseeds = 1\n'
    )
    swept = unimos_pipe.run_sweep(
        str(recipe), unimos_pipe.feature_set(str(work / "own.toml"), cache=work / "cache"), work / "runs"
    )
    assert [row.label for row in swept.rows] == ["source-probe", "linear-im"]
    assert swept.mean("source-probe") == swept.mean("linear-im") == 1.0
    task = unimos_pipe.make_task(unimos_pipe.feature_set(str(work / "own.toml"), cache=work / "cache"), "a", "b")
    assert unimos_pipe.adapt_task(task, method="source-probe").settings["about"]["accuracy"] == {"last": 1.0}
    with pytest.raises(InputError, match=r"^the features by 'DINOv2' have no text, and auto reads"):
        unimos_pipe.adapt_task(task, method="auto")
