"""Export of a finished run: weights, config, model card, and ONNX graphs checked against this package."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unimos_pipe.base.atomic_io import OwnedFolder, atomic_replace_dir, check_owned_folder, check_writable_folder
from unimos_pipe.base.errors import Argument, ExecutionError, InputError
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.method_config import DEFAULT_VIEWS
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.safe_open import read_text
from unimos_pipe.cache.encoder_identity import recorded_views
from unimos_pipe.deploy.adapted_model import AdaptedModel, build_model_card, load
from unimos_pipe.deploy.model_config import CONFIG, CONFIG_KEYS, WEIGHTS, read_config
from unimos_pipe.deploy.predict import list_images
from unimos_pipe.methods.task import unit_rows
from unimos_pipe.runs.read_run import read_run

TOLERANCE = 1e-4  # largest difference between the probabilities of onnxruntime and torch
OUTPUTS = ("probabilities", "raw", "vac", "lac")  # of a graph; other methods than UniMoS have the first two
SCORE_OUTPUT = "unknown_score"  # and this one if the run looked for images of none of the classes
CHECKED_IMAGES = 16
CARD = "README.md"


def _is_export(folder: Path) -> bool:
    try:
        return (folder / CONFIG).is_file() and read_config(folder / CONFIG).keys() >= set(CONFIG_KEYS)
    except InputError:
        return False


EXPORT = OwnedFolder("an exported model", (CONFIG, WEIGHTS, CARD, "heads.onnx", "model.onnx"), _is_export)


def export_run(
    run: str | Path, out: str | Path, *, onnx: bool = False, images: Sequence[str | Path] = (), force: bool = False
) -> dict[str, float]:
    """Write ``model.safetensors``, ``config.json``, ``README.md`` and optionally ONNX graphs.

    Args:
        run: a finished run's folder.
        out: folder to write; an earlier export is replaced atomically once the new one is complete.
        onnx: also write ``heads.onnx``, from (n, D) CLIP image features to (n, K) probabilities.
        images: with ``onnx``, images or folders of images. ``model.onnx``, from preprocessed pixels to
            probabilities, is then written too and checked on up to 16 of them.
        force: replace an earlier export even if its card was edited.
    Returns:
        graph -> largest difference to torch's probabilities.
    Raises:
        InputError: no finished run, a folder that holds something else, missing packages, or another process that
            writes there.
        ExecutionError: a graph whose probabilities differ by more than :data:`TOLERANCE`.
    """
    run, out = Path(run), Path(out)
    if images and not onnx:
        raise InputError((Argument("images"), " needs ", Argument("onnx", True)))
    if onnx:
        require_extra("an ONNX graph", "onnx")
    check_writable_folder(out.parent, "out")
    files = list_images([Path(source) for source in images])[0] if images else []
    differences = {}
    with writer_lock(out):
        _check_output(out, force)
        model = load(run, "cpu")
        with atomic_replace_dir(out) as folder:
            model.save_pretrained(folder)
            if onnx:
                rows = torch.from_numpy(read_run(run).tensors("target_image")["target_image"])
                rows = unit_rows(rows, torch.float32, torch.device("cpu"))
                differences["heads.onnx"] = _write_onnx(_HeadsGraph(model), rows, "features", folder / "heads.onnx")
            if files:
                pixels = _load_pixels(model, files[:CHECKED_IMAGES])
                differences["model.onnx"] = _write_onnx(_ImageGraph(model), pixels, "pixels", folder / "model.onnx")
    return differences


def _check_output(out: Path, force: bool) -> None:
    """Raise InputError if ``out`` holds files that are not an export's, or a card that was edited."""
    check_owned_folder(out, EXPORT, "out")
    if force or not (out / CARD).is_file():
        return
    try:
        edited = read_text(out / CARD) != str(build_model_card(read_config(out / CONFIG)))
    except (ValueError, KeyError, TypeError, AttributeError):  # not text, or a config without what a card needs
        edited = True
    if edited:
        raise InputError(
            (
                f"{out / CARD} was edited since it was exported; add ",
                Argument("force", True),
                " to replace it too, or choose another ",
                Argument("out"),
            )
        )


class _HeadsGraph(torch.nn.Module):
    """Graph from (n, D) image features to (n, K) probabilities and (n,) unknown scores, see :data:`OUTPUTS`."""

    def __init__(self, model: AdaptedModel):
        super().__init__()
        self.model = model

    def forward(self, features):
        x = torch.nn.functional.normalize(features.to(self.model.text.dtype), dim=-1)
        scores = (self.model.scorer.score(x),) if self.model.scorer else ()
        return tuple(values.float() for values in (*self.model.probabilities(x), *scores))


class _ImageGraph(torch.nn.Module):
    """Graph from (n, H, W, 3) uint8 pixels, resized and cropped for CLIP, to (n, K) probabilities."""

    def __init__(self, model: AdaptedModel):
        super().__init__()
        encoder = model.encoder()
        if recorded_views(model.identity) != DEFAULT_VIEWS:
            raise InputError("an ONNX graph from pixels", expected="features of one view of an image", got="of several")
        self.visual, self.dtype = encoder.model.visual, encoder.dtype
        self.scale, self.shift = encoder.value_range
        self.heads = _HeadsGraph(model)

    def forward(self, pixels):
        values = (self.shift + pixels.float() * self.scale).permute(0, 3, 1, 2)
        return self.heads(self.visual(values.to(self.dtype)).float())


def _load_pixels(model: AdaptedModel, images: list[Path]) -> torch.Tensor:
    from unimos_pipe.extract.image_loader import read_batches  # importing torchvision takes seconds

    stream = read_batches(Path(), images, [list(range(len(images)))], model.encoder().preprocess, workers=0)
    _, pixels, bad = next(stream)
    if bad or pixels is None:
        raise InputError(f"{images[bad[0][0]]} cannot be read ({bad[0][1]}); pass other images to check the graph on")
    return pixels


@torch.no_grad()
def _write_onnx(graph: torch.nn.Module, rows: torch.Tensor, name: str, path: Path) -> float:
    """Write a graph; return the largest difference between the probabilities of onnxruntime and torch on ``rows``."""
    import onnxruntime

    graph.eval()
    expected = [values.numpy() for values in graph(rows)]
    scored = expected[-1].ndim == 1
    names = [*OUTPUTS[: len(expected) - scored], *([SCORE_OUTPUT] if scored else [])]
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its optimiser logs every node that it does not change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (rows[:2].contiguous(),),
            str(path),
            input_names=[name],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(names, {name: rows.numpy()})
    largest = max(float(np.abs(a - b).max()) for a, b in zip(expected, outputs, strict=True))
    if not largest <= TOLERANCE:
        raise ExecutionError(
            f"{path.name}: onnxruntime's probabilities",
            expected=f"torch's within {TOLERANCE}",
            got=f"a difference of {largest:.2g}",
        )
    return largest
