"""Stage one end to end: rows, shard sizes, resuming, identities and refusals."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.tasks import TINY
from PIL import Image
from rounding import assert_within, feature_bound

import unimos_pipe
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.errors import ExecutionError, InputError, StaleCacheError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.cache_paths import shard_files, text_path
from unimos_pipe.cache.domain_index import read_index
from unimos_pipe.cache.encoder_identity import EncoderIdentity, TextIdentity, encoder_id
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.shard import read_image_shard, read_text_shard
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.build_manifest import build_manifest, find_root
from unimos_pipe.data.dataset_spec import PACKAGE, load_spec
from unimos_pipe.extract import image_loader, write_shards
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import extract_images, extract_text
from unimos_pipe.extract.weights import EMBEDDED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder(TINY, CPU)


def load(folder: Path, spec):
    """A domain as stage two loads it."""
    return FeatureStore(spec, folder.parent, extract_call("mini")).domain(folder.name)


def test_every_image_has_its_row_in_manifest_order(icons_cache):
    spec = load_spec("icons")
    folder = next((icons_cache / "icons").glob("tinyclip*"))
    with (PACKAGE / "data" / "embedded" / "icons.csv").open(encoding="utf-8") as file:
        listed = {row["path"]: int(row["label"]) for row in csv.DictReader(file)}
    total = 0
    for domain in spec.domains:
        found = load(folder / domain, spec)
        assert found.paths == build_manifest(spec, domain, find_root(spec, None, icons_cache)).paths
        assert list(found.paths) == sorted(found.paths)
        assert found.labels.tolist() == [listed[f"{domain}/{path}"] for path in found.paths]
        assert found.features.dtype == np.float16
        assert np.allclose(np.linalg.norm(found.features.astype(np.float32), axis=1), 1, atol=1e-3)
        total += len(found.paths)
    assert total == len(listed) == 2514


@pytest.mark.numerical
@pytest.mark.parametrize(("shard_size", "workers"), [(1, 0), (7, 2), (1000, 1)])
def test_features_do_not_depend_on_shard_size_or_workers(miniature, encoder, tmp_path, shard_size, workers):
    spec = load_spec(str(miniature.spec))
    manifest = build_manifest(spec, "light", miniature.root)
    plain = extract_images(manifest, encoder, tmp_path / "a", workers=0)
    other = extract_images(manifest, encoder, tmp_path / "b", workers=workers, shard_size=shard_size)
    assert (plain.encoded, other.encoded) == (24, 24)
    assert other.shards_written == {1: 24, 7: 4, 1000: 1}[shard_size]
    a, b = load(tmp_path / "a" / "light", spec), load(tmp_path / "b" / "light", spec)
    assert a.paths == b.paths == manifest.paths and (a.labels == b.labels).all()
    assert (
        np.abs(a.features.astype(np.float32) - b.features.astype(np.float32)).max() <= 2.0**-12
    )  # one float16 step below 0.5


@pytest.mark.numerical
def test_whole_domains_survive_any_shard_size(encoder, icons_cache, tmp_path):
    spec = load_spec("icons")
    manifest = build_manifest(spec, "color", find_root(spec, None, icons_cache))
    cached = load(next((icons_cache / "icons").glob("tinyclip*")) / "color", spec)
    report = extract_images(manifest, encoder, tmp_path, shard_size=7, workers=0, batch_size=7)
    found = load(tmp_path / "color", spec)
    assert report.shards_written == 81 and found.paths == cached.paths
    assert (
        np.abs(found.features.astype(np.float32) - cached.features.astype(np.float32)).max() <= 2.0**-11
    )  # a float16 step below 1


@pytest.mark.numerical
def test_float32_features_do_not_depend_on_the_batch(miniature, encoder):
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    pixels = torch.stack([encoder.preprocess(Image.open(manifest.root / path)) for path in manifest.paths])
    whole, bound = encoder.encode_images(pixels), feature_bound(encoder, pixels)
    for size in (1, 5):
        parts = torch.cat([encoder.encode_images(part) for part in pixels.split(size)])
        assert_within([parts], [whole], [bound])


def test_the_second_extraction_only_verifies(miniature, encoder, tmp_path):
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    extract_images(manifest, encoder, tmp_path, workers=0, shard_size=10)
    before = {path: path.stat().st_mtime_ns for path in shard_files(tmp_path / "light")}
    damaged = sorted(before)[1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    report = extract_images(manifest, encoder, tmp_path, workers=0, shard_size=10)
    after = {path: path.stat().st_mtime_ns for path in shard_files(tmp_path / "light")}
    assert (report.shards_reused, report.shards_written, report.encoded) == (2, 1, 10)
    assert [path for path in before if path not in after] == [damaged]
    assert all(after[path] == before[path] for path in before if path != damaged) and len(after) == 3


def test_decoders_end_before_the_last_shard_is_waited_for(miniature, encoder, tmp_path, monkeypatch):
    children, leave = [], write_shards._ShardWriter.__exit__

    def record(*arguments):
        children.append(multiprocessing.active_children())
        leave(*arguments)

    monkeypatch.setattr(write_shards._ShardWriter, "__exit__", record)
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    before = set(multiprocessing.active_children())
    extract_images(manifest, encoder, tmp_path, workers=1)
    assert set(children[0]) <= before


def test_all_domains_have_the_same_decoders_which_end_with_the_last(miniature, tmp_path, monkeypatch):
    """Three shards a domain; the second domain keeps its features in the second call, the first is encoded again."""
    plain, leave, children = image_loader.read_pixels, write_shards._ShardWriter.__exit__, []

    def read(path, *rest):
        (tmp_path / f"pid{os.getpid()}").touch()
        return plain(path, *rest)

    def record(*arguments):
        children.append(set(multiprocessing.active_children()) - before)
        leave(*arguments)

    monkeypatch.setattr(image_loader, "read_pixels", read)
    monkeypatch.setattr(write_shards._ShardWriter, "__exit__", record)
    before = set(multiprocessing.active_children())
    features = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache")
    options = unimos_pipe.ExtractOptions(workers=1, shard_size=10)
    done = unimos_pipe.extract_features(features, root=miniature.root, options=options)
    assert [report.encoded for report in done.reports] == [24, 24]
    assert len(list(tmp_path.glob("pid*"))) == 1
    # after the images of either domain, and after the empty rest of it
    assert [len(processes) for processes in children] == [1, 1, 0, 0]
    Image.new("RGB", (9, 9), (1, 2, 3)).save(miniature.root / "dark" / "circle" / "0.png")
    done = unimos_pipe.extract_features(features, root=miniature.root, options=options)
    assert [report.encoded for report in done.reports] == [1, 0]
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.slow  # the soak has a short round of it
def test_kill_and_resume_gives_the_features_of_an_undisturbed_run(tmp_path):
    """SIGKILL in the middle of a run of 81 shards; the rest is made, nothing stays behind."""
    command = [sys.executable, "-m", "unimos_pipe", "extract", "--dataset", "icons", "--domain", "color"]
    command += ["--shard-size", "7", "--workers", "1", "--cache"]
    killed, clean = tmp_path / "killed", tmp_path / "clean"
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    while len(list(killed.glob("icons/*/color/shard-*.h5"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = next(killed.glob("icons/*/color"))
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    assert 5 <= len(finished) < 81
    (folder / "shard-00080-01234567.h5.part").write_bytes(b"half a shard")
    for cache in (killed, clean):
        subprocess.run([*command, str(cache)], check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())
    assert not list(killed.rglob("*.part*"))
    spec = load_spec("icons")
    a, b = (load(next(cache.glob("icons/*/color")), spec) for cache in (killed, clean))
    assert a.paths == b.paths and np.array_equal(a.features, b.features)


@pytest.mark.parametrize("name", [entry.name for entry in fields(EncoderIdentity)])
def test_every_field_of_the_encoder_makes_another_folder(name, encoder):
    other = replace(encoder.identity, **{name: "changed"})
    assert encoder_id(TINY, other) != encoder_id(TINY, encoder.identity)


@pytest.mark.parametrize("name", [entry.name for entry in fields(EncoderIdentity)])
def test_every_field_of_an_image_shard_is_checked_before_reuse(name, miniature, encoder, tmp_path):
    """Even where the folder is the same: a shard of another identity is refused, and the message names the field."""
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    extract_images(manifest, encoder, tmp_path, workers=0)
    changed = _Renamed(encoder, replace(encoder.identity, **{name: "changed"}))
    with pytest.raises(
        StaleCacheError, match=rf"stale shard .*: {name}: expected .*, got .*. Add force=True to encode light"
    ):
        extract_images(manifest, changed, tmp_path, workers=0)
    assert extract_images(manifest, changed, tmp_path, workers=0, force=True).shards_written == 1


class _Renamed:
    """The encoder under another identity."""

    def __init__(self, encoder, identity):
        self._encoder, self.identity = encoder, identity

    def __getattr__(self, name):
        return getattr(self._encoder, name)


@pytest.mark.parametrize("name", [entry.name for entry in fields(TextIdentity)])
def test_every_field_of_a_text_shard_makes_another_key(name, encoder, tmp_path):
    identity = TextIdentity(**vars(encoder.identity), class_names=("a", "b"), prompts=(("an a", "a b"),))
    value = {"class_names": ("b", "a"), "prompts": (("an a.", "a b"),)}.get(name, "changed")
    other = replace(identity, **{name: value})
    assert fingerprint(other) != fingerprint(identity)
    if name in ("class_names", "prompts"):
        assert text_path(tmp_path, "w", other) != text_path(tmp_path, "w", identity)


@pytest.mark.parametrize(("scale", "stored"), [(None, 0.0), (33.44, 33.44)])
def test_a_models_own_temperature_is_kept_with_its_text(scale, stored, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "logit_scale", scale)
    assert extract_text("d", "line", ("cup", "bus"), ["a {domain} photo of a {class}."], encoder, tmp_path)
    (path,) = (tmp_path / "text").glob("line-*.h5")
    assert read_text_shard(path).header.logit_scale == stored


def test_class_names_and_prompts_shape_text_features(encoder, tmp_path):
    assert extract_text("d", "line", ("cup", "bus"), ["a {domain} photo of a {class}."], encoder, tmp_path)
    assert not extract_text("d", "line", ("cup", "bus"), ["a {domain} photo of a {class}."], encoder, tmp_path)
    assert extract_text("d", "line", ("bus", "cup"), ["a {domain} photo of a {class}."], encoder, tmp_path)
    assert extract_text("d", "line", ("cup", "bus"), ["{class}", "a {class}"], encoder, tmp_path)
    shards = [read_text_shard(path) for path in (tmp_path / "text").glob("line-*.h5")]
    by_prompts = {shard.header.prompts: shard.text_features for shard in shards}
    first = by_prompts[(("a line photo of a cup.", "a line photo of a bus."),)]
    assert first.dtype == np.float32 and np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    assert np.array_equal(first[::-1], by_prompts[(("a line photo of a bus.", "a line photo of a cup."),)])
    parts = [encoder.encode_texts(row) for row in (["cup", "bus"], ["a cup", "a bus"])]
    mean = torch.nn.functional.normalize((parts[0] + parts[1]) / 2, dim=-1).numpy()
    assert np.allclose(by_prompts[("cup", "bus"), ("a cup", "a bus")], mean, atol=1e-6)


def test_an_encoder_of_other_weights_or_precision_is_another_encoder(encoder, tmp_path):
    copy = tmp_path / "other.safetensors"
    shutil.copy(EMBEDDED / "tinyclip-r24-64.safetensors", copy)
    same = ClipEncoder(replace(TINY, pretrained=str(copy)), CPU)
    assert same.identity == encoder.identity  # the weights' content counts, not their name
    from safetensors.torch import load_file, save_file

    weights = load_file(copy)
    weights["logit_scale"] += 1
    save_file(weights, copy)
    changed = ClipEncoder(replace(TINY, pretrained=str(copy)), CPU)
    assert changed.identity == replace(encoder.identity, weights_sha256=changed.identity.weights_sha256)
    assert changed.identity.weights_sha256 != encoder.identity.weights_sha256
    half = ClipEncoder(replace(TINY, precision="bf16"), CPU)
    assert half.identity == replace(encoder.identity, precision="bf16")
    sentences = ["a line photo of a cup."]
    assert torch.nn.functional.cosine_similarity(half.encode_texts(sentences), encoder.encode_texts(sentences)) > 0.999


def test_bad_images_fail_the_run_after_the_good_shards_or_are_left_out(miniature, encoder, tmp_path):
    bad = miniature.root / "light" / "circle" / "3.png"
    bad.write_bytes(b"no image")
    spec = load_spec(str(miniature.spec))
    manifest = build_manifest(spec, "light", miniature.root)
    with pytest.raises(ExecutionError) as caught:
        extract_images(manifest, encoder, tmp_path, workers=0, shard_size=10)
    assert str(caught.value) == (
        f"1 unreadable image(s) in {manifest.root}: circle/3.png (not an image of a known format). "
        "The features of all others are kept; fix the files, or skip them with skip_bad=True"
    )
    assert len(shard_files(tmp_path / "light")) == 3 and read_index(tmp_path / "light") is None
    with pytest.raises(ExecutionError, match=r"^1 unreadable"):  # a shard that lacks an image is not taken for whole
        extract_images(manifest, encoder, tmp_path, workers=0, shard_size=10)
    assert len(shard_files(tmp_path / "light")) == 3
    report = extract_images(manifest, encoder, tmp_path, workers=0, shard_size=10, skip_bad=True)
    assert (report.shards_reused, report.encoded, report.reused, len(report.skipped)) == (3, 0, 23, 1)
    found = load(tmp_path / "light", spec)
    assert found.paths == tuple(path for path in manifest.paths if path != "circle/3.png")
    headers = [read_image_shard(path).header for path in shard_files(tmp_path / "light")]
    assert [path for header in headers for path, _, _ in header.skipped] == ["circle/3.png"]


def test_a_shard_of_bad_images_alone_is_no_fault(miniature, encoder, tmp_path):
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    for path in manifest.paths[10:20]:
        (manifest.root / path).write_bytes(b"")
    for encoded, reused in ((14, 0), (0, 14)):
        report = extract_images(manifest, encoder, tmp_path, workers=0, shard_size=5, skip_bad=True)
        assert (report.encoded, report.reused, len(report.skipped)) == (encoded, reused, 10)
    kept = (*manifest.paths[:10], *manifest.paths[20:])
    assert load(tmp_path / "light", load_spec(str(miniature.spec))).paths == kept
    for path in manifest.paths:
        (manifest.root / path).write_bytes(b"")
    with pytest.raises(ExecutionError, match=r"^no readable image in .*light: bar/0\.png \(an empty file\), "):
        extract_images(manifest, encoder, tmp_path / "other", workers=0, skip_bad=True)


def local_model(folder: Path) -> Path:
    """A model folder in open_clip's own layout, from the embedded encoder."""
    folder.mkdir()
    config = {"model_cfg": json.loads((EMBEDDED / "tinyclip-r24-64.json").read_text()), "preprocess_cfg": {"size": 64}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    shutil.copy(EMBEDDED / "tinyclip-r24-64.safetensors", folder / "open_clip_model.safetensors")
    return folder


def test_a_model_folder_is_an_encoder(encoder, tmp_path):
    folder = local_model(tmp_path / "model")
    spec = EncoderSpec(f"local-dir:{folder}", precision="fp32")
    found = ClipEncoder(spec, CPU)
    assert found.identity == replace(encoder.identity, model=f"local-dir:{folder}")
    assert found.encode_texts(["a cup"]).equal(encoder.encode_texts(["a cup"]))
    assert encoder_id(spec, found.identity).startswith(f"{str(folder).replace('/', '-').replace('_', '-')}_fp32-")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        ClipEncoder(spec, CPU)
    assert str(caught.value) == (
        f"model folder {folder}: expected open_clip_config.json and a weights file in it, got open_clip_config.json"
    )
    (folder / "open_clip_config.json").write_text("{}")
    local_model(tmp_path / "other")
    (tmp_path / "other" / "open_clip_config.json").write_text('{"model_cfg": {}}')
    with pytest.raises(InputError, match=r"its configuration lacks embed_dim, vision_cfg or text_cfg$"):
        ClipEncoder(EncoderSpec(f"local-dir:{tmp_path / 'other'}"), CPU)


def test_a_hub_model_out_of_reach_says_which_file_to_bring(monkeypatch):
    from unimos_pipe.extract import hub

    def unreachable(url, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "cached_weights", lambda hub_file: None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(InputError) as caught:
        ClipEncoder(EncoderSpec("hf-hub:owner/name"), CPU)
    assert str(caught.value) == (
        "weights of hf-hub:owner/name are not on this machine and cannot be downloaded (no route to host). Connect to "
        "the network once, or copy open_clip_model.safetensors from https://huggingface.co/owner/name to this machine "
        "and pass its path as pretrained"
    )
