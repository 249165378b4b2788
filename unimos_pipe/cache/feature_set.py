"""Names of features: data set, encoder, prompts and cache folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.encoder_presets import find_encoder
from unimos_pipe.base.errors import Call, InputError
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, EncoderSpec, PromptSpec
from unimos_pipe.cache.cache_paths import (
    default_cache,
    encoder_folders,
    find_encoder_folder,
    only_encoder_folder,
)
from unimos_pipe.cache.feature_calls import extract_call, import_or_extract_call
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec

if TYPE_CHECKING:
    from unimos_pipe.cache.store import FeatureStore
    from unimos_pipe.data.descriptions import Descriptions
    from unimos_pipe.data.frame_dataset import Frame


@dataclass(frozen=True)
class FeatureSet:
    """Features that stage one writes and stage two reads. Use :func:`feature_set` to create one from names."""

    dataset: DatasetSpec
    encoder: EncoderSpec
    templates: tuple[str, ...]
    cache: Path
    call: Call  # that makes them, for messages; without domains
    encoder_id: str | None = None  # the cache folder's name, where several fit
    encoder_given: bool = True  # False: any encoder will do if the cache has one only
    descriptions: "Descriptions | None" = None  # the sentences that the only template stands for, where they are known

    def folder(self) -> Path:
        """Return the cache folder. Neither images nor weights are needed.

        If no encoder was given and the data set has features of one encoder only, that folder is returned.

        Raises:
            InputError: none is there, or several.
        """
        wanted = self.cache, self.dataset.cache_name, self.encoder.precision
        only = None if self.encoder_given or self.encoder_id else only_encoder_folder(*wanted)
        if only:
            return only
        return find_encoder_folder(self.cache, self.dataset.cache_name, self.encoder, self.encoder_id, self.call)

    def store(self) -> "FeatureStore":
        """Return the store that reads the features. Raises what :meth:`folder` raises."""
        from unimos_pipe.cache.store import FeatureStore  # h5py takes a while

        folder = self.folder()
        return FeatureStore(self.dataset, folder, import_or_extract_call(folder.name, self.call))

    def missing_domains(self, domains: Sequence[str]) -> list[str]:
        """The domains whose images or prompts are not in the cache, or not whole.

        Raises:
            InputError: several folders fit.
        """
        if not self.encoder_id and not encoder_folders(self.cache, self.dataset.cache_name, self.encoder):
            return list(domains)
        store = self.store()
        missing = []
        for name in domains:
            try:
                encoder = store.domain(*self.dataset.parts(name)).encoder
                if store.has_text(encoder):
                    store.text(name, self.templates, encoder)
            except InputError:  # stage one says what is wrong with a shard, where it cannot mend it
                missing.append(name)
        return missing


def feature_set(
    dataset: "str | Frame" = "icons",
    *,
    path: str = "path",
    label: str | None = None,
    domain: str | None = None,
    encoder: str | EncoderSpec | None = None,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    descriptions: str | Path | None = None,
    words: Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    encoder_id: str | None = None,
) -> FeatureSet:
    """Return a :class:`FeatureSet`, whether the features exist yet or not.

    Args:
        dataset: a known data set's name, the path of a spec file, or a table with named columns and a row for each
            image, such as a pandas DataFrame; a spec of the table is written to the cache.
        path, label, domain: columns of such a table: image files, class names, domain names
            (:func:`unimos_pipe.data.frame_dataset.write_frame_dataset`).
        encoder: a preset's name, or a spec; None takes the data set's.
        templates: prompts with ``{domain}`` and ``{class}``; several are averaged.
        descriptions: JSON file of sentences by class, in the place of templates
            (:mod:`unimos_pipe.data.descriptions`).
        words: replacement words for domains in the prompts, by domain.
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        encoder_id: the cache folder's name, if several match.
    Raises:
        InputError: unknown names, or an invalid spec file or template.
    """
    cache = Path(cache) if cache else default_cache()
    if not isinstance(dataset, str):
        from unimos_pipe.data.frame_dataset import is_frame, write_frame_dataset  # numpy takes a while

        if not is_frame(dataset):
            raise InputError("dataset", expected="a name, a spec file or a table", got=type(dataset).__name__)
        dataset = str(write_frame_dataset(dataset, cache / "frames", path=path, label=label, domain=domain))
    spec = load_spec(dataset).with_words(words or {})
    described = None
    if descriptions:
        from unimos_pipe.data.descriptions import read_descriptions  # it takes a while

        described = read_descriptions(Path(descriptions), spec)
        templates = (described.template,)
    encoder_spec = encoder if isinstance(encoder, EncoderSpec) else find_encoder(encoder or spec.encoder)
    return FeatureSet(
        spec,
        encoder_spec,
        parse_dataclass(PromptSpec, {"templates": tuple(templates)}, "templates").templates,
        cache,
        extract_call(
            dataset, encoder=encoder, templates=templates, descriptions=descriptions, words=words, cache=cache
        ),
        encoder_id,
        encoder_given=encoder is not None,
        descriptions=described,
    )


def with_weights(encoder: EncoderSpec, pretrained: str | None, allow_torchscript: bool = False) -> EncoderSpec:
    """Return an encoder with other weights, a tag or a file; None keeps its own."""
    return replace(encoder, pretrained=pretrained or encoder.pretrained, allow_torchscript=allow_torchscript)
