"""The encoder equals open_clip's: pixels, folded batch norms, chunks of images."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SHARED
from factories.tasks import TINY
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image
from rounding import assert_within, feature_bound, perturbed, rounding_bounds
from torch.nn.functional import cosine_similarity, normalize

from unimos_pipe.data.build_manifest import unpack_embedded
from unimos_pipe.data.image_decoding import decode
from unimos_pipe.extract import encoder, views
from unimos_pipe.extract.encoder import MIN_COSINE, ClipEncoder, create_open_clip_model, fold_batch_norms
from unimos_pipe.extract.weights import find_weights

CPU = torch.device("cpu")
PHOTOGRAPHS = SHARED / "data" / "pacs"


@pytest.fixture(scope="module")
def tiny() -> ClipEncoder:
    return ClipEncoder(TINY, CPU)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.numerical
def test_pixels_scaled_in_one_pass_are_clips(tiny):
    """The bytes a worker gives, scaled on the device, against open_clip's own transform of images of the right size."""
    pictures = [noise(64, 64, seed) for seed in range(6)]
    ours = tiny.scale_pixels(torch.stack([tiny.preprocess(picture) for picture in pictures]))
    theirs = torch.stack([tiny.preprocess.transform(picture) for picture in pictures])
    assert ours.shape == theirs.shape and (ours - theirs).abs().max() < 2e-6  # six epsilons of the largest value, 2.7
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(640, 427), (70, 99), (40, 30), (64, 64), (64, 65)])
def test_resize_and_crop_are_clips(tiny, size):
    """Of noise, the hardest case, no value is off by more than 2, and the crop takes the same pixels."""
    *geometry, _, _ = tiny.preprocess.transform.transforms
    theirs = noise(*size)
    for step in geometry:
        theirs = step(theirs)
    difference = np.abs(tiny.preprocess(noise(*size)).numpy().astype(int) - np.asarray(theirs).astype(int))
    assert difference.max() <= 2 and (difference > 0).mean() < 0.06


def test_a_transform_of_another_kind_works_on_the_picture(tiny):
    """Padding models keep PIL's steps."""
    from open_clip.transform import image_transform

    transform = image_transform(64, is_train=False, resize_mode="longest")
    found = views.ResizeCrop(transform)(noise(100, 50))
    assert torch.equal(found.permute(2, 0, 1) / 255, transform.transforms[-2](apply(transform.transforms[:-2])))


def apply(steps) -> Image.Image:
    image = noise(100, 50)
    for step in steps:
        image = step(image)
    return image


def pictures_of(kind: str, tmp_path) -> list[Image.Image]:
    if kind == "icons":
        return [decode(path) for path in sorted(unpack_embedded("icons.zip", tmp_path).rglob("*.png"))[::40]]
    if not PHOTOGRAPHS.is_dir():
        pytest.skip(f"no photographs at {PHOTOGRAPHS}")
    return [decode(path) for path in sorted(PHOTOGRAPHS.glob("photo/*/*.jpg"))]


@pytest.mark.parametrize("kind", ["icons", "photographs"])
def test_features_of_the_faster_resize_agree_with_pils(kind, tiny, tmp_path):
    pictures = pictures_of(kind, tmp_path)
    assert len(pictures) > 50
    ours = tiny.encode_images(torch.stack([tiny.preprocess(picture) for picture in pictures]))
    model, transform = create_open_clip_model(TINY, find_weights(TINY), CPU)
    with torch.inference_mode():
        theirs = normalize(model.eval().encode_image(torch.stack([transform(picture) for picture in pictures])), dim=-1)
    assert cosine_similarity(ours, theirs).min() >= MIN_COSINE
    assert cosine_similarity(ours - ours.mean(0), theirs - theirs.mean(0)).min() >= MIN_COSINE


@pytest.mark.numerical
def test_folded_norms_leave_the_function_as_it_is():
    torch.manual_seed(0)
    net = ModifiedResNet((1, 2, 1, 1), 32, 4, image_size=64, width=8).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as far from the identity as in a trained model
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    folded, images = copy.deepcopy(net), torch.randn(5, 3, 64, 64)
    with torch.inference_mode():
        fold_batch_norms(folded)
        # 23 convolutions and 5 products: each rounds as features that are off by a few epsilons do
        bounds = rounding_bounds(lambda seed: [net(images if seed is None else perturbed(images, seed))], steps=28)
        assert_within([folded(images)], [net(images)], bounds, most=1e-3)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())


@pytest.mark.numerical
def test_a_few_images_at_a_time_are_all_images_in_order(tiny, monkeypatch):
    pixels = torch.stack([tiny.preprocess(noise(64, 64, seed)) for seed in range(7)])
    whole, bound = tiny.encode_images(pixels), feature_bound(tiny, pixels)
    calls = []
    forward = tiny.model.encode_image
    monkeypatch.setattr(tiny.model, "encode_image", lambda part: calls.append(len(part)) or forward(part))
    monkeypatch.setattr(encoder, "CACHED_PIXELS", 3 * 64 * 64 + 1)
    assert_within([tiny.encode_images(pixels)], [whole], [bound])
    assert calls == [3, 3, 1]


@pytest.mark.parametrize(("worst", "taken"), [(0.9996, "bf16"), (0.9994, "fp32")])
def test_automatic_precision_goes_by_the_worst_image(monkeypatch, worst, taken):
    """One image of a hundred that changes is enough to stay with fp32, however good the others are."""
    features = {precision: torch.tensor([[1.0, 0.0]]).repeat(100, 1) for precision in ("fp32", "bf16")}
    features["bf16"][7] = torch.tensor([worst, (1 - worst**2) ** 0.5])

    class Stand:
        preprocess = None

        def __init__(self, spec, device):
            self.identity = SimpleNamespace(precision=spec.precision)

        def encode_images(self, pixels):
            return features[self.identity.precision]

    monkeypatch.setattr(encoder, "ClipEncoder", Stand)
    monkeypatch.setattr(encoder, "native_half_precision", lambda device: "bf16")
    monkeypatch.setattr(encoder, "load_sample", lambda files, preprocess: torch.zeros(100, 1))
    found, evidence = encoder.load_encoder(replace(TINY, precision="auto"), CPU, [])
    assert found.identity.precision == taken
    assert str(evidence) == (
        f"precision {taken}: smallest cosine between bf16 and fp32 features {worst:.5f} on 100 image(s)"
    )
