"""Weights files: OpenAI's TorchScript archives, other archives, state dicts, pickles with code."""

import pickle
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.extract import load_weights
from unimos_pipe.extract.encoder import ClipEncoder, create_random_model
from unimos_pipe.extract.weights import EMBEDDED, openai_hashes

CPU = torch.device("cpu")
TINY = EMBEDDED / "tinyclip-r24-64.safetensors"
BY_HASH = {"RN50": "afeb0e10", "ViT-B-16": "5806e77c", "RN101": "8fa8567b", "ViT-L-14": "b8cca3fd"}


class Branch(torch.nn.Module):
    """A part of a module tree that only holds others."""


def archive(state: dict[str, torch.Tensor], path: Path, half: bool = True) -> Path:
    """A TorchScript archive of a state dict in OpenAI's form: mostly float16, three numbers beside the weights."""
    root = Branch()
    numbers = {name: torch.tensor(64) for name in ("input_resolution", "context_length", "vocab_size")}
    for name, tensor in {**state, **numbers}.items():
        *branches, leaf = name.split(".")
        place = root
        for branch in branches:
            if not hasattr(place, branch):
                place.add_module(branch, Branch())
            place = getattr(place, branch)
        place.register_buffer(leaf, tensor.half() if half and tensor.is_floating_point() else tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(path)
    return path


def features(model: str, weights: Path, precision: str = "fp32", allow_torchscript: bool = False) -> torch.Tensor:
    found = ClipEncoder(EncoderSpec(model, str(weights), precision, allow_torchscript), CPU)
    size = found.model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    pixels = torch.randint(0, 256, (2, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.cat([found.encode_images(pixels), found.encode_texts(["a photo of a cup.", "A bus"])])


@pytest.fixture
def halved(tmp_path) -> Path:
    """The embedded weights rounded to float16, as safetensors."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in load_file(TINY).items()}
    save_file(state, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_archive_is_refused_unless_trusted_or_openais(halved, tmp_path, monkeypatch, precision):
    path = archive(load_file(halved), tmp_path / "tiny.pt")
    name = ENCODERS["tiny"].model
    with pytest.raises(InputError) as caught:
        features(name, path, precision)
    assert str(caught.value) == (
        f"weights {path} are a TorchScript archive, which can run code, and not one of OpenAI's; "
        "if you trust its origin, add allow_torchscript=True"
    )
    expected = features(name, halved, precision)
    assert features(name, path, precision, allow_torchscript=True).equal(expected)
    monkeypatch.setattr(load_weights, "openai_hashes", lambda: {file_sha256(path)})
    assert features(name, path, precision).equal(expected)


def test_an_archive_of_another_model_is_one_line(tmp_path):
    path = archive({"visual.proj": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError) as caught:
        features("tinyclip-r24-64", path, allow_torchscript=True)
    assert str(caught.value).startswith(f"weights {path} do not load into tinyclip-r24-64: ")
    assert "\n" not in str(caught.value)


def test_the_hashes_are_those_of_openais_files():
    hashes = openai_hashes()
    assert len(hashes) == 9 and all(len(value) == 64 for value in hashes)
    for model, start in BY_HASH.items():
        url = open_clip.get_pretrained_url(model, "openai")
        assert any(value.startswith(start) and value in url for value in hashes)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["RN50", "ViT-B-16"])
def test_archives_of_openais_own_shapes(tmp_path, monkeypatch, preset):
    """Random weights, rounded to float16 as OpenAI's are."""
    model = ENCODERS[preset].model
    state = {
        k: v.half().float() if v.is_floating_point() else v for k, v in create_random_model(model).state_dict().items()
    }
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "random.safetensors")
    path = archive(state, tmp_path / f"{preset}.pt")
    monkeypatch.setattr(load_weights, "openai_hashes", lambda: {file_sha256(path)})
    assert features(model, path).equal(features(model, tmp_path / "random.safetensors"))


class Code:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["zip", "bare"])
def test_a_pickle_with_code_is_refused_unopened(tmp_path, form):
    path, left = tmp_path / "evil.pt", tmp_path / "ran"
    content = {"state_dict": {"visual.proj": Code(left)}}
    torch.save(content, path) if form == "zip" else path.write_bytes(pickle.dumps(content))
    for trust in (False, True):
        with pytest.raises(InputError) as caught:
            features("tinyclip-r24-64", path, allow_torchscript=trust)
        assert str(caught.value) == (
            f"weights {path} are a pickle that holds more than tensors; it is not opened because a pickle can run "
            "code. Save the tensors alone where it was written: safetensors.torch.save_file(model.state_dict(), ...)"
        )
    assert not left.exists()


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 no zip", b"\x80\x02."])
def test_a_file_of_another_kind_is_one_line(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        features("tinyclip-r24-64", path)
    told = str(caught.value)
    assert told.startswith(f"weights {path} ") and "\n" not in told


def test_a_state_dict_loads_as_before(halved, tmp_path):
    torch.save({"state_dict": load_file(halved)}, tmp_path / "tiny.pt")
    assert features("tinyclip-r24-64", tmp_path / "tiny.pt").equal(features("tinyclip-r24-64", halved))


def test_the_option_reaches_every_command_that_loads_an_encoder(cli, halved, miniature, tmp_path):
    path = archive(load_file(halved), tmp_path / "tiny.pt")
    cache, root = tmp_path / "cache", ("--data-root", miniature.root)
    chosen = ("--encoder", "tiny", "--pretrained", path)
    args = (*miniature.args(cache), *chosen)
    trust, refusal = "--allow-torchscript", "add --allow-torchscript"
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\ndataset = "{miniature.spec}"\npairs = ["dark->light"]\nseeds = 1\n[options.train]\nepochs = 1\n'
    )
    run = ("run", recipe, "--pretrained", path, "--cache", cache, "--runs", tmp_path / "runs", *root)
    extract = ("extract", *args, "--all", *root, "--workers", 0)
    for command in (extract, run, ("bench", "extract", *args, *root, "--images", 4, "--rounds", 1)):
        assert refusal in cli(*command).err
    assert cli(*extract, trust).code == 0
    assert cli(*run, trust).code == 0
    bench = ("bench", "extract", *args, *root, "--images", 4, "--rounds", 1, "--workers", 0, "--batch-size", 2)
    assert cli(*bench, trust).code == 0
    verify = ("cache", "verify", "--cache", cache, "--deep", *root, *chosen, "--dataset", miniature.spec)
    assert refusal in cli(*verify).err
    assert cli(*verify, trust).code == 0
    adapt = ("adapt", *args, "--src", "dark", "--tgt", "light", "--epochs", 1, "--out", tmp_path / "run")
    assert cli(*adapt).code == 0
    predict = ("predict", "--run", tmp_path / "run", "--images", miniature.root / "light", "-o", tmp_path / "a.csv")
    predict = (*predict, "--pretrained", path, "--workers", 0)
    assert refusal in cli(*predict).err
    assert cli(*predict, trust).code == 0


def test_trust_is_no_part_of_the_identity(halved):
    spec = replace(ENCODERS["tiny"], pretrained=str(halved), precision="fp32")
    assert ClipEncoder(spec, CPU).identity == ClipEncoder(replace(spec, allow_torchscript=True), CPU).identity


def test_what_we_use_of_open_clip_beyond_its_front_door():
    """Looked at in open_clip 3.3: a public name each, but none that the package itself exports."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transform import MaybeConvertMode, image_transform

    from unimos_pipe.extract.hub import WEIGHTS_FILES

    assert issubclass(ModifiedResNet, torch.nn.Module)
    assert any(isinstance(step, MaybeConvertMode) for step in image_transform(64, is_train=False).transforms)
    constants = open_clip.constants
    assert WEIGHTS_FILES == (constants.HF_SAFE_WEIGHTS_NAME, constants.HF_WEIGHTS_NAME)


def zipped(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "some.zip", "w") as bundle:
        bundle.writestr("readme.txt", "hello")
        bundle.writestr("model/vocab.json", "{}")
    return (folder / "some.zip").read_bytes()


OTHER_KINDS = {
    "LFS pointer": (
        "w.pt",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n",
        "are a Git LFS pointer to the file. Fetch the file itself: git lfs pull",
    ),
    "HTML": (
        "w.pt",
        b"\n<!DOCTYPE html><html>",
        "are a web page (HTML), as a download gives that asks for a login. Download the file itself",
    ),
    "XML": ("w.bin", b"<?xml version='1.0'?>", "are XML, as a store's error message is. Download the file itself"),
    "JSON": (
        "w.safetensors", b'{"model": 1}' + bytes(0), "are JSON text. Give the file of tensors that lies beside it"
    ),
    "empty": ("w.pt", b"", "are an empty file. Download it again"),
    "half a zip": ("w.pt", b"PK\x03\x04" + bytes(100), "are cut off, half a download (104 bytes). Download it again"),
    "another zip": (
        "w.pt",
        zipped,
        "are a zip archive of other files (readme.txt, model/vocab.json). Unpack it, and give the file in it",
    ),
    "gzip": ("w.pt", b"\x1f\x8b\x08" + bytes(60), "are a gzip archive. Unpack it, and give the file in it"),
    "tar": ("w.pt", bytes(257) + b"ustar" + bytes(300), "are a tar archive. Unpack it, and give the file in it"),
    "HDF5": ("w.pt", b"\x89HDF\r\n\x1a\n" + bytes(60), "are an HDF5 file. Give a file of weights"),
    "half a safetensors": (
        "w.safetensors", lambda _: TINY.read_bytes()[:100_000], "are cut off, half a download (100,000 of "
    ),
    "half its head": ("w.safetensors", lambda _: TINY.read_bytes()[:40], "are cut off, half a download (40 of "),
    "a pickle under another name": (
        "w.safetensors",
        b"\x80\x02}q\x00." + bytes(60),
        "are no safetensors, whatever the name says. Give it the ending of its kind",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_what_is_no_weights_is_named_as_what_it_is(kind, tmp_path):
    name, content, told = OTHER_KINDS[kind]
    path = tmp_path / name
    path.write_bytes(content(tmp_path) if callable(content) else content)
    with pytest.raises(InputError) as caught:
        features("tinyclip-r24-64", path)
    assert str(caught.value).startswith(f"weights {path} {told}")


WRAPPED = {
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "distributed": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    "in a model": lambda state: {f"model.{name}": tensor for name, tensor in state.items()},
    "in clip, with a head": lambda state: {
        **{f"clip.{name}": tensor for name, tensor in state.items()}, "head.weight": torch.ones(3)
    },
    "a dictionary": lambda state: {"model": state, "optimizer": {"lr": 0.1}, "epoch": 3},
    "twice": lambda state: {"net": {"ema": {f"module.clip.{name}": tensor for name, tensor in state.items()}}},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_tensors_are_those_inside(how, halved, tmp_path):
    torch.save(WRAPPED[how](load_file(halved)), tmp_path / "wrapped.pt")
    assert features("tinyclip-r24-64", tmp_path / "wrapped.pt").equal(features("tinyclip-r24-64", halved))


def test_tensors_of_nothing_we_know_are_shown(tmp_path):
    torch.save({"backbone.stem.weight": torch.ones(2), "fc.bias": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError) as caught:
        features("tinyclip-r24-64", tmp_path / "other.pt")
    assert "do not load into tinyclip-r24-64: it holds 'backbone.stem.weight', 'fc.bias', ..., expected '" in str(
        caught.value
    )


def test_an_archive_that_torch_traced_of_open_clips_model_loads(halved, tmp_path):
    """Tracing keeps the text tower's mask, a constant, among the tensors."""
    model = ClipEncoder(EncoderSpec("tinyclip-r24-64", str(halved), "fp32"), CPU).model.eval()
    plain = create_random_model("tinyclip-r24-64").eval()
    plain.load_state_dict(load_file(halved))
    side = model.visual.image_size
    side = side if isinstance(side, int) else side[0]
    inputs = torch.zeros(1, 3, side, side), torch.zeros(1, plain.context_length, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(plain, inputs, strict=False, check_trace=False).save(tmp_path / "traced.pt")
        assert "attn_mask" in torch.jit.load(tmp_path / "traced.pt").state_dict()
    expected = features("tinyclip-r24-64", halved)
    assert features("tinyclip-r24-64", tmp_path / "traced.pt", allow_torchscript=True).equal(expected)
