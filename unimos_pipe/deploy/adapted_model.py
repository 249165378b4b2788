"""Adapted models, loaded from a run's folder, an export or a model hub."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import Argument, ExecutionError, InputError
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.cache.encoder_identity import IMPORTED, EncoderIdentity
from unimos_pipe.cache.shard import first_difference
from unimos_pipe.data.image_decoding import Picture
from unimos_pipe.deploy.image_inputs import ImageInput, normalise_inputs
from unimos_pipe.deploy.model_card import render_card
from unimos_pipe.deploy.model_config import CONFIG, WEIGHTS, check_config, export_digest, read_export, run_model_config
from unimos_pipe.deploy.predictions import Predictions, concatenate, with_errors
from unimos_pipe.deploy.restore import restore_model, restore_scorer
from unimos_pipe.methods.task import unit_rows
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.runs.method_names import UNIMOS, answers_new_rows, method_names
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.write_run import HEADS, PREDICTIONS, RESULT

if TYPE_CHECKING:
    from unimos_pipe.extract.encoder import ClipEncoder

_LOADING = threading.Lock()  # so that several threads load an encoder once


class AdaptedModel(ModelHubMixin, library_name="unimos-pipe", tags=["clip", "domain-adaptation"]):
    """CLIP adapted to one target domain: frozen encoder (loaded on first use) and the state of a method.

    ``from_pretrained`` and ``push_to_hub`` come from huggingface_hub. Only safetensors and JSON are read.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str = "auto"):
        """Build from an export's config (see :data:`CONFIG_KEYS`) and tensors (a run's ``heads.safetensors``).

        Raises:
            InputError: missing or invalid values or tensors.
        """
        self.settings = check_config(config)
        self.classes: tuple[str, ...] = tuple(config["classes"])
        self.method, self.temperature = self.settings["method"], self.settings["temperature"]
        options = None
        if self.method == UNIMOS:
            options = parse_dataclass(MethodSpec, self.settings["options"], "the model's config.json: options")
        self.identity = EncoderIdentity(**config["encoder"])
        self.device = pick_device(device)
        self.fitted = restore_model(tensors, len(self.classes), self.method, options, self.device)
        self.text = tensors["text_features"].to(self.device)
        self.scorer = restore_scorer(tensors, self.device)  # of rows of none of the classes; None without one
        self._encoder: ClipEncoder | None = None

    @torch.no_grad()
    def predict_features(self, features: Tensor) -> Predictions:
        """Classify (n, D) CLIP image features; they are normalised first."""
        x = unit_rows(torch.as_tensor(features), self.text.dtype, self.device)
        batches = [self.probabilities(rows) for rows in x.split(8192)] or [self.probabilities(x)]
        columns = [torch.cat(column).float().cpu() for column in zip(*batches, strict=True)]
        unknown_scores, unknown = None, None
        if self.scorer:
            scores = self.scorer.score(x)
            unknown_scores, unknown = scores.float().cpu(), (scores >= self.scorer.threshold).cpu()
        if wrong := int((~torch.stack([column.isfinite().all(-1) for column in columns]).all(0)).sum()):
            raise ExecutionError(
                f"{wrong} of {len(x)} predictions are not finite",
                todo="Check the features and the weights, or try another device or precision",
            )
        branches = columns[2:] or [None, None]
        return Predictions(self.classes, *columns[:2], *branches, (None,) * len(x), unknown_scores, unknown)

    def probabilities(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (n, K) probabilities of (n, D) unit-norm rows: calibrated, raw, for UniMoS also of VAC and LAC."""
        if isinstance(self.fitted, UniMoSModel):
            logits, *branches = self.fitted.all_logits(x)
        else:
            logits, branches = self.fitted.logits(x), []
        return tuple(
            branch_logits.softmax(-1) for branch_logits in (logits / (self.temperature or 1), logits, *branches)
        )

    def encoder(self, weights: Path | None = None, *, allow_torchscript: bool = False) -> "ClipEncoder":
        """Return the frozen encoder the model was trained on, loaded on the first call and checked by its identity.

        Args:
            weights: weights file, if the encoder was not loaded by an open_clip tag.
            allow_torchscript: open a TorchScript archive that is not OpenAI's, which can run code.
        Raises:
            InputError: the weights are missing or not those the model was trained on, or the model was trained on
                imported features.
        """
        if self.identity.precision == IMPORTED:
            raise InputError(
                f"this model was trained on imported features of {self.identity.model!r}, "
                "which cannot encode images here",
                todo="Import their features, and predict the cached domain",
            )
        with _LOADING:
            if self._encoder is None:
                self._encoder = self._load_encoder(weights, allow_torchscript)
        return self._encoder

    def _load_encoder(self, weights: Path | None, allow_torchscript: bool) -> "ClipEncoder":
        from unimos_pipe.extract.plugin_encoder import open_encoder  # importing open_clip takes seconds
        from unimos_pipe.extract.weights import recorded_spec

        encoder = open_encoder(
            recorded_spec(self.identity, self.settings["encoder_id"], weights, allow_torchscript=allow_torchscript),
            self.device,
        )
        if difference := first_difference(encoder.identity, self.identity):
            field, got, expected = difference
            raise InputError(
                f"the encoder is not the one this model was trained on: {field}",
                expected=expected,
                got=got,
                todo=("Pass as ", Argument("weights"), " the file it was trained on")
                if field == "weights_sha256"
                else None,
            )
        return encoder

    def predict(self, images: ImageInput | Iterable[ImageInput], batch_size: int = 64) -> Predictions:
        """Classify one or several images. Thread-safe.

        Args:
            images: paths (a string is one path), PIL images, bytes of image files, or (H, W, 3) uint8 arrays in RGB.
            batch_size: images per encoder call.
        Returns:
            A row for each image, in order; for an unreadable image ``errors`` holds the reason.
        Raises:
            InputError: an input that is not an image, or an error of :meth:`encoder`.
        """
        parts = list(self.predict_batches(normalise_inputs(images), batch_size, workers=0))
        return concatenate(parts) if parts else self.predict_features(self.text[:0])

    def predict_batches(
        self,
        images: Sequence[Path | Picture | bytes],
        batch_size: int,
        workers: int,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Iterator[Predictions]:
        """Yield the predictions of each batch of images, in order.

        Args:
            workers: decoder processes; 0 decodes in this process (some systems need that for PIL images).
            max_pixels: largest image that is read.
        """
        from unimos_pipe.extract.image_loader import read_batches  # importing torchvision takes seconds

        encoder = self.encoder()
        batches = [list(range(i, min(i + batch_size, len(images)))) for i in range(0, len(images), batch_size)]
        stream = read_batches(
            Path(),
            images,
            batches,
            encoder.preprocess,
            workers,
            on_gpu=encoder.device.type == "cuda",
            max_pixels=max_pixels,
        )
        for rows, (good, pixels, bad) in zip(batches, stream, strict=True):
            # Rounded to float16 like cached features, so that both give the same predictions.
            predictions = self.predict_features(encoder.encode_images(pixels).half() if good else self.text[:0])
            reasons = dict(bad)
            yield with_errors(predictions, [reasons.get(row) for row in rows])

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write weights and config. Called by the hub mixin, which adds a card if there is none."""
        state = {**self.fitted.state_dict(), "text_features": self.text.cpu().clone()}
        state |= self.scorer.state_dict() if self.scorer else {}
        content = save({name: tensor.contiguous() for name, tensor in state.items()})
        (save_directory / WEIGHTS).write_bytes(content)  # save_file creates a file that other users cannot read
        signed = {**self.settings, "digest": export_digest(self.settings, content)}
        text = json.dumps(signed, indent=1, ensure_ascii=False) + "\n"
        (save_directory / CONFIG).write_text(text, encoding="utf-8")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the export's README; the hub mixin saves it."""
        return build_model_card(self.settings)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, device: str = "auto", allow_edited: bool = False, **options: Any
    ) -> "AdaptedModel":
        """Load from a folder or a hub's repository: ``config.json`` and ``model.safetensors``, never a pickle.

        Args:
            allow_edited: load also what was changed since it was exported.
        """
        names = (CONFIG, WEIGHTS)
        if Path(model_id).is_dir():
            config, weights = (Path(model_id) / name for name in names)
        else:
            hub_options = {key: options.get(key) for key in ("revision", "cache_dir", "token")}
            hub_options |= {key: bool(options.get(key)) for key in ("force_download", "local_files_only")}
            config, weights = (Path(hf_hub_download(model_id, name, **hub_options)) for name in names)
        return cls(*read_export(config, weights, allow_edited=allow_edited), device)


def load(folder: str | Path, device: str = "auto", *, allow_edited: bool = False) -> AdaptedModel:
    """Load an adapted model from the folder of an export or of a finished run.

    Args:
        device: auto, cpu, cuda or mps.
        allow_edited: load also an export that was changed since it was made; its values are checked all the same.
    Raises:
        InputError: no model there, damaged files, or an export that is not what was written.
        ReadError: files that cannot be read.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return AdaptedModel(*read_export(folder / CONFIG, folder / WEIGHTS, allow_edited=allow_edited), device)
    if not (folder / RESULT).is_file():
        raise InputError(
            f"{folder} holds no model", expected=f"a finished run's folder, or one with {WEIGHTS}", got="neither"
        )
    run = read_run(folder)
    config = run_model_config(run)
    method = config["method"]
    if method in method_names() and not answers_new_rows(method):
        raise InputError(
            f"{folder}: {method} is transductive: it predicts only the images it was fitted on, see {PREDICTIONS}",
            todo="For new images use a run of another method, such as fused",
        )
    return AdaptedModel(config, load_tensors(run.read_verified(HEADS)), device)


def build_model_card(settings: Mapping[str, Any]) -> ModelCard:
    """Return the README of a model; ``settings`` is an export's config."""
    return ModelCard(render_card(settings))
