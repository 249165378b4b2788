"""Run folders: whole or absent, verified when read, and only a run's own folder is replaced."""

import json
import shutil

import numpy as np
import pytest
from factories.runs import forge, forge_json, write_run
from safetensors.numpy import load, save

from unimos_pipe.base.errors import InputError
from unimos_pipe.runs.read_run import RunFolderError, read_run
from unimos_pipe.runs.write_run import FILES, check_run_folder


def test_a_whole_run_is_read_and_its_digests_are_what_the_docstring_says(tmp_path):
    import xxhash

    folder = write_run(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    run = read_run(folder)
    assert (run.pair, run.label, run.accuracy("last"), len(run.predictions), len(run.epochs)) == (
        "dark->light", "full", 0.7, 12, 4,
    )  # fmt: skip
    result = json.loads((folder / "result.json").read_text())
    assert result["files"] == {
        name: xxhash.xxh3_128((folder / name).read_bytes()).hexdigest() for name in FILES if name != "result.json"
    }
    own = result.pop("digest")
    assert own == xxhash.xxh3_128(json.dumps(result, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_a_run_of_the_time_when_unimos_was_the_only_method_is_read(tmp_path):
    folder = write_run(tmp_path)

    def old(config):
        spec = config["spec"]
        spec["method"] = spec.pop("options")

    before = read_run(folder)
    forge_json(folder, "config.json", old)
    assert read_run(folder).spec == before.spec and read_run(folder).option("loss.alpha") == 1.0


def test_a_run_of_another_method_has_fewer_figures(tmp_path):
    run = read_run(write_run(tmp_path, method="fused"))
    assert (run.method, run.label, run.accuracy("last"), run.accuracy("vac")) == ("fused", "fused", 0.7, None)
    assert list(run.predictions[0]) == ["path", "class", "probability", "label"]
    forge_json(run.folder, "config.json", lambda config: config["spec"].update(method="unimos"))
    with pytest.raises(InputError, match=r"result.json: accuracy.oracle_best is missing"):
        read_run(run.folder)


def damage(folder, other, number):
    """One of many damages of a run's folder, chosen by number; ``other`` is a run of another seed."""
    rng = np.random.default_rng(number)
    path = folder / FILES[number % len(FILES)]
    content = bytearray(path.read_bytes())
    kind = number // len(FILES) % 6
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(content[: rng.integers(1, len(content) - 2)])
    elif kind == 2:
        path.write_bytes(b"")
    elif kind == 3:
        shutil.copy(other / path.name, path)
    elif kind == 4:
        path.write_bytes(content + b" {}")
    else:
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    return path.name


@pytest.mark.parametrize("number", range(60))
def test_every_damage_is_named(number, tmp_path):
    folder, other = write_run(tmp_path), write_run(tmp_path, seed=1, last=0.71)
    rows = (other / "predictions.csv").read_text()  # equal for all made runs but for this
    forge(other, "predictions.csv", lambda content: content.replace(b"0.9", b"0.8"))
    assert rows and read_run(folder) and read_run(other)
    name = damage(folder, other, number)
    with pytest.raises(RunFolderError) as caught:
        read_run(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder} holds no complete run: ") and message.endswith(
        ". Train it again with force=True"
    )
    assert "\n" not in message and (name in caught.value.reason or name in ("result.json",))
    check_run_folder(folder, force=True)  # it may be made again all the same


def test_forged_runs_are_not_believed(tmp_path):
    weights, classes = write_run(tmp_path), write_run(tmp_path, seed=1)
    nan = lambda content: save({name: array * np.nan for name, array in load(content).items()})  # noqa: E731
    forge(weights, "heads.safetensors", nan)
    forge_json(classes, "config.json", lambda config: config["classes"].append("more"))
    others = [
        {"estimate": {"accuracy": "x"}},
        {"estimate": []},
        {"estimate": {"agreement": {"fused": "x"}}},
        {"reliability": {"raw": 0}},
    ]
    others = [write_run(tmp_path, seed=2 + index, more=more) for index, more in enumerate(others)]
    reasons = []
    for folder in (weights, classes, *others):
        with pytest.raises(RunFolderError) as caught:
            read_run(folder)
        reasons.append(caught.value.reason)
    assert reasons == [
        "heads.safetensors holds values that are not finite",
        "the accuracies of result.json do not fit the classes of config.json",
        "result.json: estimate.accuracy: expected a finite number, got 'x'",
        "result.json: estimate: expected an object, got []",
        "result.json: estimate.agreement.fused: expected a finite number, got 'x'",
        "result.json: reliability.raw: expected an object, got 0",
    ]


def test_a_run_is_replaced_only_when_the_new_one_is_whole(tmp_path, monkeypatch):
    folder = write_run(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(result):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unimos_pipe.runs.write_run.compute_result_digest", full)
    with pytest.raises(OSError, match="No space left"):
        write_run(tmp_path, last=0.9)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["seed0"]


def test_only_a_runs_own_folder_is_replaced(tmp_path):
    choose = "choose another out or runs"
    folder = write_run(tmp_path)
    check_run_folder(tmp_path / "new" / "place", force=False)
    assert not (tmp_path / "new").exists()
    check_run_folder(folder, force=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    long = tmp_path / ("x" * 300)
    for place, message in (
        (folder, f"{folder} holds a finished run; add force=True to train it again, or {choose}"),
        (
            tmp_path / "model",
            f"{tmp_path}/model is not empty and not a run folder (no config.json that a run wrote); {choose}",
        ),
        (tmp_path / "file", f"cannot write to {tmp_path}/file: Not a directory; {choose}"),
        (tmp_path / "link", f"{tmp_path}/link is a link; {choose}"),
        (long, f"cannot write to {long}: File name too long; {choose}"),
    ):
        with pytest.raises(InputError) as caught:
            check_run_folder(place, force=False)
        assert str(caught.value) == message
    (folder / "answers.csv").write_text("mine")
    with pytest.raises(InputError) as caught:
        check_run_folder(folder, force=True)
    assert str(caught.value) == (
        f"{folder} is not empty and not a run folder (answers.csv is not a run's file); {choose}"
    )


@pytest.mark.parametrize("name", ["config.json", "predictions.csv"])
def test_a_folder_with_a_link_in_it_is_not_replaced(name, tmp_path):
    folder = write_run(tmp_path)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        check_run_folder(folder, force=True)
    assert str(caught.value) == (
        f"{folder} is not empty and not a run folder ({name} is not a run's file); choose another out or runs"
    )
