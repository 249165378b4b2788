"""A method, a loss, a validator and an encoder from outside the package, by entry points (pyproject.toml) or --plugin.

    unimos-pipe --plugin outside_methods.py adapt --dataset icons --src line --tgt sketch --method ridge \
        --set ridge.penalty=0.5 --seeds 3
"""

from dataclasses import dataclass

import torch
from torch import Tensor

import unimos_pipe
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.task import AdaptationTask
from unimos_pipe.methods.unimos.loss_terms import Outputs
from unimos_pipe.methods.unimos.losses import entropy


@dataclass(frozen=True)
class RidgeSettings:
    """Settings of :func:`ridge`: ``--set ridge.penalty=0.5``, or a recipe's ``[options.ridge]`` and ``[grid]``."""

    penalty: float = 1.0  # of the squared weights
    prompts: float = 1.0  # weight of the prompts, which are K further labelled rows
    dropout: float = 0.1  # share of source rows left out at random, so that there is something to seed


def ridge(task: AdaptationTask, settings: RidgeSettings, seed: int) -> MethodOutput:
    """Ridge regression to one-hot labels, on source rows and prompts."""
    generator = torch.Generator().manual_seed(seed)
    source, text = task.source, task.text_features
    kept = torch.rand(len(source.labels), generator=generator).to(text.device) >= settings.dropout
    rows = torch.cat([source.features[kept], settings.prompts**0.5 * text])
    classes = torch.eye(len(text), dtype=text.dtype, device=text.device)
    wanted = torch.cat([classes[source.labels[kept]], settings.prompts**0.5 * classes])
    gram = rows.mT @ rows + settings.penalty * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    weight = torch.linalg.solve(gram, rows.mT @ wanted)
    return LinearModel(10 * weight, torch.zeros_like(weight[0])).predict_target(task)


def vision_entropy(outputs: Outputs) -> Tensor:
    """(R,) mean entropy of the vision branch's answers to the target: ``--set loss.vision_entropy=0.1``."""
    return entropy(outputs.y_vac[:, outputs.half :].softmax(-1)).mean(-1)


def certain_share(probabilities: Tensor, features: Tensor) -> Tensor:
    """Return the share of target rows with a probability above 0.9: ``--show certain_share``, ``select``."""
    return (probabilities.amax(-1) > 0.9).double().mean()


class MirroredEncoder:
    """The embedded encoder, on each image and its mirror image: ``extract --encoder tiny-mirrored``.

    DINOv2, SigLIP or others take its place: two functions of tensors and strings that return features.
    """

    def __init__(self, device: torch.device):
        self.encoder = ClipEncoder(unimos_pipe.EncoderSpec("tinyclip-r24-64", "embedded", "fp32"), device)

    def encode_image(self, images: Tensor) -> Tensor:
        """Return (n, D) features of (n, 3, 64, 64) normalised images."""
        return self.encoder.forward(images) + self.encoder.forward(images.flip(-1))

    def encode_text(self, sentences: list[str]) -> Tensor:
        """Return (n, D) features of n sentences."""
        return self.encoder.encode_texts(sentences)


unimos_pipe.register_method(
    "ridge",
    ridge,
    load_model=LinearModel.from_state,
    settings=RidgeSettings,
    citation="Hoerl and Kennard, Technometrics 1970",
)
unimos_pipe.register_loss("vision_entropy", vision_entropy)
unimos_pipe.register_validator("certain_share", certain_share)
unimos_pipe.register_encoder("tiny-mirrored", MirroredEncoder, version="1", image_size=64)
