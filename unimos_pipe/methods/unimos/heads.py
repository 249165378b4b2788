"""The trainable modules of UniMoS (METHOD.md section 2), R runs stacked along the leading dimension.

A single run is R = 1. Parameters are plain tensors in a dict, named as ``<module>.<tensor>``; every product is a
batched one, so a stack costs one call where R runs would cost R.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.base.method_config import HeadSpec

BN_MOMENTUM, BN_EPS = 0.1, 1e-5
LINEAR = tuple(  # weights whose products make up a step
    f"{name}.weight" for name in ("vision_separator", "text_separator", "bottleneck_linear", "disc_fc1")
)
WEIGHT_GENERATOR = ("weight_fc1.weight", "weight_fc1.bias", "weight_fc2.weight", "weight_fc2.bias")


def parameter_shapes(dim: int, classes: int, spec: HeadSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of one run.

    Args:
        dim: D, size of the CLIP embedding.
        classes: K.
    """
    width = spec.bottleneck_dim
    layers = {
        "vision_separator": (dim, dim),
        "text_separator": (dim, dim),
        "bottleneck_linear": (width, dim),
        "weight_fc1": (spec.weight_hidden, dim),
        "weight_fc2": (1, spec.weight_hidden),
        "disc_fc1": (spec.discriminator_hidden, dim),
        "disc_fc2": (1, spec.discriminator_hidden),
    }
    return {
        **{f"{name}.weight": shape for name, shape in layers.items()},
        **{f"{name}.bias": shape[:1] for name, shape in layers.items()},
        "bottleneck_bn.weight": (width,),
        "bottleneck_bn.bias": (width,),
        "classifier.weight_v": (classes, width),
        "classifier.weight_g": (classes, 1),
        "classifier.bias": (classes,),
    }


def initial_parameters(dim: int, classes: int, spec: HeadSpec, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the initial weights of one run, float32 on the CPU (METHOD.md section 2).

    Args:
        dim: D, size of the CLIP embedding.
        classes: K.
        generator: CPU generator; equal states give equal weights.
    """
    params = {name: torch.zeros(shape) for name, shape in parameter_shapes(dim, classes, spec).items()}

    def default_linear(name: str, weight: str = "weight") -> None:
        bound = 1 / math.sqrt(params[f"{name}.{weight}"].shape[1])
        params[f"{name}.{weight}"].uniform_(-bound, bound, generator=generator)
        params[f"{name}.bias"].uniform_(-bound, bound, generator=generator)

    default_linear("vision_separator")
    default_linear("text_separator")
    std = math.sqrt(2 / (dim + spec.bottleneck_dim))
    params["bottleneck_linear.weight"].normal_(0, std, generator=generator)
    params["bottleneck_bn.weight"].fill_(1)
    default_linear("classifier", "weight_v")
    params["classifier.weight_g"] = params["classifier.weight_v"].norm(dim=1, keepdim=True)
    params["classifier.bias"].zero_()
    default_linear("weight_fc1")
    default_linear("weight_fc2")
    default_linear("disc_fc1")
    default_linear("disc_fc2")
    return params


def reset_tensor(like: Tensor, generator: torch.Generator) -> Tensor:
    """Re-initialise a weight-generator tensor: xavier-uniform for a weight, zero for a bias (METHOD.md section 4)."""
    if like.ndim == 1:
        return torch.zeros(like.shape)
    bound = math.sqrt(6 / sum(like.shape))
    return torch.empty(like.shape).uniform_(-bound, bound, generator=generator)


@dataclass
class Heads:
    """R stacked runs: parameters, BatchNorm statistics, label priors and, for training, momentum buffers.

    ``params``, ``momentum``, ``copies``: name -> (R, ...). ``running_mean``, ``running_var``: (R, H).
    ``label_prior``: (R, K). Inputs ``x`` and features are (R, n, D); ``text`` is (R, K, D).
    """

    params: dict[str, Tensor]
    running_mean: Tensor
    running_var: Tensor
    label_prior: Tensor
    spec: HeadSpec
    momentum: dict[str, Tensor] | None = None
    beta: float = 0.9
    copies: dict[str, Tensor] = field(default_factory=dict)  # of weights, in the dtype of training's products

    @classmethod
    def stack(
        cls,
        runs: Sequence[Mapping[str, Tensor]],
        spec: HeadSpec,
        dtype: torch.dtype,
        device: torch.device,
        beta: float,
        products: torch.dtype | None = None,
    ) -> "Heads":
        """Stack the initial weights of R runs for training; priors start uniform, momentum at zero."""
        params = {name: torch.stack([run[name] for run in runs]).to(device, dtype) for name in runs[0]}
        count, classes, width = params["classifier.weight_v"].shape
        zeros = torch.zeros(count, width, dtype=dtype, device=device)
        prior = torch.full((count, classes), 1 / classes, dtype=dtype, device=device)
        momentum = {name: torch.zeros_like(param) for name, param in params.items()}
        layers = {name: param for name, param in params.items() if name in LINEAR and products and products != dtype}
        copies = {name: weight.to(products) for name, weight in layers.items()}
        return cls(params, zeros, torch.ones_like(zeros), prior, spec, momentum, beta, copies)

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], spec: HeadSpec, device: torch.device) -> "Heads":
        """Return one run (R = 1) for inference from :meth:`run_state`; tensors with other names are ignored."""
        buffers = ("bottleneck_bn.running_mean", "bottleneck_bn.running_var", "label_prior")
        stacked = {name: tensor.to(device).unsqueeze(0) for name, tensor in tensors.items()}
        names = parameter_shapes(1, 1, spec).keys()
        params = {name: tensor for name, tensor in stacked.items() if name in names}
        return cls(params, *(stacked[name] for name in buffers), spec)

    def runs(self, start: int, stop: int, training: bool = True) -> "Heads":
        """Return the runs from ``start`` to ``stop`` as views into the same memory."""
        selected = slice(start, stop)
        params = {name: param[selected] for name, param in self.params.items()}
        momentum = {name: buffer[selected] for name, buffer in self.momentum.items()} if training else None
        return Heads(
            params,
            self.running_mean[selected],
            self.running_var[selected],
            self.label_prior[selected],
            self.spec,
            momentum,
            self.beta,
            {name: copy[selected] for name, copy in self.copies.items()},
        )

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self.params[f"{name}.bias"].unsqueeze(1), x, self.params[f"{name}.weight"].mT)

    def vac(self, x: Tensor) -> Tensor:
        """Vision-associated component G_vis(x), not normalised."""
        return self._linear("vision_separator", x)

    def lac(self, x: Tensor) -> Tensor:
        """Language-associated component G_txt(x), not normalised."""
        return self._linear("text_separator", x)

    def lac_logits(self, f_lac: Tensor, text: Tensor) -> Tensor:
        """Return (R, n, K) text logits: 100 f_lac mu^T, or the paper's cosine over T."""
        if self.spec.similarity == "cosine":
            f_lac = F.normalize(f_lac, dim=-1)
        return self.spec.temperature_scale * torch.bmm(f_lac, text.mT)

    def bottleneck_map(self, separated: bool) -> tuple[Tensor, Tensor]:
        """Return Phi_1 of one run (R = 1), with running statistics, as a linear map of x: weight (H, D) and bias (H,).

        Args:
            separated: Phi_1(G_vis(x)) instead of Phi_1(x).
        """
        gain = self.params["bottleneck_bn.weight"][0] * (self.running_var[0] + BN_EPS).rsqrt()
        weight = gain.unsqueeze(-1) * self.params["bottleneck_linear.weight"][0]
        shift = self.params["bottleneck_linear.bias"][0] - self.running_mean[0]
        bias = torch.addcmul(self.params["bottleneck_bn.bias"][0], shift, gain)
        if not separated:
            return weight, bias
        return weight @ self.params["vision_separator.weight"][0], bias + weight @ self.params["vision_separator.bias"][
            0
        ]

    def text_map(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return one run's (R = 1) text logits, in the dot form, as a linear map of x: weight (K, D) and bias (K,)."""
        scaled = self.spec.temperature_scale * text
        return scaled @ self.params["text_separator.weight"][0], scaled @ self.params["text_separator.bias"][0]

    def bottleneck(self, f_vac: Tensor) -> Tensor:
        """Return (R, n, H) features Phi_1, with running statistics."""
        gain = self.params["bottleneck_bn.weight"] * (self.running_var + BN_EPS).rsqrt()
        shift = self.params["bottleneck_bn.bias"] - self.running_mean * gain
        return torch.addcmul(shift.unsqueeze(1), self._linear("bottleneck_linear", f_vac), gain.unsqueeze(1))

    def classify(self, bottleneck: Tensor) -> Tensor:
        """Return (R, n, K) logits of the weight-normalised classifier Phi_2."""
        direction, length = self.params["classifier.weight_v"], self.params["classifier.weight_g"]
        weight = direction * (length / direction.norm(dim=-1, keepdim=True))
        return torch.baddbmm(self.params["classifier.bias"].unsqueeze(1), bottleneck, weight.mT)

    def refresh_copies(self) -> None:
        """Update the low-precision copies after weights were changed outside a step."""
        for name, copy in self.copies.items():
            copy.copy_(self.params[name])

    def run_state(self, run: int) -> dict[str, Tensor]:
        """Return one run's weights, BatchNorm statistics and label prior, as files store them."""
        tensors = {name: param[run] for name, param in self.params.items()}
        tensors["bottleneck_bn.running_mean"] = self.running_mean[run]
        tensors["bottleneck_bn.running_var"] = self.running_var[run]
        tensors["label_prior"] = self.label_prior[run]
        return {name: tensor.cpu().clone() for name, tensor in tensors.items()}
