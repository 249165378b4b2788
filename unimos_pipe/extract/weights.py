"""The weights of an encoder: embedded, in a file, or to be downloaded; and whether they fit its model."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
from open_clip.factory import _find_checkpoint_in_dir
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from unimos_pipe.base.config import ENCODERS, EncoderSpec
from unimos_pipe.base.errors import UserError, listing
from unimos_pipe.cache.identity import EncoderIdentity, is_weights_path, names_its_weights, readable_name
from unimos_pipe.data.manifest import PACKAGE

EMBEDDED = PACKAGE / "data" / "embedded" / "tiny_clip"


def find_weights(spec: EncoderSpec) -> Path:
    """The weights file of a spec: the embedded one, a local path, a folder's, or a tag's, downloaded if need be.

    Raises:
        UserError: the path or tag does not exist, or the download failed (says which file to bring, and from where).
    """
    if spec.model.startswith("local-dir:"):
        return _folder_weights(Path(spec.model.removeprefix("local-dir:")))
    if spec.model.startswith("hf-hub:"):
        name = spec.model.removeprefix("hf-hub:")
        return _download(lambda: download_pretrained_from_hf(name), f"of {spec.model}", _hub_file(name))
    if spec.pretrained == "embedded":
        return EMBEDDED / f"{spec.model}.safetensors"
    if is_weights_path(spec.pretrained):
        path = Path(spec.pretrained)
        if not path.is_file():
            raise UserError(f"no weights file {path}; pass --pretrained a file or one of open_clip's tags")
        return path
    tag = get_pretrained_cfg(spec.model, spec.pretrained)
    if not tag:
        known = open_clip.list_pretrained_tags_by_model(spec.model)
        raise UserError(
            f"{spec.model} has no weights tag {spec.pretrained!r}; known: {listing(known, 12)}; "
            "or pass --pretrained a local file"
        )
    source = _hub_file(tag["hf_hub"]) if tag.get("hf_hub") else tag["url"]
    return _download(lambda: download_pretrained(tag), f"{spec.pretrained!r} of {spec.model}", source)


def _download(fetch: Callable[[], str], what: str, source: str) -> Path:
    """Fetch a weights file, or say where it is to be had."""
    try:
        with quiet_logging():
            return Path(fetch())
    except Exception as error:  # the hub client raises its own kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"weights {what} are not on this machine and cannot be downloaded ({reason}). Connect to the network once, "
            f"or bring {source} here and pass --pretrained its path"
        ) from None


def _hub_file(entry: str) -> str:
    """Where a person finds the weights of a hub entry, ``owner/name/`` or ``owner/name/file``."""
    owner, name, *file = entry.rstrip("/").split("/")
    return f"{file[0] if file else 'open_clip_model.safetensors'} from https://huggingface.co/{owner}/{name}"


def _folder_weights(folder: Path) -> Path:
    """The weights file that open_clip takes from a ``local-dir:`` folder. Raises UserError if there is none."""
    found = _find_checkpoint_in_dir(folder) if (folder / "open_clip_config.json").is_file() else None
    if found is None:
        raise UserError(
            f"model folder {folder}",
            expected="open_clip_config.json and a weights file in it",
            got="neither" if not folder.is_dir() else listing(sorted(path.name for path in folder.iterdir())),
        )
    return Path(found)


def recorded_spec(identity: EncoderIdentity, encoder_id: str, weights: Path | None = None) -> EncoderSpec:
    """How to load a recorded encoder: from a file, or by the preset or tag that its encoder-id names.

    Raises:
        UserError: weights that came from a file, which must be named.
    """
    if weights is not None:
        text = str(weights)
        return EncoderSpec(identity.model, text if is_weights_path(text) else f"./{text}", identity.precision)
    tags = {spec.pretrained for spec in ENCODERS.values() if spec.model == identity.model}
    tags |= set(open_clip.list_pretrained_tags_by_model(identity.model))
    for tag in sorted(tags):
        if encoder_id.startswith(readable_name(EncoderSpec(identity.model, tag)) + "_"):
            return EncoderSpec(identity.model, tag, identity.precision)
    raise UserError(
        f"the encoder {encoder_id} was loaded from a file; pass --weights that file "
        f"(sha256 {identity.weights_sha256[:12]}...)"
    )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def refuse_wrong_activation(spec: EncoderSpec, weights: Path, sha256: str, activation: str) -> None:
    """OpenAI's weights in a GELU model give wrong text features without a warning."""
    tagged = spec.pretrained == "openai" and not names_its_weights(spec.model)
    openai = tagged or "openai" in str(weights).lower() or sha256 in _openai_hashes()
    if openai and activation != "QuickGELU":
        raise UserError(
            f"{weights.name} are OpenAI's weights and need QuickGELU",
            expected=f"--model {spec.model}-quickgelu",
            got=f"--model {spec.model}, which builds {activation} and would corrupt the text features",
        )


def _openai_hashes() -> set[str]:
    """sha256 of OpenAI's published files, which open_clip carries as a component of each download address."""
    configs = (get_pretrained_cfg(model, "openai") for model in open_clip.list_pretrained_models_by_tag("openai"))
    return {config["url"].split("/")[-2] for config in configs if config.get("url")}


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """open_clip logs each loading step to the root logger; what matters of it is raised or recorded here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
