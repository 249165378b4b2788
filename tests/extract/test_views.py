"""Several views of an image: one feature, the normalised mean of those of its crops, in a folder of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.tasks import TINY
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import VIEWS, EncoderSpec
from unimos_pipe.cache.cache_paths import encoder_folders, shard_files
from unimos_pipe.cache.encoder_identity import encoder_id, readable_name, recorded_views
from unimos_pipe.cache.shard import read_image_shard
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.views import ViewCrops
from unimos_pipe.extract.weights import recorded_spec

CPU = torch.device("cpu")
ALL = replace(TINY, views=tuple(VIEWS))


@pytest.fixture(scope="module")
def encoders() -> tuple[ClipEncoder, ClipEncoder]:
    """The encoder of one view and of all."""
    return ClipEncoder(TINY, CPU), ClipEncoder(ALL, CPU)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for shape in ((100, 50, 3), (64, 64, 3), (90, 200, 3))]


def slow_crops(encoder: ClipEncoder, picture: np.ndarray) -> list[torch.Tensor]:
    """The six crops, (H, W, 3) each: the embedded encoder's are of 64 pixels, cut from an image of 74 (64 x 8/7)."""
    center = encoder.preprocess(picture)
    large = resize(torch.from_numpy(picture).permute(2, 0, 1), [74], InterpolationMode.BICUBIC).permute(1, 2, 0)
    corners = [large[:64, :64], large[:64, -64:], large[-64:, :64], large[-64:, -64:]]
    return [center, torch.flip(center, (1,)), *corners]


@pytest.mark.numerical
def test_a_feature_is_the_normalised_mean_over_the_views(encoders):
    one, several = encoders
    expected = []
    for picture in pictures():
        features = [one.encode_images(crop.unsqueeze(0))[0] for crop in slow_crops(one, picture)]
        expected.append(sum(features) / 6)
    norms = torch.stack(expected).norm(dim=-1, keepdim=True)
    pixels = torch.stack([several.preprocess(picture) for picture in pictures()])
    assert pixels.shape == (3, 6, 64, 64, 3)
    found = several.encode_images(pixels)
    # features of one image in batches of 1 and 18 differ by a few float32 roundings (6e-8) in each of some 30 layers
    assert (found - torch.stack(expected) / norms).abs().max() < 1e-5 / norms.min()
    assert (found - one.encode_images(pixels[:, 0])).abs().max() > 1e-2  # views matter


def test_views_are_part_of_the_identity_unless_they_are_the_default(encoders):
    one, several = encoders
    assert "views" not in one.identity.preprocessing and readable_name(TINY) == "tinyclip-r24-64_embedded"
    assert recorded_views(one.identity) == ("center",) and recorded_views(several.identity) == tuple(VIEWS)
    name = encoder_id(ALL, several.identity)
    assert name.startswith("tinyclip-r24-64_embedded_center-flip-corners_fp32-")
    for spec, encoder in ((TINY, one), (ALL, several)):
        assert recorded_spec(encoder.identity, encoder_id(spec, encoder.identity)) == spec
        assert recorded_spec(encoder.identity, "x", Path("w.pt")).views == spec.views


def test_views_have_one_order_and_known_names():
    assert EncoderSpec(views=("flip", "center")) == EncoderSpec(views=("center", "flip"))
    assert EncoderSpec(views=("corners", "center")).crops == 5
    for wrong in (("top",), ("flip", "flip"), ()):
        with pytest.raises(InputError) as caught:
            EncoderSpec(views=wrong)
        names = "one or more of center, flip, corners, each once"
        assert str(caught.value) == f"views: expected {names}, got {','.join(wrong)!r}"


def test_corners_need_an_image_that_is_resized_and_cropped():
    from open_clip.transform import image_transform

    transform = image_transform(64, is_train=False, resize_mode="longest")
    assert ViewCrops(transform, ("center", "flip"))(pictures()[0]).shape == (2, 64, 64, 3)
    with pytest.raises(InputError, match=r"^views corners: expected a model whose images are resized and cropped$"):
        ViewCrops(transform, ("corners",))
    squashed = ViewCrops(image_transform(64, is_train=False, resize_mode="squash"), ("corners",))
    assert squashed(pictures()[0]).shape == (4, 64, 64, 3)


def test_commands_take_views_as_another_encoder(cli, miniature, encoders, tmp_path):
    data = miniature.args(tmp_path / "cache")
    own = (*data, "--data-root", miniature.root)
    assert cli("extract", "--domain", "light", *own).code == 0
    answer = cli("extract", "--all", *own, "--views", "flip,center")
    assert answer.code == 0 and "mini/light: 24 rows, 24 encoded, 0 reused, " in answer.err
    assert "adapt --src dark --tgt light" in answer.err and "--views flip,center" in answer.err
    (folder,) = encoder_folders(tmp_path / "cache", "mini", replace(TINY, views=("center", "flip")))
    (other,) = encoder_folders(tmp_path / "cache", "mini", TINY)
    shard = read_image_shard(shard_files(folder / "light")[0])
    crops = [encoders[0].preprocess(np.array(open_rgb(miniature.root / "light" / path))) for path in shard.paths]
    expected = encoders[0].encode_images(torch.stack([torch.stack([crop, crop.flip(1)]) for crop in crops]))
    cosine = (expected * torch.tensor(shard.image_features).float()).sum(-1)
    assert cosine.min() > 0.9999 and folder != other  # stored as float16
    assert "mini/light: 24 rows, 0 encoded, 24 reused, " in cli("extract", "--all", *own, "--views", "center,flip").err
    pair = ("--src", "dark", "--tgt", "light", "--method", "zero-shot", "--out", tmp_path / "run")
    assert cli("adapt", *data, "--views", "center,flip", *pair).code == 0
    assert folder.name in (tmp_path / "run" / "config.json").read_text()
    images = ("--images", miniature.root / "light" / "bar", "-o", tmp_path / "p.csv")
    assert cli("predict", "--run", tmp_path / "run", *images).code == 0
    deep = cli("cache", "verify", *data, "--deep", "--data-root", miniature.root)
    assert (deep.code, "72 image(s) encoded again and compared" in deep.err) == (0, True)


def open_rgb(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")
