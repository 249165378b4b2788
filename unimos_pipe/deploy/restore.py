"""Restoration of a method's model from the tensors of a run or an export."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.cache.feature_checks import NORM_TOLERANCE, text_fault
from unimos_pipe.methods.base import Model
from unimos_pipe.methods.registry import get_method
from unimos_pipe.methods.unimos.heads import Heads, parameter_shapes
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unknown_score import PREFIX, UnknownScorer
from unimos_pipe.runs.method_names import METHODS, TEXT_FREE


def restore_model(
    tensors: Mapping[str, Tensor], classes: int, method: str, options: MethodSpec | None, device
) -> Model:
    """Return the model of a run's or an export's tensors after checking each tensor.

    Args:
        tensors: state of the method and ``text_features``, which are zeros for image features without text.
        classes: number of classes.
        options: options of UniMoS; None for other methods.
    Raises:
        InputError: missing tensors, wrong shapes or dtypes, or values that are not finite.
    """
    text = tensors.get("text_features")
    if text is None or text.ndim != 2 or len(text) != classes or not text.numel():
        raise InputError(
            "the model's text_features", expected=f"({classes}, D)", got=None if text is None else [*text.shape]
        )
    if options is None:
        model = _restore_fitted(tensors, classes, method)
        names = [name for name, tensor in tensors.items() if tensor.dtype.is_floating_point]
    else:
        names = [*_check_heads(tensors, classes, options), "text_features"]
    dtypes = {tensors[name].dtype for name in names}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        got = join_names(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise InputError("the model's tensors", expected="all float32, or all float64", got=got)
    if non_finite := [name for name in names if not tensors[name].isfinite().all()]:
        raise InputError("the model's tensors", expected="finite values", got=f"{non_finite[0]} with others")
    fused_text = options is not None and options.train.text == "fused"  # its text features are not of unit norm
    without_text = method not in METHODS or method in TEXT_FREE
    if not fused_text and (text.any() or not without_text) and (fault := text_fault(text.float().numpy())):
        raise InputError(f"the model's text_features {fault}")
    if options is None:
        return model
    prior, variance = tensors["label_prior"], tensors["bottleneck_bn.running_var"]
    if prior.min() < 0 or abs(prior.sum().item() - 1) > NORM_TOLERANCE:
        raise InputError("the model's label_prior", expected="shares that sum to 1", got=f"a sum of {prior.sum():.4g}")
    if variance.min() < 0:
        raise InputError(
            "the model's bottleneck_bn.running_var", expected="no negative values", got=variance.min().item()
        )
    return UniMoSModel(Heads.from_state(tensors, options.heads, device), text.to(device), options)


def restore_scorer(tensors: Mapping[str, Tensor], device: torch.device) -> UnknownScorer | None:
    """Return the scorer of unknown rows among a run's or an export's tensors; None without one.

    Raises:
        InputError: missing tensors, wrong shapes, or values that are not finite.
    """
    row = torch.zeros_like(tensors["text_features"][:1]).to(device)
    try:
        scorer = UnknownScorer.from_state(tensors, device)
        valid = scorer is None or (scorer.score(row).shape == (1,) and scorer.threshold.shape == (1,))
    except (KeyError, RuntimeError):
        valid = False
    if not valid:
        raise InputError("the model's tensors of unknown scores", expected="each, of fitting shapes", got="others")
    wrong = [name for name, tensor in vars(scorer).items() if not tensor.isfinite().all()] if scorer else []
    if wrong:
        raise InputError("the model's tensors", expected="finite values", got=f"{PREFIX}{wrong[0]} with others")
    return scorer


def _restore_fitted(tensors: Mapping[str, Tensor], classes: int, method: str) -> Model:
    """Return the model of a method other than UniMoS; checked by the shape of its logits for a row of zeros."""
    try:
        model = get_method(method).load_model(tensors)
        shape = model.logits(torch.zeros_like(tensors["text_features"][:1])).shape
    except (KeyError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError("the model's tensors", expected=f"those of {method}", got=f"others ({reason})") from None
    if shape != (1, classes):
        raise InputError("the model's tensors", expected=f"logits for {classes} classes", got=[*shape])
    return model


def _check_heads(tensors: Mapping[str, Tensor], classes: int, options: MethodSpec) -> list[str]:
    """Return the names of the tensors of UniMoS's heads; raise InputError on a wrong shape."""
    shapes = parameter_shapes(tensors["text_features"].shape[1], classes, options.heads)
    width = (options.heads.bottleneck_dim,)
    shapes |= {"bottleneck_bn.running_mean": width, "bottleneck_bn.running_var": width, "label_prior": (classes,)}
    mismatched = [name for name, shape in shapes.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    if mismatched:
        got = str(tuple(tensors[mismatched[0]].shape)) if mismatched[0] in tensors else "none"
        raise InputError("the model's tensors", expected=f"{mismatched[0]} of shape {shapes[mismatched[0]]}", got=got)
    return list(shapes)
