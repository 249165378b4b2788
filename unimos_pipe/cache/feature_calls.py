"""The calls that make features, for messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import Call
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, EncoderSpec
from unimos_pipe.cache.cache_paths import ENCODER_FOLDER, default_cache
from unimos_pipe.cache.encoder_identity import IMPORTED


def extract_call(
    dataset: str,
    *,
    encoder: str | EncoderSpec | None = None,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    descriptions: str | Path | None = None,
    words: Mapping[str, str] | None = None,
    cache: Path | None = None,
) -> Call:
    """Return the call of stage one for a data set, without its domains; defaults are left out."""
    arguments: dict[str, Any] = {"dataset": dataset}
    arguments |= {"encoder": encoder} if encoder else {}
    if descriptions:
        arguments["descriptions"] = descriptions
    elif tuple(templates) != (DEFAULT_TEMPLATE,):
        arguments["templates"] = tuple(templates)
    arguments |= {"words": dict(words)} if words else {}
    arguments |= {"cache": cache} if cache and cache != default_cache() else {}
    return Call("extract_features", {"features": Call("feature_set", arguments)})


def import_or_extract_call(encoder_id: str, extract: Call) -> Call:
    """Return the call that makes the features of a cache folder: stage one, or an import of external features."""
    match = ENCODER_FOLDER.fullmatch(encoder_id)
    if not match or match[1] != IMPORTED:
        return extract
    features = extract.arguments["features"].arguments
    cache = {"cache": features["cache"]} if "cache" in features else {}
    return Call(
        "import_features", {"files": "FEATURES", "dataset": features["dataset"], "encoder_name": "NAME"} | cache
    )


def domain_call(call: Call, domain: str, *, force: bool) -> Call:
    """Return the call of :func:`extract_call` or :func:`import_or_extract_call` for one domain."""
    imported = call.function == "import_features"
    chosen = call.replace(**({"domain": domain} if imported else {"domains": [domain]}))
    options = Call("ImportOptions" if imported else "ExtractOptions", {"force": True})
    return chosen.replace(options=options) if force else chosen
