"""What may go wrong with prompts without a sound: a sentence that is cut, and two classes that read the same."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unimos_pipe.base.errors import InputError, join_names, short_repr

if TYPE_CHECKING:
    import torch

SAME = 1e-6  # squared distance of unit-norm features below which no classifier of text features tells them apart


def tokenize_checked(tokenizer: Callable, sentences: Sequence[str]) -> "torch.Tensor":
    """n sentences -> (n, context length) token ids.

    Args:
        tokenizer: one of open_clip's, with a ``context_length``; it cuts what is longer.
    Raises:
        InputError: sentences that would be cut; shows the first.
    """
    longest = tokenizer.context_length
    more = tokenizer(["", *sentences], context_length=longest + 1)
    # With room for one more token, a sentence that fits ends in padding, as the empty one does.
    long = [text for text, last in zip(sentences, more[1:, -1], strict=True) if last != more[0, -1]]
    if long:
        raise InputError(
            f"{len(long)} prompt(s) are too long for the model",
            expected=f"at most {longest} tokens",
            got=f"more in {short_repr(long[0])}",
            todo="Shorten the template, the domain's word, or the class's wording under [display] in the spec",
        )
    return tokenizer(list(sentences))


def identical_text_features(features: np.ndarray, classes: Sequence[str]) -> str | None:
    """A line about classes whose (K, D) unit-norm text features are equal, or None.

    Such classes are wordings that the tokenizer makes the same of, as it does of upper and lower case.
    """
    features = np.asarray(features, np.float32)
    distance = 2 - 2 * features @ features.T
    pairs = np.argwhere(np.triu(distance < SAME, 1)).tolist()
    if not pairs:
        return None
    named = join_names((f"{short_repr(classes[one])} and {short_repr(classes[other])}" for one, other in pairs), 4)
    return f"classes with equal text features, which no answer can tell apart: {named}; reword them under [display]"
