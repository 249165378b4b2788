"""Inputs that people have: several folders, CSVs with absolute paths, frames, Parquet, Hugging Face folders, tars."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return path


def labels_of(spec: DatasetSpec, domain: str) -> dict[str, int]:
    found = build_manifest(spec, domain, spec.base)
    assert found.notes == ()
    return dict(zip(found.paths, found.labels.tolist(), strict=True))


def test_several_folders_are_one_domain(tmp_path):
    for number, name in enumerate(("old/cup/1.png", "old/fork/1.png", "new/cup/1.png", "films/cup/x.png")):
        save(tmp_path / "shop" / name, number)
    for number, name in enumerate(("2023/a.png", "2024/b.png", "2024/deep/c.png")):
        save(tmp_path / "phone" / name, 10 + number)
    folders = [f"shop={tmp_path}/shop/{name}" for name in ("old", "new")]
    folders += [f"phone={tmp_path}/phone/{name}:none" for name in ("2023", "2024")]
    unimos_pipe.create_dataset_spec(folders, tmp_path / "my.toml")
    spec = load_spec(str(tmp_path / "my.toml"))
    assert spec.domain("shop").search == ("old", "new") and spec.domain("shop").root == "shop"
    assert labels_of(spec, "shop") == {"old/cup/1.png": 0, "old/fork/1.png": 1, "new/cup/1.png": 0}
    assert labels_of(spec, "phone") == {"2023/a.png": -1, "2024/b.png": -1, "2024/deep/c.png": -1}
    save(tmp_path / "shop" / "new" / "spoon" / "1.png", 20)
    (tmp_path / "shop" / "old" / "fork").rename(tmp_path / "shop" / "new" / "fork")
    save(tmp_path / "phone" / "2025" / "d.png", 21)  # no folder of the domain
    updates = {update.domain: update for update in unimos_pipe.update_dataset_spec(tmp_path / "my.toml").domains}
    assert updates["shop"].added == ("new/spoon/1.png",) and updates["phone"].is_empty
    assert updates["shop"].moved == (("old/fork/1.png", "new/fork/1.png"),)
    assert load_spec(str(tmp_path / "my.toml")).classes == ("cup", "fork", "spoon")
    with pytest.raises(InputError, match="the folders of shop take their labels from different sources: expected one"):
        unimos_pipe.create_dataset_spec([folders[0], f"{folders[1]}:none"], tmp_path / "other.toml")


def test_absolute_paths_inside_are_relative_and_outside_need_leave(tmp_path):
    inside = save(tmp_path / "a" / "images" / "1.png", 1)
    outside = save(tmp_path / "b" / "2.png", 2)
    table = tmp_path / "labels.csv"
    domain = f"x={tmp_path}/a/images:{table}"
    table.write_text(f"file,label\n{inside},cup\n{outside},fork\n")
    with pytest.raises(InputError) as caught:
        unimos_pipe.create_dataset_spec([domain], tmp_path / "my.toml")
    assert str(caught.value) == (
        f"{table}: 1 image(s) outside of {tmp_path}/a/images: {outside}. If this is meant, add allow_outside=True"
    )
    spec = unimos_pipe.create_dataset_spec([domain], tmp_path / "my.toml", allow_outside=True)
    assert labels_of(spec, "x") == {"a/images/1.png": 0, "b/2.png": 1}
    save(tmp_path / "a" / "images" / "3.png", 3)
    save(tmp_path / "b" / "4.png", 4)  # not asked for
    (update,) = unimos_pipe.update_dataset_spec(tmp_path / "my.toml").domains
    assert update.added == ("a/images/3.png",) and update.removed == ()
    with (tmp_path / "my.x.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["cup", "fork", ""]


def test_a_frame_has_the_features_of_its_folder(tmp_path, miniature):
    pandas = pytest.importorskip("pandas")
    cache = tmp_path / "cache"
    files = sorted(miniature.root.rglob("*.png"))
    frame = pandas.DataFrame({
        "file": [str(file) for file in files],
        "kind": [file.parent.name if "dark" in file.parts else None for file in files],
        "camera": [file.parts[-3] for file in files],
    })  # fmt: skip
    features = unimos_pipe.feature_set(frame, path="file", label="kind", domain="camera", encoder="tiny", cache=cache)
    options = unimos_pipe.ExtractOptions(workers=0)
    extra = save(miniature.root / "dark" / "circle" / "not listed.png", 1)
    result = unimos_pipe.extract_features(features, options=options)
    extra.unlink()
    assert result.warnings == ()
    assert [(report.domain, report.encoded) for report in result.reports] == [("dark", 24), ("light", 24)]
    ours = {name: result.features.store().domain(name) for name in ("dark", "light")}
    assert ours["light"].labels.tolist() == [-1] * 24 and set(ours["dark"].labels.tolist()) == {0, 1, 2}
    assert features_by_name(ours) == folder_features(miniature, cache)
    again = unimos_pipe.feature_set(frame, path="file", label="kind", domain="camera", encoder="tiny", cache=cache)
    assert again.dataset == features.dataset
    with pytest.raises(InputError, match=r"^path: no column 'fil'; did you mean file\? known: file, kind, camera$"):
        unimos_pipe.extract_features(frame, path="fil")
    frame.loc[0, "file"] = "/no/such.png"
    with pytest.raises(InputError, match=r"1 image\(s\) missing in /, broken links, or no files: no/such\.png$"):
        unimos_pipe.extract_features(frame, path="file", label="kind", domain="camera")


def features_by_name(domains) -> dict[str, bytes]:
    """Features of each image by its domain, class folder and file name."""
    return {
        "/".join((name, *Path(path).parts[-2:])): row.tobytes()
        for name, domain in domains.items()
        for path, row in zip(domain.paths, domain.features, strict=True)
    }


def folder_features(miniature, cache: Path) -> dict[str, bytes]:
    features = unimos_pipe.feature_set(str(miniature.spec), cache=cache)
    result = unimos_pipe.extract_features(features, root=miniature.root, options=unimos_pipe.ExtractOptions(workers=0))
    return features_by_name({name: result.features.store().domain(name) for name in ("dark", "light")})


def hugging_face_table(files: list[Path]):
    """Rows of image bytes and class numbers, with the description that the datasets library writes."""
    pyarrow = pytest.importorskip("pyarrow")
    names = ["circle", "square", "bar"]
    features = {"image": {"_type": "Image"}, "kind": {"names": names, "_type": "ClassLabel"}}
    rows = {
        "kind": [names.index(file.parent.name) for file in files],
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
    }
    return pyarrow.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_sources(files: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The same images as tar shards of WebDataset, as Parquet, and as a Hugging Face data set on disk."""
    pyarrow = pytest.importorskip("pyarrow")
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as tar:
            for number, file in enumerate(files[shard::2]):
                for suffix, content in (("cls", file.parent.name.encode()), ("png", file.read_bytes())):
                    member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    table = hugging_face_table(files)
    pyarrow_parquet.write_table(table, folder / "all.parquet", row_group_size=10)
    (folder / "saved").mkdir()
    stored = pyarrow.OSFile(str(folder / "saved" / "data-00000-of-00001.arrow"), "wb")
    with stored, pyarrow.ipc.new_stream(stored, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    (folder / "saved" / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return {
        "tars": [folder / "shard-0.tar", folder / "shard-1.tar"],
        "parquet": [folder / "all.parquet"],
        "saved": [folder / "saved"],
    }


def test_packed_images_have_the_features_of_their_folder(tmp_path, miniature, cli):
    cache = tmp_path / "cache"
    files = sorted((miniature.root / "dark").rglob("*.png"))
    wanted = sorted(feature for name, feature in folder_features(miniature, cache).items() if name.startswith("dark"))
    for kind, sources in write_sources(files, tmp_path / "packed").items():
        out = tmp_path / kind
        answer = cli("manifest", "unpack", *sources, "-o", out)
        assert answer.out == f"{out}: 24 images, 24 with a label\n", answer.err
        unpacked = {path.read_bytes() for path in out.rglob("*.png")}
        assert unpacked == {path.read_bytes() for path in files}
        spec = tmp_path / f"{kind}.toml"
        assert cli("manifest", "scan", f"--domain=x={out}:labels.csv", "-o", spec, "--encoder", "tiny").code == 0
        features = unimos_pipe.feature_set(str(spec), cache=cache)
        unimos_pipe.extract_features(features, options=unimos_pipe.ExtractOptions(workers=0))
        domain = features.store().domain("x")
        assert sorted(row.tobytes() for row in domain.features) == wanted
        assert np.bincount(domain.labels).tolist() == [8, 8, 8]


def test_what_cannot_be_unpacked_names_the_way_round(tmp_path, cli):
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError) as caught:
        unimos_pipe.unpack_images([tmp_path / "photos"], tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path}/photos: expected a file (.tar, .tgz, .tar.gz, .parquet, .arrow), or a folder of such files, got "
        "neither. A folder of image files needs no unpacking: scan it. Other archives: unpack them to a folder first"
    )
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../up.png"))
    with pytest.raises(InputError, match=r"bad\.tar: '\.\./up\.png' is too large or leaves the archive$"):
        unimos_pipe.unpack_images([tmp_path / "bad.tar"], tmp_path / "out")
    (tmp_path / "cut.tar").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match=r"cut\.tar is no whole tar archive: "):
        unimos_pipe.unpack_images([tmp_path / "cut.tar"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".unimos*"))
    scan = ("manifest", "scan", "-o", tmp_path / "my.toml", "--domain")
    assert cli(*scan, f"a={tmp_path}/bad.tar").err == (
        f"Error: --domain a={tmp_path}/bad.tar: no folder {tmp_path}/bad.tar. Unpack it to a folder first: unimos-pipe "
        f"manifest unpack {tmp_path}/bad.tar --out DIR\n"
    )
    assert cli(*scan, "a=s3://bucket/x").err.endswith("download or mount them first\n")
    assert cli(*scan, "a=photos.zip").err.endswith("Unpack the archive to a folder, and name the folder\n")
