"""Names of features: data set, encoder, prompts and cache folder."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import InputError, suggestions
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, EncoderSpec, PromptSpec
from unimos_pipe.cache.cache_paths import (
    ENCODER_FOLDER,
    default_cache,
    encoder_folders,
    find_encoder_folder,
    only_encoder_folder,
)
from unimos_pipe.cache.encoder_identity import IMPORTED, is_weights_name
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec

if TYPE_CHECKING:
    from unimos_pipe.cache.store import FeatureStore

ALLOW_TORCHSCRIPT = [("--allow-torchscript",)]  # the command's option for an encoder with allow_torchscript


@dataclass(frozen=True)
class FeatureSet:
    """Features that stage one writes and stage two reads. Use :func:`feature_set` to create one from names."""

    dataset: DatasetSpec
    encoder: EncoderSpec
    templates: tuple[str, ...]
    cache: Path
    command: str  # that makes them, for messages; without its domains
    encoder_id: str | None = None  # the cache folder's name, where several fit
    encoder_given: bool = True  # False: any encoder will do if the cache has one only

    def folder(self) -> Path:
        """Return the cache folder. Neither images nor weights are needed.

        If no encoder was given and the data set has features of one encoder only, that folder is returned.

        Raises:
            InputError: none is there, or several.
        """
        wanted = self.cache, self.dataset.name, self.encoder.precision
        only = None if self.encoder_given or self.encoder_id else only_encoder_folder(*wanted)
        if only:
            return only
        command = f"{self.command} --all"
        return find_encoder_folder(self.cache, self.dataset.name, self.encoder, self.encoder_id, command)

    def store(self) -> "FeatureStore":
        """Return the store that reads the features. Raises what :meth:`folder` raises."""
        from unimos_pipe.cache.store import FeatureStore  # h5py takes a while

        folder = self.folder()
        return FeatureStore(self.dataset, folder, import_command_line(folder.name, self.command))

    def missing_domains(self, domains: Sequence[str]) -> list[str]:
        """The domains whose images or prompts are not in the cache, or not whole.

        Raises:
            InputError: several folders fit.
        """
        if not self.encoder_id and not encoder_folders(self.cache, self.dataset.name, self.encoder):
            return list(domains)
        store = self.store()
        missing = []
        for name in domains:
            try:
                store.text(name, self.templates, store.domain(*self.dataset.parts(name)).encoder)
            except InputError:  # stage one says what is wrong with a shard, where it cannot mend it
                missing.append(name)
        return missing


def feature_set(
    dataset: str = "icons",
    *,
    encoder: str | EncoderSpec | None = None,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    words: Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    encoder_id: str | None = None,
) -> FeatureSet:
    """Return a :class:`FeatureSet`, whether the features exist yet or not.

    Args:
        dataset: a known data set's name, or the path of a spec file.
        encoder: a preset's name, or a spec; None takes the data set's.
        templates: prompts with ``{domain}`` and ``{class}``; several are averaged.
        words: replacement words for domains in the prompts, by domain.
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        encoder_id: the cache folder's name, if several match.
    Raises:
        InputError: unknown names, or an invalid spec file or template.
    """
    spec = load_spec(dataset).with_words(words or {})
    encoder_spec = encoder if isinstance(encoder, EncoderSpec) else find_preset(encoder or spec.encoder)
    options = [("--encoder", encoder)] if isinstance(encoder, str) else []
    if isinstance(encoder, EncoderSpec):
        options = [("--model", encoder.model)]
        options += [] if is_weights_name(encoder.model) else [("--pretrained", encoder.pretrained)]
    options += [("--encoder-precision", encoder_spec.precision)] if encoder_spec.precision != "auto" else []
    options += ALLOW_TORCHSCRIPT if encoder_spec.allow_torchscript else []
    options += [("--template", text) for text in templates if tuple(templates) != (DEFAULT_TEMPLATE,)]
    options += [("--domain-word", f"{domain}={word}") for domain, word in (words or {}).items()]
    return FeatureSet(
        spec,
        encoder_spec,
        parse_dataclass(PromptSpec, {"templates": tuple(templates)}, "templates").templates,
        Path(cache) if cache else default_cache(),
        extract_command_line(dataset, options),
        encoder_id,
        encoder_given=encoder is not None,
    )


def find_preset(name: str) -> EncoderSpec:
    """Return the encoder of a preset. Raises InputError with the list of presets."""
    if name not in ENCODERS:
        raise InputError(f"unknown encoder {name!r}; {suggestions(name, ENCODERS)}; others as an EncoderSpec")
    return ENCODERS[name]


def with_weights(encoder: EncoderSpec, pretrained: str | None, allow_torchscript: bool = False) -> EncoderSpec:
    """An encoder with other weights, a tag or a file (None keeps its own); ``trust`` opens any TorchScript archive."""
    return replace(encoder, pretrained=pretrained or encoder.pretrained, allow_torchscript=allow_torchscript)


def extract_command_line(dataset: str, options: Sequence[tuple[str, ...]] = ()) -> str:
    """The command line of stage one for a data set, without its domains."""
    return shlex.join(["unimos-pipe", "extract", "--dataset", dataset, *(part for pair in options for part in pair)])


def import_command_line(encoder_id: str, extract: str) -> str:
    """The command that makes the features of a cache folder: that of stage one, or of features made elsewhere."""
    match = ENCODER_FOLDER.fullmatch(encoder_id)
    if not match or match[1] != IMPORTED:
        return extract
    dataset = shlex.split(extract)[3]  # of extract_command_line
    return shlex.join(["unimos-pipe", "cache", "import", "FEATURES", "--dataset", dataset, "--encoder-name", "NAME"])
