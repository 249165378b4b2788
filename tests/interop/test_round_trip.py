"""Our own features, taken out and brought in again in every form, train to the same bytes."""

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import unimos_pipe
from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.shard import read_image_shard, read_text_shard

PAIR = ("--src", "line", "--tgt", "sketch", "--epochs", 2, "--device", "cpu")
SAME = ("metrics.jsonl", "predictions.csv", "heads.safetensors", "sample.safetensors")


@pytest.fixture(scope="module")
def exported(cli, icons_cache, tmp_path_factory) -> Path:
    """The icons' line and sketch as cache export writes them, and beside them the run on our own shards."""
    folder = tmp_path_factory.mktemp("exported")
    args = ("--dataset", "icons", "--cache", icons_cache)
    answer = cli("cache", "export", *args, "--domain", "line", "--domain", "sketch", "-o", folder / "features")
    assert (answer.code, answer.out) == (0, f"{folder / 'features'}: line 624 rows, sketch 716 rows\n")
    assert cli("adapt", *args, *PAIR, "--out", folder / "run").code == 0
    return folder


def as_npy(source: Path, domain: str, out: Path) -> list:
    return [source / f"{domain}.npy", "--labels", source / f"{domain}.csv"]


def as_safetensors(source: Path, domain: str, out: Path) -> list:
    return [source / f"{domain}.safetensors", "--paths", source / f"{domain}.csv"]


def arrays(source: Path, domain: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    classes = (source / "classes.txt").read_text().split("\n")
    rows = [line.split(",") for line in (source / f"{domain}.csv").read_text().splitlines()[1:]]
    labels = np.array([classes.index(name) for _, name in rows])
    return np.load(source / f"{domain}.npy").astype(np.float32), labels, [path for path, _ in rows]


def list_of(source: Path, domain: str, out: Path) -> Path:
    """A list file as benchmarks publish them: ``<path> <number>`` a line."""
    _, labels, paths = arrays(source, domain)
    file = out / f"{domain}.txt"
    file.write_text(
        "".join(f"/data/icons/{domain}/{path} {label}\n" for path, label in zip(paths, labels, strict=True))
    )
    return file


def as_npz(source: Path, domain: str, out: Path) -> list:
    features, labels, paths = arrays(source, domain)
    np.savez_compressed(out / f"{domain}.npz", x=features, y=labels, paths=np.array(paths), other=np.eye(3))
    return [out / f"{domain}.npz"]


def as_the_authors(source: Path, domain: str, out: Path) -> list:
    """``{"fea", "label"}``, with a list file in the same order."""
    features, labels, _ = arrays(source, domain)
    torch.save({"fea": torch.from_numpy(features), "label": torch.from_numpy(labels)}, out / f"{domain}.pt")
    return [out / f"{domain}.pt", "--paths", list_of(source, domain, out)]


def as_clip_retrieval(source: Path, domain: str, out: Path) -> list:
    """``img_emb_*.npy`` and ``metadata_*.parquet`` in folders beside each other, here two of each; labels by path."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    features, _, paths = arrays(source, domain)
    cut, files = 300, []
    for number, rows in enumerate((slice(cut), slice(cut, None))):
        for folder in ("img_emb", "metadata"):
            (out / domain / folder).mkdir(parents=True, exist_ok=True)
        files.append(out / domain / "img_emb" / f"img_emb_{number}.npy")
        np.save(files[-1], features[rows].astype(np.float16))
        table = pa.table({"image_path": [f"/data/{path}" for path in paths[rows]], "caption": paths[rows]})
        pq.write_table(table, out / domain / "metadata" / f"metadata_{number}.parquet")
    labels = out / f"{domain}.csv"
    lines = (source / f"{domain}.csv").read_text().splitlines()
    labels.write_text("\n".join([lines[0], *(f"/data/{line}" for line in reversed(lines[1:]))]).replace("/data/", ""))
    return [*files, "--labels", labels]


def as_parquet(source: Path, domain: str, out: Path) -> list:
    """A column of lists, one of paths and one of class names."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    features, labels, paths = arrays(source, domain)
    names = [(source / "classes.txt").read_text().split("\n")[label] for label in labels]
    kind = pa.list_(pa.float32()) if domain == "line" else pa.list_(pa.float32(), features.shape[1])
    column = pa.array(list(features), kind)
    pq.write_table(
        pa.table({"embedding": column, "path": paths, "class": names, "n": labels}), out / f"{domain}.parquet"
    )
    return [out / f"{domain}.parquet"]


def as_feature_bank(source: Path, domain: str, out: Path) -> list:
    """The layout in which feature banks are published, both domains in one file."""
    file = out / "bank.h5"
    if not file.exists():
        with h5py.File(file, "w") as bank:
            for name in ("line", "sketch"):
                features, labels, _ = arrays(source, name)
                bank[f"domains/{name.title()}/label"] = labels
                bank[f"domains/{name.title()}/views/clean/feature"] = features.astype(np.float64)
                bank[f"domains/{name.title()}/views/flipped/feature"] = features[::-1]
    return [file, "--key", f"domains/{domain.title()}/views/clean/feature", "--paths", source / f"{domain}.csv"]


FORMS = {name.removeprefix("as_"): form for name, form in list(globals().items()) if name.startswith("as_")}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_run_is_the_same_to_the_byte(form, cli, exported, tmp_path):
    source, cache = exported / "features", tmp_path / "cache"
    spec = tmp_path / "copy.toml"
    for domain in ("line", "sketch"):
        named = ("--dataset", spec, "--domain", domain, "--encoder-name", "a copy", "--cache", cache)
        more = ("--text", source / f"{domain}.text.npy", "--classes", source / "classes.txt")
        answer = cli("cache", "import", *form(source, domain, tmp_path), *named, *more)
        rows = {"line": 624, "sketch": 716}[domain]
        told = f"copy/{domain}: {rows} rows, D = 128, {rows} with labels, by a copy\n"
        assert (answer.code, answer.out) == (0, told), answer.err
    answer = cli("adapt", "--dataset", spec, "--cache", cache, *PAIR, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    same = [name for name in SAME if (tmp_path / "run" / name).read_bytes() == (exported / "run" / name).read_bytes()]
    assert same == list(SAME)


def test_the_header_says_what_the_file_was(cli, exported, tmp_path):
    source, cache, spec = exported / "features", tmp_path / "cache", tmp_path / "copy.toml"
    scaled = (3 * np.load(source / "line.npy").astype(np.float64)).astype(np.float32)
    np.save(tmp_path / "scaled.npy", scaled)
    args = ("--dataset", spec, "--domain", "line", "--encoder-name", "a copy", "--cache", cache)
    args = (*args, "--classes", source / "classes.txt", "--labels", source / "line.csv")
    assert cli("cache", "import", tmp_path / "scaled.npy", *args, "--text", source / "line.text.npy").code == 0
    folder = cache / "copy" / "a-copy_imported-212cdfa0"
    assert [path.name for path in (cache / "copy").iterdir()] == [folder.name]
    (path,) = shard_files(folder / "line")
    header = read_image_shard(path).header
    sha256 = hashlib.sha256((tmp_path / "scaled.npy").read_bytes()).hexdigest()
    norms = header.origin["files"][0].pop("norms")
    assert np.abs(np.array(norms) - 3).max() < 1e-2
    assert header.origin == {
        "encoder": "a copy",
        "files": [{"file": "scaled.npy", "sha256": sha256, "array": "", "dtype": "float32", "shape": [624, 128]}],
        "labels": str(source / "line.csv"),
        "classes": str(source / "classes.txt"),
    }
    (text,) = (folder / "text").glob("*.h5")
    assert read_text_shard(text).header.origin["files"][0]["file"] == "line.text.npy"
    stored = read_image_shard(path).image_features
    assert np.abs(stored.astype(np.float32) - np.load(source / "line.npy").astype(np.float32)).max() <= 2.0**-11
    with h5py.File(path) as plain:
        assert json.loads(plain.attrs["precision"]) == "imported" and plain["image_features"].shape == (624, 128)


def test_text_from_a_text_tower_and_what_else_a_model_of_them_can(cli, exported, tmp_path):
    source, cache, spec = exported / "features", tmp_path / "cache", tmp_path / "copy.toml"
    for domain in ("line", "sketch"):
        args = ("--dataset", spec, "--domain", domain, "--encoder-name", "a copy", "--cache", cache)
        args = (*args, "--classes", source / "classes.txt", "--labels", source / f"{domain}.csv")
        assert cli("cache", "import", source / f"{domain}.npy", *args, "--text-from", "tiny").code == 0
    run = tmp_path / "run"
    assert cli("adapt", "--dataset", spec, "--cache", cache, *PAIR, "--out", run).code == 0
    for name in SAME:  # the words are the same, and the text tower is
        assert (run / name).read_bytes() == (exported / "run" / name).read_bytes(), name
    pictures = Path(unimos_pipe.__file__).parents[1] / "pipelines" / "pictures"
    refused = cli("predict", "--run", run, "--images", pictures, "-o", tmp_path / "a.csv")
    assert (refused.code, refused.err) == (
        2,
        "Error: this model was trained on imported features of 'a copy', which cannot encode images here. "
        "Import their features, and predict the cached domain\n",
    )
    assert not (tmp_path / "a.csv").exists()
    by_name = ("predict", "--run", run, "--domain", "line", "--dataset", spec, "--cache", cache)
    assert cli(*by_name, "-o", tmp_path / "b.csv").out.startswith(f"{tmp_path / 'b.csv'}: 624 rows of copy/line")
    assert cli("export", "--run", run, "--out", tmp_path / "model").code == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert "predictions = model.predict_features(features)  # (n, D)" in card and "the features were imported" in card
    assert cli("cache", "verify", "--cache", cache).code == 0
    kept = cli("cache", "prune", "--yes", "--cache", cache, "--runs", tmp_path / "none")
    assert kept.out == f"nothing to remove in {cache}\n"


def test_ours_and_theirs_are_never_mixed(cli, exported, icons_cache, tmp_path):
    """In one data set they are two encoders, whatever they are called: one run reads one of them."""
    cache = tmp_path / "cache"
    shutil.copytree(icons_cache, cache)
    source = exported / "features"
    named = ("--dataset", "icons", "--cache", cache)
    args = (*named, "--domain", "line", "--encoder-name", "tinyclip-r24-64_embedded", "--labels", source / "line.csv")
    assert cli("cache", "import", source / "line.npy", *args).code == 0
    ours, theirs = "tinyclip-r24-64_embedded_fp32-*", "tinyclip-r24-64-embedded_imported-*"
    ours, theirs = (next((cache / "icons").glob(pattern)).name for pattern in (ours, theirs))
    assert cli("adapt", *named, *PAIR, "--out", tmp_path / "run").code == 0  # the data set's own encoder
    assert json.loads((tmp_path / "run" / "config.json").read_text())["spec"]["encoder_id"] == ours
    refused = cli("adapt", *named, *PAIR, "--encoder-id", theirs, "--out", tmp_path / "other")
    assert (refused.code, refused.err) == (
        2,
        f"Error: shards of icons/sketch are missing in {cache / 'icons' / theirs / 'sketch'}: expected all of them, "
        "got none. Run: unimos-pipe cache import FEATURES --dataset icons --encoder-name NAME "
        f"--cache {cache} --domain sketch\n",
    )


def test_one_encoder_needs_no_name_and_a_target_needs_text(cli, exported, tmp_path):
    source, cache, spec = exported / "features", tmp_path / "cache", tmp_path / "copy.toml"
    args = ("--dataset", spec, "--encoder-name", "a copy", "--cache", cache, "--classes", source / "classes.txt")
    unlabelled = cli("cache", "import", source / "sketch.npy", *args, "--domain", "sketch")
    assert unlabelled.out == "copy/sketch: 716 rows, D = 128, 0 with labels, by a copy\n"
    imported = cli("cache", "import", source / "line.npy", *args, "--domain", "line", "--labels", source / "line.csv")
    assert imported.code == 0
    adapt = ("adapt", "--dataset", spec, "--cache", cache, *PAIR, "--out", tmp_path / "run")
    refused = cli(*adapt)
    assert refused.err.startswith("Error: the features by 'a copy' have no text, and unimos reads text features. ")
    assert refused.err.endswith("or import text features of the classes with --text or --text-from\n")
    again = cli("cache", "import", source / "sketch.npy", *args, "--domain", "sketch", "--text-from", "tiny")
    assert again.out == "copy/sketch: 716 rows, D = 128, 0 with labels, by a copy, unchanged\n"
    answer = cli(*adapt)
    assert answer.out.startswith(
        "line -> sketch, full,epochs=2, seed 0 (transductive): 716 rows without labels predicted"
    )
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert rows[1].startswith("000,") and rows[716].startswith("715,")


def test_a_domain_is_replaced_only_by_force(cli, exported, tmp_path):
    source, cache, spec = exported / "features", tmp_path / "cache", tmp_path / "copy.toml"
    args = ("--dataset", spec, "--encoder-name", "a copy", "--cache", cache, "--classes", source / "classes.txt")
    assert cli("cache", "import", source / "line.npy", *args, "--domain", "line").code == 0
    folder = next((cache / "copy").iterdir()) / "line"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused = cli("cache", "import", source / "sketch.npy", *args, "--domain", "line")
    assert (refused.code, refused.err) == (
        2,
        f"Error: copy/line by 'a copy' is in {folder} with other rows; add --force to replace it\n",
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    forced = cli("cache", "import", source / "sketch.npy", *args, "--domain", "line", "--force")
    assert forced.out == "copy/line: 716 rows, D = 128, 0 with labels, by a copy\n"
    assert forced.err.startswith("Warning: copy/line: 716 images, 92 more than the expected 624")
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_export_did_not_make_is_left_alone(cli, icons_cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    args = ("cache", "export", "--dataset", "icons", "--cache", icons_cache, "--domain", "line", "-o")
    refused = cli(*args, tmp_path / "mine")
    assert (refused.code, refused.err) == (
        2,
        f"Error: {tmp_path / 'mine'} is not empty and not exported features that this tool made; choose another "
        "--out\n",
    )
    for _ in range(2):
        assert cli(*args, tmp_path / "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("classes.txt", "export.json", "line.csv", "line.npy", "line.safetensors", "line.text.npy")
    ]


def test_many_files_are_named_together(cli, exported, tmp_path):
    source, cache, files = exported / "features", tmp_path / "cache", []
    for number, row in enumerate(np.load(source / "line.npy")[:150]):
        files.append(tmp_path / f"{number}.npy")
        np.save(files[-1], row[None])
    named = ("--dataset", tmp_path / "many.toml", "--domain", "line", "--encoder-name", "a copy", "--cache", cache)
    answer = cli("cache", "import", *files, *named, "--classes", source / "classes.txt")
    assert answer.out == "many/line: 150 rows, D = 128, 0 with labels, by a copy\n"
    (path,) = cache.glob("many/*/line/shard-*.h5")
    sums = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    together = {"files": 150, "sha256": hashlib.sha256(sums.encode()).hexdigest()}
    assert read_image_shard(path).header.origin["files"] == [together]
