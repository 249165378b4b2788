"""A domain's index: what is written is read, and labels are of its classes."""

import numpy as np
import pytest

from unimos_pipe.base.errors import StaleCacheError
from unimos_pipe.cache.domain_index import DomainIndex, read_index, write_index


def index_of(labels: list[int]) -> DomainIndex:
    return DomainIndex("d", "a", ("cup", "bus"), 3, (("shard-00000.h5", "00" * 16),), np.array(labels, np.int64))


def test_an_index_is_read_as_it_was_written(tmp_path):
    write_index(tmp_path, index_of([1, 0, -1]))
    found = read_index(tmp_path)
    assert found.labels.tolist() == [1, 0, -1] and (found.class_names, found.row_total) == (("cup", "bus"), 3)
    assert found.shards == (("shard-00000.h5", "00" * 16),)


@pytest.mark.parametrize("label", [2, -2])
def test_a_label_of_no_class_is_damage(label, tmp_path):
    write_index(tmp_path, index_of([0, label, 1]))
    with pytest.raises(StaleCacheError):
        read_index(tmp_path)
