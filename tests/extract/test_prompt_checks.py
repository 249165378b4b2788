"""Truncated prompts are errors; classes with identical text features give a warning."""

import numpy as np
import open_clip
import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.extract.prompt_checks import identical_text_features, tokenize_checked


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.get_tokenizer("RN50")  # 77 tokens, two of them for start and end


def test_a_sentence_that_just_fits_and_one_that_does_not(tokenizer):
    fits, long = " ".join(["cat"] * 75), " ".join(["cat"] * 76)
    assert tokenize_checked(tokenizer, ["a", fits]).tolist() == tokenizer(["a", fits]).tolist()
    with pytest.raises(InputError) as caught:
        tokenize_checked(tokenizer, ["a", long, f"{long} cat"])
    assert str(caught.value) == (
        f"2 prompt(s) are too long for the model: expected at most 77 tokens, got more in '{long[:299]} and so on. "
        "Shorten the template, the domain word, or the class name under [display] in the spec"
    )


def test_classes_of_equal_features_are_named():
    features = np.eye(4, dtype=np.float32)[[0, 1, 0, 2]]
    assert identical_text_features(features, ("TV", "cat", "tv", "dog")) == (
        "classes with identical text features, which cannot be distinguished: 'TV' and 'tv'; rename them under "
        "[display]"
    )
    assert identical_text_features(features[:2], ("TV", "cat")) is None


def test_extract_says_both(cli, miniature, tmp_path):
    args = ("extract", *miniature.args(tmp_path / "cache"), "--all", "--data-root", miniature.root)
    answer = cli(*args, "--domain-word", f"dark={'very ' * 80}")
    assert answer.code == 2
    assert answer.err.startswith("Error: 3 prompt(s) are too long for the model: expected at most 16 tokens, got more")
    text = miniature.spec.read_text().replace("[domains]", '[display]\ncircle = "ring"\nbar = "Ring"\n[domains]')
    miniature.spec.write_text(text)
    for _ in range(2):  # encoded, and kept
        answer = cli(*args)
        assert answer.code == 0
        assert [line for line in answer.err.splitlines() if line.startswith("Warning")] == [
            "Warning: classes with identical text features, which cannot be distinguished: 'circle' and 'bar'; "
            "rename them under [display]"
        ]  # once for both domains
