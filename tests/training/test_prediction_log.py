"""The log of class ids by epoch: what goes in comes out, whatever the number of classes."""

import numpy as np
import pytest

from unimos_pipe.training.prediction_log import PredictionLog, from_bytes


@pytest.mark.parametrize("classes", [2, 256, 257, 65536, 65537])
def test_every_class_id_comes_back(classes):
    generator = np.random.default_rng(0)
    epochs = generator.integers(0, classes, (4, 3, 20))
    epochs[1, :, 0] = classes - 1
    log = PredictionLog(classes)
    for answers in epochs[:2]:
        log.add(answers)
    resumed = PredictionLog(classes)
    resumed.set_state(log.get_state(), 20)
    for answers in epochs[2:]:
        resumed.add(answers)
    assert np.array_equal(from_bytes(resumed.to_bytes(), 4, 20, classes), epochs)


def test_ids_beyond_the_classes_and_other_counts_are_refused():
    log = PredictionLog(3)
    log.add(np.array([[0, 1], [2, 2], [3, 0]]))
    with pytest.raises(ValueError, match="epochs or classes"):
        from_bytes(log.to_bytes(), 1, 2, 3)
    for epochs, rows in ((2, 2), (1, 3)):
        with pytest.raises(ValueError, match=r"another number of rows or epochs|cannot be read"):
            from_bytes(log.to_bytes(), epochs, rows, 4)
