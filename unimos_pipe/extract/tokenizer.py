"""Tokenizers of encoders."""

from collections.abc import Callable, Mapping
from typing import Any

import open_clip

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.extract.weights import quiet_logging


def load_tokenizer(model: str, text_config: Mapping[str, Any]) -> Callable:
    """Return the model's tokenizer: a function from n sentences to (n, context length) token ids.

    CLIP's and SigLIP's tokenizers lower-case the text; SigLIP's also drop punctuation.

    Args:
        text_config: the ``text_cfg`` of the model's configuration.
    Raises:
        InputError: a hub tokenizer that cannot be downloaded or lacks its Python package.
    """
    source = text_config.get("hf_tokenizer_name")
    if source:
        require_extra(f"the tokenizer of {model}", "siglip")
    with quiet_logging():
        try:
            return open_clip.get_tokenizer(model)
        except Exception as error:  # the hub's and the tokenizer's libraries raise many types
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"the tokenizer {source or ''} of {model} cannot be loaded ({reason}). Connect to the network once; "
                "the hub's cache keeps it"
            ) from None
