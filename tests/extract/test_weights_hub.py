"""Downloads from a local hub: complete, interrupted, wrong digest, missing, unreachable."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from factories.hub import made_hub
from factories.tasks import TINY

from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.hub import HubFile, cached_weights, download
from unimos_pipe.extract.weights import EMBEDDED, find_weights

RN50 = HubFile("timm/resnet50_clip.openai")
SAFE, OLD = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


def point_at(url: str, monkeypatch) -> None:
    """Set the client's endpoint as HF_ENDPOINT does at import."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine in the place of the real one, with an empty cache."""
    with made_hub() as hub:
        point_at(hub.url, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses before it resumes
        yield hub


def message(wanted: HubFile = RN50) -> str:
    with pytest.raises(InputError) as caught:
        download(wanted, "'openai' of RN50-quickgelu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_file_comes_once_and_is_then_at_hand(hub):
    hub.add(RN50.repository, SAFE, b"weights" * 1000)
    assert cached_weights(RN50) is None
    path = find_weights(ENCODERS["RN50"])
    assert path.read_bytes() == b"weights" * 1000 and cached_weights(RN50) == path
    count = len(hub.asked)
    hub.files.clear()
    assert find_weights(ENCODERS["RN50"]) == path and len(hub.asked) == count


def test_an_older_repository_has_only_the_bin_file(hub):
    hub.add(RN50.repository, OLD, b"old")
    assert download(RN50, "").name == OLD
    assert [line for line in hub.asked if line.startswith("GET")] == [f"GET {RN50.repository}/{OLD}"]


def test_an_entry_that_names_its_file(hub):
    wanted = HubFile.of("owner/name/pytorch_model.bin")
    assert wanted == HubFile("owner/name", ("pytorch_model.safetensors", "pytorch_model.bin"))
    hub.add("owner/name", "pytorch_model.bin", b"old")
    assert download(wanted, "").read_bytes() == b"old"


def test_a_download_that_breaks_off_goes_on(hub):
    hub.add(RN50.repository, SAFE, bytes(range(256)) * 4000)
    hub.breaks = 2
    assert download(RN50, "").read_bytes() == bytes(range(256)) * 4000


def test_a_download_that_always_breaks_off_is_one_line(hub):
    hub.add(RN50.repository, SAFE, b"weights" * 1000)
    hub.breaks = 10**6
    told = message()
    assert told.startswith(
        "weights 'openai' of RN50-quickgelu are not on this machine and cannot be downloaded (peer closed connection "
    )
    assert told.endswith(
        "). Connect to the network once, or copy open_clip_model.safetensors from "
        "https://huggingface.co/timm/resnet50_clip.openai to this machine and pass its path as pretrained"
    )
    assert cached_weights(RN50) is None


def test_another_file_than_announced_is_refused_and_not_kept(hub):
    sent = hub.add(RN50.repository, SAFE, b"these")
    hub.announced[f"{RN50.repository}/{SAFE}"] = b"those"
    announced = hashlib.sha256(b"those").hexdigest()
    assert f"({SAFE} came with sha256 {sent[:12]}..., the hub announced {announced[:12]}...)" in message()
    assert cached_weights(RN50) is None


def test_a_file_that_is_gone_is_one_line(hub):
    hub.add(RN50.repository, "README.md", b"")
    assert f"({RN50.repository} has no open_clip_model.safetensors or open_clip_pytorch_model.bin)" in message()


def test_a_repository_that_is_gone_is_one_line(hub):
    assert "Repository Not Found" in message()


def test_a_hub_out_of_reach_is_asked_once(hub, monkeypatch):
    point_at("http://127.0.0.1:1", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s to ask again"))
    assert "Connection refused" in message()


def test_a_hub_model_is_an_encoder(hub):
    config = '{"model_cfg": ' + (EMBEDDED / "tinyclip-r24-64.json").read_text() + ', "preprocess_cfg": {"size": 64}}'
    hub.add("owner/name", "open_clip_config.json", config.encode())
    hub.add("owner/name", SAFE, (EMBEDDED / "tinyclip-r24-64.safetensors").read_bytes())
    cpu = torch.device("cpu")
    found, tiny = ClipEncoder(EncoderSpec("hf-hub:owner/name", precision="fp32"), cpu), ClipEncoder(TINY, cpu)
    assert found.identity == replace(tiny.identity, model="hf-hub:owner/name")
    assert found.encode_texts(["a cup"]).equal(tiny.encode_texts(["a cup"]))


def test_a_program_of_its_own_finds_the_hub_by_its_address(hub, tmp_path):
    """HF_ENDPOINT and HF_HOME, as a person sets them."""
    hub.add(RN50.repository, SAFE, b"weights")
    code = "from unimos_pipe.extract.hub import *; print(download(HubFile('timm/resnet50_clip.openai'), ''))"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)}
    path = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip()
    assert path.startswith(str(tmp_path / "home" / "hub")) and path.endswith(SAFE)
