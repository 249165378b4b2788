"""Activations: every pair of model and tag in open_clip's tables, and weights files with a published digest."""

from pathlib import Path

import open_clip
import pytest
import torch

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.extract.activation import check_file_activation, check_tag_activation, published_activation
from unimos_pipe.extract.encoder import ClipEncoder

CPU = torch.device("cpu")
OPENAI_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"


def message(model: str, tag: str) -> str | None:
    try:
        check_tag_activation(EncoderSpec(model, tag))
    except InputError as error:
        return str(error)
    return None


def test_every_pair_whose_tables_disagree_is_refused_and_the_model_named_is_accepted():
    refused = {}
    for model, tag in open_clip.list_pretrained():
        disagree = bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu")) != bool(
            open_clip.get_model_config(model).get("quick_gelu")
        )
        answer = message(model, tag)
        assert (answer is not None) == disagree, (model, tag)
        if answer:
            refused[model, tag] = answer.split(": expected ")[1].split(", got ")[0]
    assert len(refused) >= 28  # of open_clip 3.3
    named = [(right, tag) for (_, tag), right in refused.items() if not right.startswith("hf-hub:")]
    assert len(named) == len(refused) - 1  # roberta-ViT-B-32, of which there is one configuration
    assert {message(right, tag) for right, tag in named} == {None}


@pytest.mark.parametrize(
    "model, tag, expected",
    [
        (
            "ViT-B-16",
            "metaclip_400m",
            "weights 'metaclip_400m' were trained with QuickGELU, the model: expected ViT-B-16-quickgelu, got "
            "ViT-B-16, which has GELU and would corrupt the features",
        ),
        (
            "roberta-ViT-B-32",
            "laion2b_s12b_b32k",
            "weights 'laion2b_s12b_b32k' were trained with GELU, the model: expected "
            "hf-hub:laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k, whose own configuration has the activation, "
            "got roberta-ViT-B-32, which has QuickGELU and would corrupt the features",
        ),
    ],
)
def test_the_encoder_refuses_them_before_it_downloads_weights(monkeypatch, model, tag, expected):
    monkeypatch.setattr("unimos_pipe.extract.encoder.find_weights", lambda spec: pytest.fail("looked for weights"))
    with pytest.raises(InputError) as refused:
        ClipEncoder(EncoderSpec(model, tag), CPU)
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    "model, file, sha256, activation, expected",
    [
        (
            "RN50",
            "any.pt",
            OPENAI_RN50,
            "GELU",
            "RN50-quickgelu",
        ),
        ("RN50", "any.pt", "f000538c" + 56 * "0", "GELU", "RN50-quickgelu"),
        ("ViT-B-32-quickgelu", "any.pt", "af8dbd0c" + 56 * "0", "QuickGELU", "ViT-B-32"),
        ("RN50", "openai/a.pt", 64 * "0", "GELU", "RN50-quickgelu"),
        ("RN50-quickgelu", "openai/a.pt", 64 * "0", "QuickGELU", None),
        ("RN50", "any.pt", 64 * "0", "GELU", None),
    ],
)
def test_published_files_are_known_by_their_digest(model, file, sha256, activation, expected):
    spec = EncoderSpec(model, f"./{file}")
    if expected is None:
        check_file_activation(spec, Path(file), sha256, activation)
        return
    with pytest.raises(InputError, match=f"the model: expected {expected}, got {model}, which has {activation} and"):
        check_file_activation(spec, Path(file), sha256, activation)


def test_a_file_without_published_digest_has_no_known_activation():
    assert published_activation(64 * "0") is None
