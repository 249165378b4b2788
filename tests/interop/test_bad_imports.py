"""Files that cannot be right: one line each, nothing written, nothing run."""

import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.cache import external_features
from unimos_pipe.cache.shard import write_image_shard

CLASSES = ("bar", "circle", "square")
ROWS, DIM = 6, 8
LABELS = np.array([0, 0, 1, 1, 2, 2])
NAMES = [f"{CLASSES[label]}/{row}.png" for row, label in enumerate(LABELS)]


def good(rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a list of classes and a good file of features."""
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    np.save(tmp_path / "good.npy", good())
    return tmp_path


@pytest.fixture
def bring(cli, place):
    """Import into a fresh spec and cache; faults leave neither."""

    def run(*args: object, cache: str = "cache"):
        named = ("--dataset", place / "own.toml", "--domain", "shop", "--encoder-name", "theirs")
        named = (*named, "--cache", place / cache, "--classes", place / "classes.txt")
        return cli("cache", "import", *args, *named)

    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Code:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(place):
    (place / "x.pt").write_bytes(pickle.dumps({"fea": Code(place / "ran")}))


def zipped_pickle(place):
    torch.save({"fea": torch.zeros(2, 2), "label": Code(place / "ran")}, place / "x.pt")


def objects(place):
    np.save(place / "x.npy", np.array([[Code(place / "ran")] * DIM] * ROWS, dtype=object), allow_pickle=True)


def objects_in_npz(place):
    np.savez(place / "x.npz", features=np.array([[Code(place / "ran")] * DIM] * ROWS, dtype=object))


def npy_head(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    head = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def huge_npy(place):
    (place / "x.npy").write_bytes(npy_head((1_000_000, 1024)) + bytes(100))


def huge_npz(place):
    """An archive that unpacks to 4 GB, declared by its members or by the archive."""
    with zipfile.ZipFile(place / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("f.npy", "w") as file:
        file.write(npy_head((16_384, 1024)))
        for _ in range(64):
            file.write(bytes(1 << 20))


def long_texts_npz(place):
    """250 texts of up to 100,000 letters, all of them empty: 100 MB in memory."""
    with zipfile.ZipFile(place / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("p.npy", "w") as file:
        file.write(npy_head((250,), "<U100000"))
        for _ in range(100):
            file.write(bytes(1_000_000))


def long_texts_h5(place):
    with h5py.File(place / "x.h5", "w") as file:
        file.create_dataset("path", (1_000_000,), "S1000", chunks=(1000,))


def one_long_text_pt(place):
    """One text, named a thousand times."""
    torch.save({"fea": torch.ones(ROWS, DIM), "label": ["a" * 100_000] * 1000}, place / "x.pt")


def one_long_text_parquet(place):
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000), pa.array(["a" * 100_000]))
    table = pa.table({"emb": [[1.0, 2.0]] * 10_000, "path": texts})
    pq.write_table(table, place / "x.parquet", store_schema=False)


def outside_its_file(place):
    """A tensor that claims to lie behind the file's end."""
    save_file({"features": good()}, place / "x.safetensors")
    content = (place / "x.safetensors").read_bytes()
    (place / "x.safetensors").write_bytes(content.replace(b"[0,192]", b"[0,999]"))


def huge_h5(place):
    with h5py.File(place / "x.h5", "w") as file:
        file.create_dataset("features", (1_000_000, 1024), "f4", chunks=(1, 1024))


def huge_pt(place):
    torch.save({"fea": torch.ones(1, 1).expand(1_000_000, 1024)}, place / "x.pt")


def outside_h5(place):
    np.zeros((ROWS, DIM), np.float32).tofile(place / "raw")
    with h5py.File(place / "x.h5", "w") as file:
        file.create_dataset("features", (ROWS, DIM), "f4", external=[(str(place / "raw"), 0, 192)])


def ragged_parquet(place):
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"emb": [[1.0, 2.0], [1.0]]}), place / "x.parquet")


def empty_cells_parquet(*rows: list[float | None] | None):
    def write(place):
        pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        pq.write_table(pa.table({"emb": pa.array(rows, pa.list_(pa.float32()))}), place / "x.parquet")

    return write


def torchscript(place):
    with zipfile.ZipFile(place / "x.pt", "w") as archive:
        archive.writestr("x/constants.pkl", b"")


def saved(change):
    """A file of good features with a change."""

    def write(place):
        features = good()
        change(features)
        np.save(place / "x.npy", features)

    return write


def both(place):
    np.savez(place / "x.npz", a=good(), b=good())


def wrong_order(place):
    """Labels that follow another class order than the folders in their paths."""
    np.savez(place / "x.npz", features=good(), labels=2 - LABELS, paths=np.array(NAMES))


def two_dims(place):
    np.save(place / "x.npy", good(dim=4))


def labels_file(*lines: str):
    return lambda place: (place / "l.csv").write_text("\n".join(lines) + "\n")


def paths_file(*lines: str):
    return lambda place: (place / "p.txt").write_text("\n".join(lines) + "\n")


def label_ids(*ids: int):
    return lambda place: save_file({"features": good(), "label": np.array(ids)}, place / "x.safetensors")


def contradiction(place):
    label_ids(*LABELS)(place)
    paths_file(*(f"{row}.png {int(row == 5)}" for row in range(ROWS)))(place)


def nothing(place):
    pass


BAD = {
    "a pickle with code": (
        pickled,
        "x.pt",
        "{x} is a pickle with more than tensors in it, which is not opened because a pickle can run code; where it was "
        "made, save the tensors alone: torch.save({{'fea': features, 'label': labels}}, ...)",
    ),
    "a pickle with code in torch's archive": (
        zipped_pickle,
        "x.pt",
        "{x} is a pickle with more than tensors in it, which is not opened because a pickle can run code; where it was "
        "made, save the tensors alone: torch.save({{'fea': features, 'label': labels}}, ...)",
    ),
    "TorchScript": (
        torchscript, "x.pt", "{x} is a TorchScript archive, which can run code; save the tensors alone"
    ),
    "an array of objects": (
        objects, "x.npy", "{x}: an array of Python objects, which only a pickle can hold; a pickle can run code"
    ),
    "an array of objects in an archive": (
        objects_in_npz,
        "x.npz",
        "{x}: features: an array of Python objects, which only a pickle can hold; a pickle can run code",
    ),
    "4 GB claimed by npy": (huge_npy, "x.npy", "{x}: expected 4,096,000,000 bytes of data, got 100"),
    "64 MB of zeros in npz": (
        huge_npz, "x.npz", "{x}: f claims 0.1 GB (float32 16384x1024) in a file of {size} bytes; it is not read"
    ),
    "100 MB of texts in npz": (
        long_texts_npz, "x.npz", "{x}: p claims 0.1 GB (text 250) in a file of {size} bytes; it is not read"
    ),
    "1 GB of texts in h5": (
        long_texts_h5, "x.h5", "{x}: path claims 1.0 GB (text 1000000) in a file of {size} bytes; it is not read"
    ),
    "one text a thousand times in pt": (
        one_long_text_pt, "x.pt", "{x}: label claims 0.4 GB (text 1000) in a file of {size} bytes; it is not read"
    ),
    "one text ten thousand times in parquet": (
        one_long_text_parquet,
        "x.parquet",
        "{x}: path claims 4.0 GB (10,000 texts) in a file of {size} bytes; it is not read",
    ),
    "a tensor outside its file": (
        outside_its_file, "x.safetensors", "{x} cannot be read as .safetensors: features does not lie within it"
    ),
    "4 GB claimed by h5": (
        huge_h5, "x.h5", "{x}: features claims 4.1 GB (float32 1000000x1024) in a file of {size} bytes; it is not read"
    ),
    "4 GB claimed by a view": (
        huge_pt, "x.pt", "{x}: fea claims 4.1 GB (float32 1000000x1024) in a file of {size} bytes; it is not read"
    ),
    "data in another file": (outside_h5, "x.h5", "{x} has no (n, D) array of floats: it has none"),
    "lists of two lengths": (ragged_parquet, "x.parquet", "{x}: column emb: expected lists of one length, got 2 and 1"),
    "an empty cell inside a list": (
        empty_cells_parquet([1.0, None], [1.0, 2.0]), "x.parquet", "{x}: column emb has empty cells"
    ),
    "an empty cell in the place of a list": (
        empty_cells_parquet([1.0, 2.0], None, [1.0, 2.0]), "x.parquet", "{x}: column emb has empty cells"
    ),
    "NaN": (
        saved(lambda x: x.__setitem__((3, 1), np.nan)),
        "x.npy",
        "{x}: row 3 (counted from 0) has values that are not finite",
    ),
    "zeros": (
        saved(lambda x: x.__setitem__(4, 0)), "x.npy", "{x}: row 4 (counted from 0) is zero, which has no direction"
    ),
    "whole numbers": (
        lambda place: np.save(place / "x.npy", good().astype(np.int32)),
        "x.npy",
        "{x} has no (n, D) array of floats: it has int32 6x8",
    ),
    "one dimension": (
        lambda place: np.save(place / "x.npy", good()[0]),
        "x.npy",
        "{x} has no (n, D) array of floats: it has float32 8",
    ),
    "no rows": (
        lambda place: np.save(place / "x.npy", good()[:0]),
        "x.npy",
        "{x}: expected (n, D) floats, got float32 of shape (0, 8)",
    ),
    "two arrays": (
        both,
        "x.npz",
        "{x} has several arrays that may be the features; name one with --key: it has a (float32 6x8), b (float32 6x8)",
    ),
    "another key": (
        both, "x.npz --key c", "{x} has no array 'c'; it has a (float32 6x8), b (float32 6x8)"
    ),
    "cut short": (
        lambda place: (place / "x.npy").write_bytes((place / "good.npy").read_bytes()[:-4]),
        "x.npy",
        "{x}: expected 192 bytes of data, got 188",
    ),
    "a file of another kind": (
        lambda place: (place / "x.csv").write_text("1,2\n"),
        "x.csv",
        "{x}: expected a file that ends in .npy, .npz, .safetensors, .pt, .pth, .parquet, .h5, .hdf5, got .csv",
    ),
    "no file": (nothing, "x.npy", "{x} cannot be read: No such file or directory"),
    "files of two D": (two_dims, "good.npy x.npy", "{x}: expected D = 8, as {place}/good.npy, got D = 4"),
    "too few labels": (
        labels_file("class", "bar", "circle"),
        "good.npy --labels l.csv",
        "{place}/l.csv: expected 6 labels, one a row of {place}/good.npy, got 2",
    ),
    "no classes": (
        labels_file("a.png", "b.png"),
        "good.npy --labels l.csv",
        "{place}/l.csv has no classes: expected a head line path,class, or class alone",
    ),
    "another class": (
        labels_file("class", *["oval"] * ROWS),
        "good.npy --labels l.csv",
        "{place}/l.csv: classes that are not in the spec, so that no prompt names them: oval. Add them to the spec's "
        "class "
        "list, or take their rows out",
    ),
    "a label beyond the classes": (
        label_ids(1, 1, 2, 2, 3, 3),
        "x.safetensors",
        "{x}: labels: expected 0 to 2, or -1 for none, got 3",
    ),
    "too few labels inside": (
        lambda place: save_file({"features": good(), "label": LABELS[:4]}, place / "x.safetensors"),
        "x.safetensors",
        "{x}: label: expected 6 labels, one a row, got 4",
    ),
    "another class order": (
        wrong_order,
        "x.npz",
        "{x}: row 0 (counted from 0), 'bar/0.png': expected the label of 'bar', got 2, 'square'. Its labels follow "
        "another class order, or its rows another order than the paths",
    ),
    "too few paths": (
        paths_file(*NAMES[:5]),
        "good.npy --paths p.txt",
        "{place}/p.txt: expected 6 paths, one a row of {place}/good.npy, got 5",
    ),
    "paths named twice": (
        paths_file("a", "b", "c", "a", "d", "e"),
        "good.npy --paths p.txt",
        "{place}/p.txt: 1 path(s) that occur twice: 'a'",
    ),
    "paths that lead out": (
        paths_file("a", "../b", "c", "d", "e", "f"),
        "good.npy --paths p.txt",
        "{place}/p.txt: 1 path(s) that are empty or leave the folder: '../b'",
    ),
    "a list that says otherwise": (
        contradiction,
        "x.safetensors --paths p.txt",
        "{place}/p.txt: row 2 (counted from 0): expected 1, 'circle', as {x}, got 0, 'bar'",
    ),
    "text of another D": (
        lambda place: np.save(place / "t.npy", good(3, 4)),
        "good.npy --text t.npy",
        "--text {place}/t.npy: expected (3 classes, D = 8), got (3, 4)",
    ),
    "text of other classes": (
        lambda place: np.save(place / "t.npy", good(2)),
        "good.npy --text t.npy",
        "--text {place}/t.npy: expected (3 classes, D = 8), got (2, 8)",
    ),
    "a tower of another D": (
        nothing, "good.npy --text-from tiny", "--text-from tinyclip-r24-64: expected (3 classes, D = 8), got (3, 128)"
    ),
    "an unknown tower": (nothing, "good.npy --text-from oak", None),
}  # fmt: skip


@pytest.mark.parametrize(("make", "args", "fault"), BAD.values(), ids=BAD)
def test_a_bad_import_is_one_line_and_nothing_is_written(make, args, fault, bring, place):
    make(place)
    before = tree(place)
    words = [place / word if "." in word else word for word in args.split()]
    answer = bring(*words)
    x = next((word for word in words if Path(word).name.startswith("x")), place)
    size = f"{x.stat().st_size:,}" if Path(x).is_file() else ""
    wanted = "unknown encoder 'oak'; known: " if fault is None else fault.format(x=x, place=place, size=size)
    assert answer.code == 2 and len(answer.err.splitlines()) == 1
    assert answer.err.startswith(f"Error: {wanted}" if fault is None else f"Error: {wanted}\n")
    assert tree(place) == before and not (place / "ran").exists()


def test_good_features_and_labels_alone_in_row_order(bring, place):
    labels_file("class", *(CLASSES[label] for label in LABELS))(place)
    answer = bring(place / "good.npy", "--labels", place / "l.csv")
    assert answer.out == "own/shop: 6 rows, D = 8, 6 with labels, by theirs\n"


def test_a_domain_of_another_width_is_refused(bring, cli, place):
    assert bring(place / "good.npy").code == 0
    two_dims(place)
    before = tree(place)
    named = (
        "--dataset",
        place / "own.toml",
        "--domain",
        "phone",
        "--encoder-name",
        "theirs",
        "--cache",
        place / "cache",
    )
    refused = cli("cache", "import", place / "x.npy", *named, "--classes", place / "classes.txt")
    assert refused.err == (
        "Error: own/phone by 'theirs': expected D = 8, as shop has by this encoder, got D = 4. "
        "Features of another encoder need another --encoder-name\n"
    )
    assert tree(place) == before


def test_the_spec_grows_by_a_domain_and_nothing_else_in_it_changes(bring, cli, place):
    assert bring(place / "good.npy").code == 0
    spec = place / "own.toml"
    text = spec.read_text().replace('word = "shop"', 'word = "web shop"  # mine')
    spec.write_text(text)
    named = ("--dataset", spec, "--encoder-name", "theirs", "--cache", place / "cache")
    args = ("cache", "import", place / "good.npy", *named, "--classes", place / "classes.txt")
    assert cli(*args, "--domain", "my_phone").code == 0
    assert spec.read_text() == f'{text}\n[domains.my_phone]\nword = "my phone"\nimages = 6\n'
    (place / "classes.txt").write_text("bar\nsquare\ncircle\n")
    refused = cli(*args, "--domain", "other")
    assert refused.err == (
        f"Error: --classes {place / 'classes.txt'} does not have the classes of own: number 2: expected 'circle', "
        "got 'square'\n"
    )
    (place / "classes.txt").write_text("\n".join(CLASSES))
    spec.write_text(f'name = "own"\nclasses = {list(CLASSES)}\ndomains = {{ shop = {{}} }}\n')
    before = tree(place)
    refused = cli(*args, "--domain", "other")
    assert refused.err.startswith(f"Error: {spec}: [domains.other] cannot stand at its end (Cannot ")
    assert tree(place) == before


def test_published_counts_and_class_folders_are_checked(cli, place, tmp_path):
    """Office-Home's own list numbers its classes differently from the spec: bound by name, and said."""
    features = good(4)
    np.save(place / "art.npy", features)
    (place / "art.txt").write_text("".join(f"/x/Art/{name}/1.jpg {n}\n" for n, name in enumerate(("Bed", "Bike"))) * 2)
    lines = (place / "art.txt").read_text().splitlines()
    lines[2:] = [line.replace("1.jpg", "2.jpg") for line in lines[2:]]
    (place / "art.txt").write_text("\n".join(lines))
    named = ("--dataset", "office_home", "--domain", "art", "--encoder-name", "RN50", "--cache", place / "cache")
    args = ("cache", "import", place / "art.npy", *named, "--paths", place / "art.txt")
    refused = cli(*args, "--strict-counts")
    assert refused.code == 2 and refused.err.startswith("Error: --strict-counts: office_home/art: 4 images, 2423 fewer")
    answer = cli(*args)
    assert answer.out == "office_home/art: 4 rows, D = 8, 4 with labels, by RN50\n"
    notes = answer.err.splitlines()
    assert (
        notes[0]
        == f"Warning: {place / 'art.txt'}: numbers 2 classes differently from the spec (Bed, Bike); bound by name"
    )
    assert notes[1].startswith("Warning: office_home/art: 4 images, 2423 fewer than the expected 2427")


def test_a_full_disk_leaves_the_old_domain(bring, place, monkeypatch):
    """Whatever fails while shards are written, the domain is the one it was."""
    assert bring(place / "good.npy").code == 0
    np.save(place / "x.npy", good(5000))
    before, written = tree(place), []

    def full(*args):
        if written:
            raise ExecutionError("no space left")
        written.append(args)
        write_image_shard(*args)

    monkeypatch.setattr(external_features, "write_image_shard", full)
    answer = bring(place / "x.npy", "--force")
    assert (answer.code, answer.err) == (1, "Error: no space left\n")
    assert {name: tree(place)[name] for name in before} == before
    monkeypatch.undo()
    assert bring(place / "x.npy", "--force").code == 0
    assert len(list(place.glob("cache/own/*/shop/*"))) == 3
