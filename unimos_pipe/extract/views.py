"""Crops of an image for an encoder: CLIP's centre crop, and views whose features are averaged."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from open_clip.transform import MaybeConvertMode
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor, v2

from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.base.method_config import DEFAULT_VIEWS
from unimos_pipe.data.image_decoding import DECODING_WARNINGS, Picture, image_from_array

CORNER_RESIZE = 8 / 7  # size of the image that corners are cut from, relative to the crop: 256 for 224 pixels


class ResizeCrop:
    """Resize (bicubic) and crop of CLIP's evaluation transform; ``ClipEncoder.scale_pixels`` does the rest.

    torchvision on uint8 tensors takes a third of PIL's time; on photographs 0.3% of the values differ, by at most 2.
    If the transform has other steps than these two, PIL does all of them. ``resizer`` names the library for cache keys.
    """

    def __init__(self, transform: Compose):
        """``transform`` is open_clip's evaluation transform: geometric steps, ToTensor, Normalize."""
        *geometry, to_tensor, normalize = transform.transforms
        if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
            raise AssertionError(f"open_clip's transform has an unexpected form: {transform}")
        self.transform = transform
        self.on_picture, self.on_tensor, self.resizer = geometry, [], "PIL"
        if all(isinstance(step, Resize | CenterCrop | MaybeConvertMode) for step in geometry):
            resize = [v2.Resize(step.size, step.interpolation) for step in geometry if isinstance(step, Resize)]
            crop = [step for step in geometry if isinstance(step, CenterCrop)]
            self.on_picture, self.on_tensor, self.resizer = [], resize + crop, "torchvision, on uint8"

    def __call__(self, image: np.ndarray | Picture) -> torch.Tensor:
        """Return (H, W, 3) uint8 pixels of an RGB image of any size: (H, W, 3) uint8 or PIL."""
        if self.on_picture:
            image = image_from_array(np.asarray(image))
        for step in self.on_picture:
            image = step(image)
        with DECODING_WARNINGS:  # torch warns that PIL's memory is read-only
            pixels = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)
        for step in self.on_tensor:
            pixels = step(pixels)
        return pixels.permute(1, 2, 0)


class ViewCrops:
    """The crops of several views of an image.

    ``center`` is CLIP's evaluation crop, ``flip`` its mirror image, ``corners`` are the crops of the same size at the
    four corners of the image, which is resized to 8/7 of the size.
    """

    def __init__(self, transform: Compose, views: Sequence[str]):
        """``transform`` is open_clip's evaluation transform, ``views`` are names of :data:`VIEWS`.

        Raises:
            InputError: corners of a model whose images are not resized and cropped.
        """
        self.views, self.center = views, ResizeCrop(transform)
        self.resizer = self.center.resizer
        self.enlarged = ResizeCrop(_enlarge(transform)) if "corners" in views else None

    def __call__(self, image: np.ndarray | Picture) -> torch.Tensor:
        """Return (V, H, W, 3) uint8 pixels of the views' crops of an RGB image of any size."""
        center = self.center(image)
        crops = {"center": [center], "flip": [center.flip(1)]}
        if self.enlarged:
            pixels, (height, width, _) = self.enlarged(image), center.shape
            halves = pixels[:height], pixels[-height:]
            crops["corners"] = [corner for half in halves for corner in (half[:, :width], half[:, -width:])]
        return torch.stack([crop for view in self.views for crop in crops[view]])


def _enlarge(transform: Compose) -> Compose:
    """Return the transform with a larger resize and no crop. Raises InputError if it has other steps."""
    steps = []
    for step in transform.transforms:
        if isinstance(step, Resize):
            sizes = [math.ceil(side * CORNER_RESIZE) for side in np.atleast_1d(step.size).tolist()]
            steps.append(Resize(sizes[0] if isinstance(step.size, int) else sizes, step.interpolation))
        elif not isinstance(step, CenterCrop):
            steps.append(step)
    if not all(isinstance(step, Resize | MaybeConvertMode | ToTensor | Normalize) for step in steps):
        raise InputError((Argument("views"), " corners"), expected="a model whose images are resized and cropped")
    return Compose(steps)


def build_crops(transform: Compose, views: tuple[str, ...]) -> tuple[ResizeCrop | ViewCrops, dict[str, Any]]:
    """Return the crops of these views, and what the encoder's identity says of them.

    Raises:
        InputError: corners of a model whose images are not resized and cropped.
    """
    if views == DEFAULT_VIEWS:
        crop = ResizeCrop(transform)
        return crop, {"resizer": crop.resizer}
    crops = ViewCrops(transform, views)
    return crops, {"resizer": crops.resizer, "views": list(views), "corner_resize": CORNER_RESIZE}
