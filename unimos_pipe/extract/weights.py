"""Location of weights files: embedded, folder, file, hub."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import open_clip

from unimos_pipe.base.encoder_presets import EMBEDDED, ENCODERS, PLUGIN
from unimos_pipe.base.errors import Argument, InputError, join_names, suggestions
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity, is_weights_path, readable_name, recorded_views
from unimos_pipe.extract.hub import WEIGHTS_FILES, HubFile, download


def find_weights(spec: EncoderSpec) -> Path:
    """Return the weights file of a spec: embedded, local path, in a model folder, or of a tag (downloaded if missing).

    Raises:
        InputError: the path or tag does not exist, or the download failed.
    """
    if spec.model.startswith("local-dir:"):
        return _find_folder_weights(Path(spec.model.removeprefix("local-dir:")))
    if spec.model.startswith("hf-hub:"):
        return download(HubFile(spec.model.removeprefix("hf-hub:").rstrip("/")), f"of {spec.model}")
    if spec.pretrained == "embedded":
        return EMBEDDED / f"{spec.model}.safetensors"
    if is_weights_path(spec.pretrained):
        path = Path(spec.pretrained)
        if not path.is_file():
            raise InputError(
                (f"no weights file {path}; ", Argument("pretrained"), " takes a file or one of open_clip's tags")
            )
        return path
    tag = open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
    if not tag:
        known_tags = open_clip.list_pretrained_tags_by_model(spec.model)
        raise InputError(
            (
                f"{spec.model} has no weights tag {spec.pretrained!r}; "
                f"{suggestions(spec.pretrained, known_tags, 12)}; or pass a local file as ",
                Argument("pretrained"),
            )
        )
    return download(HubFile.of(tag["hf_hub"]), f"{spec.pretrained!r} of {spec.model}")


def _find_folder_weights(folder: Path) -> Path:
    """Return the weights file of a ``local-dir:`` folder: one of open_clip's names, else the only one.

    Raises:
        InputError: no configuration, no weights file, or several with other names.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    weights = [name for name in names if Path(name).suffix in (".safetensors", ".bin", ".pth", ".pt")]
    chosen = [name for name in WEIGHTS_FILES if name in weights][:1] or weights
    if "open_clip_config.json" not in names or len(chosen) != 1:
        raise InputError(
            f"model folder {folder}",
            expected="open_clip_config.json and a weights file in it",
            got=join_names(names) if folder.is_dir() else "neither",
        )
    return folder / chosen[0]


def recorded_spec(
    identity: EncoderIdentity, encoder_id: str, weights: Path | None = None, *, allow_torchscript: bool = False
) -> EncoderSpec:
    """Return the spec of a recorded encoder: from a file, or by the preset or tag in its encoder-id.

    Args:
        weights: weights file, if the encoder was loaded from one.
        allow_torchscript: open a TorchScript archive of unknown origin.
    Raises:
        InputError: the encoder was loaded from a file, and ``weights`` is missing.
    """
    views = recorded_views(identity)
    if weights is not None:
        text = str(weights) if is_weights_path(str(weights)) else f"./{weights}"
        return EncoderSpec(identity.model, text, identity.precision, allow_torchscript, views)
    tags = {spec.pretrained for spec in ENCODERS.values() if spec.model == identity.model}
    tags |= {PLUGIN, *open_clip.list_pretrained_tags_by_model(identity.model)}
    for tag in sorted(tags):
        if encoder_id.startswith(readable_name(EncoderSpec(identity.model, tag)) + "_"):
            return EncoderSpec(identity.model, tag, identity.precision, views=views)
    raise InputError(
        (
            f"the encoder {encoder_id} was loaded from a file; pass as ",
            Argument("weights"),
            f" that file (sha256 {identity.weights_sha256[:12]}...)",
        )
    )


def preprocessing(spec: EncoderSpec) -> dict:
    """Return open_clip's preprocessing of a tag; for a weights file, that of the model's tags if all agree.

    Keys are mean, std, interpolation and resize_mode; an empty dictionary leaves the choice to open_clip.
    """
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    chosen = [spec.pretrained] if spec.pretrained in tags else tags
    configs = [open_clip.get_pretrained_cfg(spec.model, tag) for tag in chosen]
    options = [{key: tag.get(key) for key in ("mean", "std", "interpolation", "resize_mode")} for tag in configs]
    return options[0] if options and all(entry == options[0] for entry in options) else {}


def openai_hashes() -> set[str]:
    """Return the sha256 of OpenAI's published files, which open_clip has in the download URLs."""
    models = open_clip.list_pretrained_models_by_tag("openai")
    return {url.split("/")[-2] for model in models if (url := open_clip.get_pretrained_url(model, "openai"))}


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """Disable logging: open_clip logs each loading step to the root logger."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
