"""Presets agree with open_clip: shapes with random weights, URLs, tokens, images."""

import os
import subprocess
import sys

import open_clip
import pytest
import torch

from unimos_pipe.base.encoder_presets import PRESETS
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.optional_deps import install_command
from unimos_pipe.extract.hub import HubFile
from unimos_pipe.extract.tokenizer import load_tokenizer
from unimos_pipe.extract.weights import EMBEDDED, preprocessing

open_clip.add_model_config(EMBEDDED)


LARGE = ("SigLIP2-SO400M-14", "PE-Core-L-14")  # take ten seconds and more to build


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in PRESETS])
def test_a_row_is_what_open_clip_builds(name):
    """On the meta device, which computes shapes alone: a weightless model of the preset's own size."""
    preset = PRESETS[name]
    text = open_clip.get_model_config(preset.spec.model)["text_cfg"]
    model = open_clip.create_model(preset.spec.model, pretrained_text=False, device="meta").eval()
    with torch.device("meta"):
        images = model.encode_image(torch.empty(2, 3, preset.image_size, preset.image_size))
        texts = model.encode_text(torch.empty(2, preset.context_length, dtype=torch.long))
    assert images.shape == texts.shape == (2, preset.dim)
    assert model.visual.image_size in (preset.image_size, (preset.image_size, preset.image_size))
    assert text.get("context_length", 77) == preset.context_length
    assert (model.logit_bias is not None) == ("SigLIP" in name)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_a_row_names_the_address_of_the_weights(name):
    preset = PRESETS[name]
    tag = open_clip.get_pretrained_cfg(preset.spec.model, preset.spec.pretrained)
    assert HubFile.of(tag["hf_hub"]) == HubFile(preset.hub)


def test_a_file_of_a_models_weights_sees_images_as_its_tag_does():
    siglip = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize_mode": "squash"}
    assert preprocessing(EncoderSpec("ViT-B-16-SigLIP2", "webli")) == siglip
    assert preprocessing(EncoderSpec("ViT-B-16-SigLIP2", "./file.safetensors")) == siglip
    assert preprocessing(EncoderSpec("ViT-L-14", "./file.safetensors")) == {}  # its tags do not agree
    assert preprocessing(EncoderSpec("hf-hub:owner/name")) == {}
    assert preprocessing(EncoderSpec("MobileCLIP2-S0", "dfndr2b"))["interpolation"] == "bilinear"


@pytest.mark.parametrize("name", ["MobileCLIP2-S0", "PE-Core-B-16", "DataComp-L-14"])
def test_clips_tokenizer_lower_cases_and_cuts_at_the_models_context(name):
    model, words = PRESETS[name].spec.model, PRESETS[name].context_length
    tokenizer = load_tokenizer(model, open_clip.get_model_config(model)["text_cfg"])
    found = tokenizer(["A Photo of a CUP.", "a photo of a cup.", "cup " * 200])
    assert found.shape == (3, words) and found[0].equal(found[1]) and found[2, -1] == found.max()


@pytest.mark.parametrize("name", ["SigLIP2-B-16", "SigLIP2-SO400M-14"])
def test_siglips_tokenizer_lower_cases_drops_punctuation_and_pads(name, monkeypatch):
    """The tokenizer itself is the hub's: a small one of the same kind stands for it here."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    small = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "photo": 2, "cup": 3, "?": 4}, unk_token="?"))
    small.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=small, pad_token="<pad>", unk_token="?")
    asked = []
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda source, **options: asked.append(source) or made
    )
    model, words = PRESETS[name].spec.model, PRESETS[name].context_length
    found = load_tokenizer(model, open_clip.get_model_config(model)["text_cfg"])(["A Photo, CUP."])
    assert asked == [PRESETS[name].hub]
    assert found.tolist() == [[1, 2, 3] + [0] * (words - 3)]


def test_a_tokenizer_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        load_tokenizer("ViT-B-16-SigLIP2", {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP2"})
    assert str(caught.value) == (
        f"the tokenizer of ViT-B-16-SigLIP2 needs transformers. Install it with: {install_command('siglip')}"
    )


def test_encoder_ls_fits_80_columns(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("encoder", "ls").out.splitlines()
    assert "…" not in "".join(lines) and {len(line) for line in lines if line.startswith("│")} < set(range(81))
    rows = {cells[0]: cells[1:] for line in lines if len(cells := line.strip("│").replace(" ", "").split("│")) == 5}
    assert rows["SigLIP2-SO400M-14"][:3] == ["224", "1152", "Apache-2.0"] and rows["tiny"][1] == "128"


def test_encoder_ls_needs_no_torch(tmp_path):
    code = (
        "import atexit, sys\nfrom unimos_pipe.cli.main import main\n"
        "atexit.register(lambda: print([m for m in ('torch', 'open_clip') if m in sys.modules]))\n"
        "main(['encoder', 'ls', '-v'])"
    )
    places = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": os.pathsep.join(sys.path)}
    seen = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={**os.environ, **places, "COLUMNS": "200"}
    )
    lines = seen.splitlines()
    assert lines[-1] == "[]"
    rows = {
        cells[0]: cells for line in lines if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 7
    }
    assert list(rows) == list(PRESETS)
    assert rows["tiny"] == ["tiny", "tinyclip-r24-64", "embedded", "64", "128", "MIT, for icons only", "yes"]
    assert rows["SigLIP2-SO400M-14"] == [
        "SigLIP2-SO400M-14", "ViT-SO400M-14-SigLIP2", "webli", "224", "1152", "Apache-2.0", "no",
    ]  # fmt: skip
