"""Features that mean nothing are refused where they are made: not finite, not of unit norm, or all alike."""

import numpy as np
import pytest

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.cache import feature_checks, shard


def unit(rows: int, dim: int = 16) -> np.ndarray:
    features = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def digests(count: int) -> np.ndarray:
    return np.arange(16 * count, dtype=np.uint8).reshape(count, 16)


TEXTS = {
    "zero": (np.zeros((3, 16), np.float32), "are not finite or not of unit norm (3 of 3)"),
    "NaN": (np.full((3, 16), np.nan, np.float32), "are not finite or not of unit norm (3 of 3)"),
    "one infinity": (np.where(np.eye(3, 16) == 1, np.inf, unit(3)), "are not finite or not of unit norm (3 of 3)"),
    "constant": (np.repeat(unit(1), 3, 0), "are all alike (3 classes)"),
    "sound": (unit(3), None),
    "two of three alike": (unit(3)[[0, 0, 1]], None),  # a note says so: two classes may well read the same
}


@pytest.mark.parametrize("what", TEXTS)
def test_text_features_that_tell_no_classes_apart(what):
    features, fault = TEXTS[what]
    assert feature_checks.text_fault(features) == fault


def test_one_feature_for_all_images_is_a_fault_unless_they_are_few_or_equal():
    names = [f"{row}.png" for row in range(12)]
    same = np.repeat(unit(1), 12, 0).astype(np.float16)
    assert feature_checks.image_fault(same, digests(12), names) == "the encoder gives one feature for 12 images"
    assert feature_checks.image_fault(same[:8], digests(8), names) is None
    assert feature_checks.image_fault(same, np.repeat(digests(1), 12, 0), names) is None  # copies of one image
    noise = same + np.float16(0.005) * unit(12).astype(np.float16)
    assert feature_checks.image_fault(noise, digests(12), names) is None
    bad = unit(12)
    bad[5] *= 2
    assert feature_checks.image_fault(bad, digests(12), names) == (
        f"the encoder's feature of 5.png: expected unit norm, got {np.linalg.norm(bad[5])}"
    )


def test_no_shard_is_written_of_such_text(tmp_path):
    with pytest.raises(ExecutionError) as caught:
        shard.write_text_shard(tmp_path / "t.h5", None, np.zeros((3, 16), np.float32))
    assert str(caught.value) == (
        "t.h5: the text features are not finite or not of unit norm (3 of 3). "
        "Check the weights, or try precision='fp32'"
    )
    assert not list(tmp_path.iterdir())
