"""Checks for silent prompt problems: truncated sentences, and classes with identical text features."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unimos_pipe.base.errors import InputError, join_names, short_repr

if TYPE_CHECKING:
    import torch

MIN_DISTANCE = 1e-6  # squared distance of unit-norm features below which they count as identical


def tokenize_checked(tokenizer: Callable, sentences: Sequence[str]) -> "torch.Tensor":
    """Return (n, context length) token ids of n sentences.

    Args:
        tokenizer: one of open_clip's, with a ``context_length``; it truncates longer sentences.
    Raises:
        InputError: sentences that would be truncated; shows the first.
    """
    context_length = tokenizer.context_length
    padded = tokenizer(["", *sentences], context_length=context_length + 1)
    # Tokenised to one more token, a sentence that fits ends in padding, as the empty one does.
    too_long = [text for text, last_token in zip(sentences, padded[1:, -1], strict=True) if last_token != padded[0, -1]]
    if too_long:
        raise InputError(
            f"{len(too_long)} prompt(s) are too long for the model",
            expected=f"at most {context_length} tokens",
            got=f"more in {short_repr(too_long[0])}",
            todo="Shorten the template, the domain word, or the class name under [display] in the spec",
        )
    return tokenizer(list(sentences))


def identical_text_features(features: np.ndarray, classes: Sequence[str]) -> str | None:
    """Return a line on classes whose (K, D) unit-norm text features are identical, or None.

    The tokenizer maps such class names to the same tokens, for instance because it ignores case.
    """
    features = np.asarray(features, np.float32)
    distance = 2 - 2 * features @ features.T
    pairs = np.argwhere(np.triu(distance < MIN_DISTANCE, 1)).tolist()
    if not pairs:
        return None
    names = join_names(
        (f"{short_repr(classes[first])} and {short_repr(classes[second])}" for first, second in pairs), 4
    )
    return f"classes with identical text features, which cannot be distinguished: {names}; rename them under [display]"
