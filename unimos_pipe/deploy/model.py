"""An adapted model: a run's heads with what is needed to ask them, from a run's folder, an export or a model hub."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import load_file, save
from torch import Tensor

from unimos_pipe.base.config import MethodSpec, build
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import UserError, listing, shown
from unimos_pipe.cache.identity import IMPORTED, EncoderIdentity
from unimos_pipe.cache.shard import differing_field
from unimos_pipe.data.decode import Picture
from unimos_pipe.deploy.answering import branch_probabilities
from unimos_pipe.deploy.card import card_text
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.images import read_batches
from unimos_pipe.extract.weights import recorded_spec
from unimos_pipe.methods.task import unit_rows
from unimos_pipe.methods.unimos.heads import Heads, parameter_shapes
from unimos_pipe.runs.folder import HEADS, RESULT
from unimos_pipe.runs.stored import read_run

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1
KEYS = ("format", "classes", "encoder", "encoder_id", "method", "about")  # of an exported config.json


@dataclass(frozen=True)
class Answers:
    """What a model says about n rows: (n, K) probabilities of the ensemble and of its two branches, float32 on the CPU.

    A row that could not be read is NaN in all three; :attr:`labels` has None there.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    vac: Tensor
    lac: Tensor

    @property
    def labels(self) -> list[str | None]:
        """n class names, the ensemble's answers."""
        return [
            None if row.isnan().any() else self.classes[k]
            for row, k in zip(self.probabilities, self.probabilities.argmax(-1).tolist(), strict=True)
        ]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """For each row the ``count`` likeliest classes with their probabilities."""
        best = self.probabilities.topk(min(count, len(self.classes)), dim=-1)
        return [
            [(self.classes[k], p) for k, p in zip(names, values, strict=True)]
            for names, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


class AdaptedModel(ModelHubMixin, library_name="unimos-pipe", tags=["clip", "domain-adaptation"]):
    """CLIP adapted to one target domain: frozen encoder (loaded when first needed) and trained heads.

    ``from_pretrained`` and ``push_to_hub`` are huggingface_hub's; only safetensors and JSON are read.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str = "auto"):
        """Build from an export's config (see :data:`KEYS`) and tensors (a run's ``heads.safetensors``).

        Raises:
            UserError: values or tensors that are no model's, all that is missing at once.
        """
        self.settings = _checked(config)
        self.classes: tuple[str, ...] = tuple(config["classes"])
        self.method = build(MethodSpec, config["method"], "the model's config.json: method")
        self.identity = EncoderIdentity(**config["encoder"])
        self.device = pick_device(device)
        _check_tensors(tensors, len(self.classes), self.method)
        self.text = tensors["text_features"].to(self.device)
        self.heads = Heads.from_state(tensors, self.method.heads, self.device)
        self._encoder: ClipEncoder | None = None

    @torch.no_grad()
    def answer(self, features: Tensor) -> Answers:
        """Classify CLIP image features, (n, D), of unit norm or not."""
        x = unit_rows(torch.as_tensor(features), self.text.dtype, self.device)
        parts = [self.probabilities(rows) for rows in x.split(8192)] or [self.probabilities(x)]
        return Answers(self.classes, *(torch.cat(column).float().cpu() for column in zip(*parts, strict=True)))

    def probabilities(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, D) unit-norm rows -> (n, K) probabilities of ensemble, VAC and LAC."""
        return branch_probabilities(self.heads, x, self.text, self.method)

    def encoder(self, weights: Path | None = None, *, trust: bool = False) -> ClipEncoder:
        """The frozen encoder the model was trained on, loaded at the first call and checked against its fingerprint.

        Args:
            weights: a weights file, where they were no open_clip tag's.
            trust: whether it may be a TorchScript archive that is not OpenAI's.
        Raises:
            UserError: the weights are not here, or are not those the model was trained on; or its features were made
                elsewhere.
        """
        if self.identity.precision == IMPORTED:
            raise UserError(
                f"this model's features were made elsewhere, by {self.identity.model!r}, which cannot be run here",
                todo="Import their features, and use predict --domain",
            )
        if self._encoder is None:
            spec = recorded_spec(self.identity, self.settings["encoder_id"], weights, trust=trust)
            found = ClipEncoder(spec, self.device)
            if difference := differing_field(found.identity, self.identity):
                field, got, wanted = difference
                raise UserError(
                    f"the encoder is not the one this model was trained on: {field}",
                    expected=wanted,
                    got=got,
                    todo="Pass --weights the file it was trained on" if field == "weights_sha256" else None,
                )
            self._encoder = found
        return self._encoder

    def predict(self, images: Sequence[str | Path | Picture], batch_size: int = 64) -> Answers:
        """Classify images given as paths or PIL images; rows come back in order, an unreadable one as NaN."""
        parts = [answers for answers, _ in self.predict_batches(images, batch_size, workers=0)]
        columns = [[getattr(part, name) for part in parts] for name in ("probabilities", "vac", "lac")]
        empty = torch.zeros(0, len(self.classes))
        return Answers(self.classes, *(torch.cat(column) if column else empty for column in columns))

    def predict_batches(
        self, images: Sequence[str | Path | Picture], batch_size: int, workers: int
    ) -> Iterator[tuple[Answers, list[tuple[int, str]]]]:
        """Stream answers to images, batch by batch in order.

        Args:
            workers: processes that decode; 0 decodes in this one (needed for PIL images on some systems).
        Yields:
            The answers of a batch, and (position in ``images``, reason) of its unreadable images.
        """
        encoder = self.encoder()
        batches = [list(range(i, min(i + batch_size, len(images)))) for i in range(0, len(images), batch_size)]
        stream = read_batches(
            Path(), images, batches, encoder.preprocess, workers, on_gpu=encoder.device.type == "cuda"
        )
        for rows, (good, pixels, bad) in zip(batches, stream, strict=True):
            whole = [torch.full((len(rows), len(self.classes)), float("nan")) for _ in range(3)]
            if good:
                # Rounded as the cache rounds, so that images answer like cached features.
                found = self.answer(encoder.encode_images(pixels).half())
                places = torch.tensor([row - rows[0] for row in good])
                for column, values in zip(whole, (found.probabilities, found.vac, found.lac), strict=True):
                    column[places] = values
            yield Answers(self.classes, *whole), bad

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the weights and the config; the hub mixin calls this, and writes a card where there is none."""
        state = {**self.heads.state(0), "text_features": self.text.cpu().clone()}
        content = save({name: tensor.contiguous() for name, tensor in state.items()})
        (save_directory / WEIGHTS).write_bytes(content)  # save_file would make it unreadable for others
        text = json.dumps(self.settings, indent=1, ensure_ascii=False) + "\n"
        (save_directory / CONFIG).write_text(text, encoding="utf-8")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The export's README; the hub mixin saves it."""
        return model_card(self.settings)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "auto", **options: Any) -> "AdaptedModel":
        """Load from a folder or a hub's repository: ``config.json`` and ``model.safetensors``, never a pickle."""
        names = (CONFIG, WEIGHTS)
        if Path(model_id).is_dir():
            config, weights = (Path(model_id) / name for name in names)
        else:
            hub = {key: options.get(key) for key in ("revision", "cache_dir", "token")}
            hub |= {key: bool(options.get(key)) for key in ("force_download", "local_files_only")}
            config, weights = (Path(hf_hub_download(model_id, name, **hub)) for name in names)
        return cls(read_json(config), read_tensors(weights), device)


def load(folder: str | Path, device: str = "auto") -> AdaptedModel:
    """Load an adapted model from an export's or a finished run's folder.

    Args:
        device: auto, cpu, cuda or mps.
    Raises:
        UserError: no model there, or damaged files.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return AdaptedModel(read_json(folder / CONFIG), read_tensors(folder / WEIGHTS), device)
    if not (folder / RESULT).is_file():
        raise UserError(
            f"{folder} holds no model", expected=f"a finished run's folder, or one with {WEIGHTS}", got="neither"
        )
    run = read_run(folder)
    return AdaptedModel(run_model_config(run.config, run.result), load_tensors(run.content(HEADS)), device)


def run_model_config(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """A run's ``config.json`` and ``result.json`` as the config of a model. Raises UserError on another version's."""
    try:
        spec = config["spec"]
        about = {name: spec[name] for name in ("dataset", "source", "target", "variant", "seed", "templates")}
        about["accuracy"] = (
            {name: result["accuracy"][name]["accuracy"] for name in ("last", "zero_shot")}
            if result["accuracy"]
            else None
        )
        about["rows"] = {"source": result["source_rows"], "target": result["target_rows"]}
        if 0 < result.get("labelled_rows", 0) < result.get("scored_rows", 0):
            about["rows"] |= {"labelled": result["labelled_rows"], "scored": result["scored_rows"]}
        return {
            "format": FORMAT,
            "classes": list(config["classes"]),
            "encoder": config["encoder"],
            "encoder_id": spec["encoder_id"],
            "method": spec["method"],
            "about": about,
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"the run's config.json or result.json lacks {error}; train it again with --force") from None


def model_card(settings: Mapping[str, Any]) -> ModelCard:
    """The README of a model of these settings (an export's config)."""
    return ModelCard(card_text(settings))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises UserError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}", expected="a JSON object", got=type(value).__name__)
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises UserError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in KEYS if key not in config]
    if missing or config["format"] != FORMAT:
        got = f"no {', '.join(missing)}" if missing else f"format {shown(config['format'])}"
        raise UserError("the model's config.json", expected=f"format {FORMAT} with {', '.join(KEYS)}", got=got)
    encoder, classes = config["encoder"], config["classes"]
    fields = set(EncoderIdentity.__dataclass_fields__)
    if not isinstance(encoder, Mapping) or set(encoder) != fields:
        raise UserError("the model's config.json: encoder", expected=f"the fields {', '.join(sorted(fields))}")
    if not all(isinstance(value, str) for value in (*encoder.values(), config["encoder_id"])):
        raise UserError("the model's config.json: encoder and encoder_id", expected="texts only")
    if not isinstance(config["method"], Mapping):
        raise UserError("the model's config.json: method", expected="a table", got=shown(config["method"]))
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise UserError("the model's config.json: classes", expected="two or more names")
    return {key: config[key] for key in KEYS}


def _check_tensors(tensors: Mapping[str, Tensor], classes: int, method: MethodSpec) -> None:
    text = tensors.get("text_features")
    if text is None or text.ndim != 2 or len(text) != classes or not text.numel():
        raise UserError(
            "the model's text_features", expected=f"({classes}, D)", got=None if text is None else [*text.shape]
        )
    wanted = parameter_shapes(text.shape[1], classes, method.heads)
    width = (method.heads.bottleneck_dim,)
    wanted |= {"bottleneck_bn.running_mean": width, "bottleneck_bn.running_var": width, "label_prior": (classes,)}
    wrong = [name for name, shape in wanted.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    if wrong:
        raise UserError(
            "the model's tensors", expected=f"{wrong[0]} of shape {wanted[wrong[0]]}", got=_shape(tensors, wrong[0])
        )
    kinds = {tensors[name].dtype for name in wanted} | {text.dtype}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        got = listing(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise UserError("the model's tensors", expected="all float32, or all float64", got=got)
    if strange := [name for name in (*wanted, "text_features") if not tensors[name].isfinite().all()]:
        raise UserError("the model's tensors", expected="finite values", got=f"{strange[0]} with others")


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else "none"
