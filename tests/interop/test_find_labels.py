"""Labels among the arrays of a file: 30 usual names, unusual ones, files of labels; and tables that are no features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from unimos_pipe.base.errors import InputError
from unimos_pipe.interop.find_arrays import ArrayChoice, read_feature_files
from unimos_pipe.interop.imported_labels import label_rows

CLASSES = ("bar", "circle", "square")
LABELS = np.array([0, 0, 1, 1, 2, 2])
FEATURES = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
NAMES = """
    labels label targets target y Y classes class class_id class_ids classId class_idx class_index label_id label_ids
    label-idx target_id targets_train categories category category_id gt ground_truth truth gnd y_true true_labels cls
    fine_labels train_labels Labels LABEL
""".split()  # noqa: SIM905


def read(path: Path, labels: Path | None = None, **choice: str) -> tuple[list[int], tuple[str, ...]]:
    """Return label ids and notes of a file."""
    rows = read_feature_files([path], choice=ArrayChoice(**choice))
    labelled = label_rows(rows, CLASSES, labels, (), "x")
    return labelled.labels.tolist(), labelled.notes


def saved(path: Path, **arrays: np.ndarray) -> Path:
    save_file(arrays, path / "x.safetensors")
    return path / "x.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_thirty_usual_names_are_read(tmp_path, name):
    found, notes = read(saved(tmp_path, features=FEATURES, **{name: LABELS}))
    assert found == LABELS.tolist()
    assert notes == ()


def test_a_usual_name_wins_over_others(tmp_path):
    found, _ = read(saved(tmp_path, features=FEATURES, label=LABELS, fold=LABELS[::-1].copy()))
    assert found == LABELS.tolist()


def test_several_arrays_are_asked_about_and_a_name_answers(tmp_path):
    path = saved(tmp_path, features=FEATURES, a=LABELS, b=LABELS[::-1].copy())
    with pytest.raises(InputError) as asked:
        read(path)
    assert str(asked.value) == (
        "x has several arrays that may be the labels, a, b; name one with label_key, or '' for no labels"
    )
    assert read(path, label_key="b") == (LABELS[::-1].tolist(), ())
    assert read(path, label_key="") == ([-1] * 6, ())
    with pytest.raises(InputError, match=r"x.safetensors has no array 'c'; it has"):
        read(path, label_key="c")


def test_numbers_that_are_no_labels_are_named(tmp_path):
    path = saved(tmp_path, features=FEATURES, image_number=np.arange(100, 106))
    assert read(path) == ([-1] * 6, ("x: no labels: the values of 'image_number' are not 0 to 2, or -1 for none",))


def test_class_names_in_an_array_of_text(tmp_path):
    np.savez(tmp_path / "x.npz", features=FEATURES, kind=np.array([CLASSES[label] for label in LABELS]))
    assert read(tmp_path / "x.npz") == (LABELS.tolist(), ("x: labels are read from the array 'kind'",))
    np.savez(tmp_path / "x.npz", features=FEATURES, kind=np.array([CLASSES[label].upper() for label in LABELS]))
    labels, notes = read(tmp_path / "x.npz")  # in another spelling
    assert labels == LABELS.tolist() and f"x: the class {CLASSES[0].upper()!r} is read as {CLASSES[0]!r}" in notes


def test_names_of_the_classes_are_no_labels(tmp_path):
    np.savez(tmp_path / "x.npz", features=FEATURES, classes=np.array(CLASSES), gt=LABELS)
    assert read(tmp_path / "x.npz") == (LABELS.tolist(), ())


def test_labels_in_a_file_of_their_own(tmp_path):
    path = saved(tmp_path, features=FEATURES)
    np.save(tmp_path / "l.npy", LABELS[:, None])
    torch.save(torch.from_numpy(LABELS), tmp_path / "tensor.pt")
    torch.save({"path_number": torch.arange(6), "label": torch.from_numpy(LABELS)}, tmp_path / "table.pt")
    for name in ("l.npy", "tensor.pt", "table.pt"):
        assert read(path, tmp_path / name) == (LABELS.tolist(), ())
    np.save(tmp_path / "l.npy", LABELS[:4])
    with pytest.raises(InputError) as refused:
        read(path, tmp_path / "l.npy")
    assert str(refused.value) == f"{tmp_path}/l.npy: expected 6 labels, one a row of x, got 4"
    torch.save({"a": torch.arange(6), "b": torch.arange(6)}, tmp_path / "two.pt")
    with pytest.raises(InputError) as refused:
        read(path, tmp_path / "two.pt")
    assert str(refused.value) == (
        f"{tmp_path}/two.pt: expected an array of n labels, named 'labels' if there are several, got a (int64 6), "
        "b (int64 6)"
    )


def test_the_wrong_axis_is_asked_about_with_both_readings(tmp_path):
    turned = np.ascontiguousarray(FEATURES[:, :8].T)  # 8 x 6
    path = saved(tmp_path, features=turned, label=LABELS)
    with pytest.raises(InputError) as asked:
        read(path)
    assert str(asked.value) == (
        f"{path}: features of shape (8, 6) is 8 images of D = 6, or 6 images of D = 8; "
        "say which with images_in='rows' or images_in='columns'"
    )
    rows = read_feature_files([path], choice=ArrayChoice(images_in="columns"))
    plain = read_feature_files([saved(tmp_path, features=FEATURES[:, :8].copy())])
    np.testing.assert_array_equal(rows.features, plain.features)


def test_the_wrong_axis_is_seen_without_labels_by_the_usual_sizes(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(512, 600)))
    with pytest.raises(InputError, match=r"of shape \(512, 600\) is 512 images of D = 600, or 600 images of D = 512;"):
        read(tmp_path / "x.npy")
    assert len(read(tmp_path / "x.npy", images_in="rows")[0]) == 512
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(512, 768)))
    assert len(read(tmp_path / "x.npy")[0]) == 512


def test_one_hot_labels_are_no_features_unless_named(tmp_path):
    path = saved(tmp_path, onehot=np.eye(10, dtype=np.float32))
    with pytest.raises(InputError) as asked:
        read(path)
    assert str(asked.value) == (
        f"{path}: onehot has 2 different values (0, 1), as labels have; if these are features, name their array as key"
    )
    assert len(read(path, key="onehot")[0]) == 10
