"""Precision auto decides once for a data set without features; cached features keep theirs."""

import json
import shutil
from dataclasses import replace

import pytest

from unimos_pipe.base.encoder_presets import EMBEDDED
from unimos_pipe.cache.feature_set import feature_set
from unimos_pipe.data import file_digests
from unimos_pipe.extract import encoder

EVIDENCE = "precision.json"


@pytest.fixture
def machine(monkeypatch):
    """A CPU that computes in bf16, and files as old as they need be; counts how often precision is tried out."""
    tried = []
    real = encoder.load_sample
    monkeypatch.setattr(encoder, "native_half_precision", lambda device: "bf16")
    monkeypatch.setattr(encoder, "load_sample", lambda *args: tried.append(1) or real(*args))
    monkeypatch.setattr(file_digests, "MIN_AGE", -(10**18))
    return tried


@pytest.fixture
def extract(cli, miniature, tmp_path):
    """The command on a domain of the miniature, with weights from a file."""
    shutil.copy(EMBEDDED / "tinyclip-r24-64.safetensors", tmp_path / "w.safetensors")
    base = ("extract", *miniature.args(tmp_path / "cache"), "--data-root", miniature.root, "--workers", 0)

    def run(domain: str, *more, pretrained=tmp_path / "w.safetensors"):
        return cli(*base, "--domain", domain, "--pretrained", pretrained, *more)

    return run


def folders(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "mini").iterdir() if path.is_dir())


@pytest.mark.parametrize(("bound", "taken"), [(0.9995, "bf16"), (1.1, "fp32")])
def test_auto_decides_once_and_keeps_why(bound, taken, machine, extract, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "MIN_COSINE", bound)
    first = extract("dark")
    assert f"precision {taken}: smallest cosine between bf16 and fp32 features 0.9" in first.err
    (folder,) = folders(tmp_path)
    assert f"_{taken}-" in folder
    kept = json.loads((tmp_path / "cache" / "mini" / folder / EVIDENCE).read_text())
    assert kept.pop("smallest_cosine") > 0.9995
    assert kept == {"precision": taken, "device": "cpu", "candidate": "bf16", "images": 24}
    monkeypatch.setattr(encoder, "load_encoder", None)  # nothing is loaded again, nor twice
    assert "0 encoded, 24 reused" in extract("dark").err
    monkeypatch.undo()
    assert "24 encoded" in extract("light").err
    assert folders(tmp_path) == [folder] and len(machine) == 1


def test_features_that_are_there_go_on_in_their_precision(machine, extract, tmp_path):
    assert extract("dark", "--encoder-precision", "bf16").code == 0
    assert "24 encoded" in extract("light").err and "24 reused" in extract("light", "--encoder-precision", "auto").err
    assert len(folders(tmp_path)) == 1 and not machine


def test_an_extraction_that_was_cut_short_is_not_decided_again(machine, extract, tmp_path):
    extract("dark")
    (folder,) = folders(tmp_path)
    for path in (tmp_path / "cache" / "mini" / folder).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    assert "24 encoded" in extract("dark").err
    assert folders(tmp_path) == [folder] and len(machine) == 1


def test_several_precisions_have_to_be_chosen_from(machine, extract, cli, miniature, tmp_path):
    for precision in ("bf16", "fp32"):
        assert extract("dark", "--encoder-precision", precision).code == 0
    one, other = folders(tmp_path)
    answer = extract("light")
    assert (answer.code, answer.err) == (
        2,
        f"Error: mini was encoded in several precisions: {one}, {other}; "
        "choose one with --encoder-precision bf16 or fp32\n",
    )
    assert extract("light", "--encoder-precision", "fp32").code == 0
    features = feature_set(str(miniature.spec), cache=tmp_path / "cache")
    for name, precision in ((one, "bf16"), (other, "fp32")):
        assert replace(features, encoder=replace(features.encoder, precision=precision)).folder().name == name
    adapt = ("adapt", *miniature.args(tmp_path / "cache"), "--src", "dark", "--tgt", "light")
    refused = cli(*adapt, "--encoder-precision", "fp16", "--runs", tmp_path)
    assert refused.code == 2 and "--all, or choose with --encoder-id what is there" in refused.err


def test_the_embedded_weights_work_in_fp32(machine, extract, tmp_path):
    """In which the figures of the README are recorded, whatever the machine."""
    assert extract("dark", pretrained="embedded").code == 0
    (folder,) = folders(tmp_path)
    assert "_fp32-" in folder and not machine


def test_a_machine_without_16_bits_tries_nothing(machine, extract, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "native_half_precision", lambda device: None)
    assert "precision" not in extract("dark").err
    (folder,) = folders(tmp_path)
    assert "_fp32-" in folder and not machine and not (tmp_path / "cache" / "mini" / folder / EVIDENCE).exists()
