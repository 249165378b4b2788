"""A model's own way with text: CLIP's tokenizer, or one of the hub's that lower-cases and pads as it was trained."""

from collections.abc import Callable, Mapping
from typing import Any

import open_clip

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.extract.weights import quiet_logging


def load_tokenizer(model: str, text_config: Mapping[str, Any]) -> Callable:
    """n sentences -> (n, context length) token numbers, as open_clip's configuration of the model says.

    CLIP's own tokenizer and those of SigLIP's kin lower-case the text; the latter drop punctuation, too.

    Args:
        text: the ``text_cfg`` of the model's configuration.
    Raises:
        InputError: a tokenizer of the hub without the package that reads it, or out of reach.
    """
    source = text_config.get("hf_tokenizer_name")
    if source:
        require_extra(f"the tokenizer of {model}", "siglip")
    with quiet_logging():
        try:
            return open_clip.get_tokenizer(model)
        except Exception as error:  # as various as the hub's and the tokenizer's own libraries
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"the tokenizer {source or ''} of {model} cannot be loaded ({reason}). Connect to the network once; it "
                "stays in the hub's cache"
            ) from None
