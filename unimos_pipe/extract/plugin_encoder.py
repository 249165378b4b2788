"""Encoders from outside the package, and the encoder of any spec."""

import hashlib
import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from unimos_pipe.base.encoder_presets import PLUGIN
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.plugins import ENCODERS, find_outside
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.extract.encoder import ClipEncoder, pixel_scale_and_shift
from unimos_pipe.extract.jpeg_decoding import decoder_name
from unimos_pipe.extract.views import build_crops


def open_encoder(spec: EncoderSpec, device: torch.device) -> ClipEncoder:
    """Load the encoder of a spec whose precision is not ``auto``: open_clip's, or one from outside the package.

    Raises:
        InputError: what :class:`ClipEncoder` or :class:`PluginEncoder` raises.
    """
    return PluginEncoder(spec, device) if spec.pretrained == PLUGIN else ClipEncoder(spec, device)


class PluginEncoder(ClipEncoder):
    """A frozen encoder from outside the package, in float32, with the views of CLIP's encoders."""

    def __init__(self, spec: EncoderSpec, device: torch.device):
        """Load the encoder that is registered by the name ``spec.model``.

        Raises:
            InputError: no encoder of this name, or another precision than fp32.
        """
        outside = find_outside(ENCODERS, spec.model)
        if outside is None:
            raise InputError(
                f"no encoder {spec.model!r} here; install the package that it comes from, or name its module"
            )
        if spec.precision not in ("auto", "fp32"):
            raise InputError(f"precision of encoder {spec.model}", expected="fp32 or auto", got=spec.precision)
        self.outside, self.model = outside, outside.load(device)
        self.device, self.dtype, self.logit_scale = device, torch.float32, outside.logit_scale
        normalize = Normalize(outside.mean, outside.std)
        resize = Resize(outside.image_size, InterpolationMode.BICUBIC)
        transform = Compose([resize, CenterCrop(outside.image_size), ToTensor(), normalize])
        self.preprocess, resizing = build_crops(transform, spec.views)
        self.value_range = pixel_scale_and_shift(normalize, device)
        version = f"version {outside.version}"
        preprocessing = {"code": version, "size": outside.image_size, "mean": outside.mean, "std": outside.std}
        preprocessing |= {"decoder": decoder_name(), **resizing}
        digest = hashlib.sha256(version.encode()).hexdigest()  # in place of the weights', which are not known here
        self.identity = EncoderIdentity(digest, spec.model, "", json.dumps(preprocessing, sort_keys=True), "fp32")

    @torch.inference_mode()
    def encode_texts(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return (n, D) float32 unit-norm features on the CPU of n sentences.

        Raises:
            InputError: the encoder has no ``encode_text``.
        """
        if not hasattr(self.model, "encode_text"):
            raise InputError(
                f"encoder {self.outside.name} has no encode_text, and prompts are to be encoded",
                todo="Encode the images yourself, and import them with text features of another encoder",
            )
        return F.normalize(self.model.encode_text(list(sentences)).float(), dim=-1).cpu()
