"""The options that name features: data set, encoder, prompts, cache; and the feature set made of them."""

from dataclasses import replace
from pathlib import Path

import click

from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, VIEWS, PromptSpec
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import SuggestingChoice
from unimos_pipe.cli.options import cache_option, encoder_spec, option_group, trust_option, unique_dict
from unimos_pipe.data.dataset_spec import load_spec


def _word(text: str) -> tuple[str, str]:
    domain, equals, word = text.partition("=")
    if not equals or not word.strip():
        raise InputError(f"--domain-word {text}", expected="DOMAIN=WORD, such as real='real world'", got=repr(text))
    return domain, word


def _features(
    dataset: str,
    encoder: str | None,
    model: str | None,
    pretrained: str | None,
    allow_torchscript: bool,
    encoder_precision: str,
    views: str | None,
    templates: tuple[str, ...],
    descriptions: Path | None,
    domain_words: tuple[str, ...],
    cache: Path | None,
    encoder_id: str | None = None,
) -> FeatureSet:
    words = unique_dict("--domain-word", map(_word, domain_words))
    spec = load_spec(dataset).with_words(words)
    chosen = encoder_spec(encoder or spec.encoder, model, pretrained, encoder_precision, allow_torchscript)
    chosen = replace(chosen, views=tuple(name.strip() for name in views.split(","))) if views else chosen
    if templates and descriptions:
        raise InputError("--template and --descriptions exclude each other")
    described = None
    if descriptions:
        from unimos_pipe.data.descriptions import read_descriptions  # it takes a while

        described = read_descriptions(descriptions, spec)
        templates = (described.template,)
    templates = templates or (DEFAULT_TEMPLATE,)
    template_list = parse_dataclass(PromptSpec, {"templates": templates}, "--template").templates
    changed = model or pretrained or allow_torchscript or views or encoder_precision != "auto"
    call = extract_call(
        dataset,
        encoder=chosen if changed else encoder,
        templates=template_list,
        descriptions=descriptions,
        words=words,
        cache=cache,
    )
    named = bool(encoder or model or pretrained or views)
    return FeatureSet(spec, chosen, template_list, cache or default_cache(), call, encoder_id, named, described)


features_options = option_group(
    "features",
    _features,
    click.option(
        "--dataset",
        default="office_home",
        show_default=True,
        metavar="NAME|FILE.toml",
        shell_complete=completion.datasets,
        help="Name of a known data set, or a spec file.",
    ),
    click.option(
        "--encoder",
        metavar="NAME",
        shell_complete=completion.encoders,
        help=f"Encoder preset: {', '.join(ENCODERS)}. Default: the data set's, or the only one with cached features.",
    ),
    click.option(
        "--model", metavar="NAME", help="open_clip model, hf-hub:OWNER/NAME or local-dir:PATH, instead of the preset's."
    ),
    click.option(
        "--pretrained", metavar="TAG|FILE", help="open_clip weights tag or a local file, instead of the preset's."
    ),
    trust_option,
    click.option(
        "--encoder-precision",
        type=SuggestingChoice(["fp32", "fp16", "bf16", "auto"]),
        default="auto",
        show_default=True,
        help="Encoder precision. auto: reuse that of cached features, otherwise fp16/bf16 if supported and features "
        "match fp32 (cosine >= 0.9995).",
    ),
    click.option(
        "--views",
        metavar="NAMES",
        help=f"Views of each image, whose features are averaged, such as center,flip. Of: {', '.join(VIEWS)}. "
        "Default: center.",
    ),
    click.option(
        "--template",
        "templates",
        multiple=True,
        metavar="TEXT",
        help=f"Prompt template, repeatable; several are averaged. Default: {DEFAULT_TEMPLATE!r}",
    ),
    click.option(
        "--descriptions",
        type=click.Path(path_type=Path),
        metavar="FILE.json",
        help='Sentences by class, {"class": ["sentence", ...]}, instead of templates; averaged by class.',
    ),
    click.option(
        "--domain-word",
        "domain_words",
        multiple=True,
        metavar="DOMAIN=WORD",
        help="Replace a domain's word in prompts; repeatable.",
    ),
    cache_option,
)
