"""What may go wrong around stage one, and what then happens: rows of the table in unimos_pipe/GUARANTEES.md."""

import ast
import ctypes
import errno
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.images import draw
from factories.tasks import TINY

from unimos_pipe.base.errors import ExecutionError, InputError, StaleCacheError
from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import PACKAGE, load_spec
from unimos_pipe.extract import image_loader
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import extract_images

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder(TINY, CPU)


@pytest.fixture
def light(miniature):
    return build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)


def load(cache: Path, miniature, name: str = "light"):
    return FeatureStore(load_spec(str(miniature.spec)), cache, extract_call("mini")).domain(name)


def started(*args: object, shards: Path | None = None, **options) -> subprocess.Popen:
    """``unimos-pipe`` as a process, once its first shards are written (below ``shards``)."""
    command = [sys.executable, "-m", "unimos_pipe", *(str(arg) for arg in args)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        **options,
    )
    while shards is not None and len(list(shards.glob("*/*/*/shard-*.h5"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGINT, "Interrupted", 130), (signal.SIGTERM, "Terminated", 143)]
)
def test_a_signal_ends_stage_one_in_order(tmp_path, number, word, code):
    command = ["extract", "--dataset", "icons", "--domain", "color", "--shard-size", 7, "--cache", tmp_path]
    process = started(*command, shards=tmp_path)
    process.send_signal(number)
    errors = process.communicate()[1]
    assert process.returncode == code
    assert errors.splitlines()[-1] == (f"{word}. Finished shards and runs are kept; the same command resumes.")
    assert "Traceback" not in errors
    folder = next(tmp_path.glob("icons/*/color"))
    assert {path.suffix for path in folder.iterdir()} == {".h5"}  # the shard in hand is finished or dropped
    for path in shard_files(folder):
        images_in(path)


def images_in(path: Path) -> int:
    from unimos_pipe.cache.shard import read_image_shard

    return len(read_image_shard(path).paths)


def test_a_full_disk_is_one_line_and_the_shards_before_it_stay(cli, miniature, tmp_path):
    """The kernel refuses files above a size; the second shard, with its longer paths, does not fit."""
    long = miniature.root / "light" / "square"
    draw(long / f"{'x' * 200}.png", 1, np.random.default_rng(1), False)
    command = ["extract", *miniature.args(tmp_path), "--data-root", miniature.root, "--domain", "light"]
    command += ["--workers", 0, "--shard-size", 23]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        answer = cli(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = next((tmp_path / "mini").glob("*")) / "light"
    assert answer.code == 1
    assert re.fullmatch(
        rf"Error: cannot write {folder}/shard-00000-[0-9a-f]{{8}}\.h5: File too large\. Finished shards are kept; free "
        "disk space and run it again",
        answer.err.splitlines()[-1],
    )
    assert not folder.exists()
    assert cli(*command).code == 0
    assert len(load(folder.parent, miniature).paths) == 25


@pytest.mark.slow
def test_a_really_full_disk(miniature, tmp_path):
    """A file system of 1 MB, filled up after two shards; then there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        command = ["extract", "--dataset", "icons", "--domain", "color", "--shard-size", 100, "--cache", disk]
        (disk / "embedded").symlink_to(_unpacked(tmp_path))
        (disk / "ballast").write_bytes(b"x" * 850_000)
        process = started(*command)
        errors = process.communicate()[1]
        assert process.returncode == 1 and "Traceback" not in errors
        assert "No space left on device. Finished shards are kept; free disk space" in errors.splitlines()[-1]
        folder = next(disk.glob("icons/*/color"))
        before = {path: path.stat().st_mtime_ns for path in shard_files(folder)}
        assert 0 < len(before) < 6 and not list(folder.glob("*.part"))
        assert all(images_in(path) == 100 for path in before)
        (disk / "ballast").unlink()
        assert started(*command).wait() == 0
        assert len(shard_files(folder)) == 6
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    finally:
        subprocess.run(["umount", disk], check=True)


def _unpacked(folder: Path) -> Path:
    from unimos_pipe.data.build_manifest import unpack_embedded

    return unpack_embedded("icons.zip", folder).parent


def test_a_read_only_cache_is_refused_before_work_and_still_serves_stage_two(cli, miniature, tmp_path, monkeypatch):
    args = ("--data-root", miniature.root, "--all", "--workers", 0)
    assert cli("extract", *miniature.args(tmp_path), *args).code == 0

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    answer = cli("extract", *miniature.args(tmp_path), *args)
    assert (answer.code, answer.err) == (
        2,
        f"Error: cannot write to {tmp_path}: Read-only file system; choose another folder with --cache\n",
    )
    assert len(load(next((tmp_path / "mini").glob("*")), miniature).paths) == 24


def test_the_second_of_two_extractors_is_refused(light, encoder, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "light")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError) as caught:
        extract_images(light, encoder, tmp_path, workers=0)
    assert str(caught.value) == (
        f"another process is writing to {tmp_path / 'light'} (host {platform.node()}, process {holder.pid}, -c "
        f"{tmp_path / 'light'}); wait for it to finish"
    )
    holder.kill()  # a killed holder's lock is free again, although its child lives on
    holder.wait()
    assert extract_images(light, encoder, tmp_path, workers=0).encoded == 24
    assert not [*tmp_path.rglob("*.lock"), *tmp_path.parent.glob(".*.light.lock")]


_HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.cache.cache_paths import domain_lock
with exclusive_lock(Path(sys.argv[1]), lock=domain_lock(Path(sys.argv[1]))):
    fork = multiprocessing.get_context("fork")
    up = fork.Event()
    fork.Process(target=lambda: (up.set(), time.sleep(5))).start()
    up.wait()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_worked_on_without_one(
    code, light, encoder, tmp_path, miniature, monkeypatch, recwarn
):
    def refuse(*_):
        raise OSError(code, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "shard-00000-01234567.h5.elsewhere-1.part").write_bytes(b"another writer's")
    assert extract_images(light, encoder, tmp_path, workers=0).encoded == 24
    assert len(load(tmp_path, miniature).paths) == 24
    assert len(list((tmp_path / "light").glob("*.part"))) == 1  # it may be in use: nobody holds the lock
    assert not [warning for warning in recwarn if warning.category is not ResourceWarning]  # of earlier tests


def test_no_decision_of_stage_one_reads_the_clock():
    """Clocks jump: only one module looks at a file's time, and what it finds can cause a reading and save none."""
    files = [PACKAGE / "base" / "atomic_io.py", *PACKAGE.glob("extract/*.py"), *PACKAGE.glob("cache/*.py")]
    for path in sorted(files):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & {"st_mtime", "st_mtime_ns", "st_ctime", "time", "now", "time_ns"}, path.name


def damage(shard: Path, how: str) -> None:
    content = bytearray(shard.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "one bit flipped":
        content[content.index(b"circle/2.png")] ^= 4
    else:
        content = bytearray()
    shard.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "one bit flipped", "empty"])
def test_a_damaged_shard_is_told_and_made_again(how, light, encoder, miniature, tmp_path):
    extract_images(light, encoder, tmp_path, workers=0, shard_size=10)
    path = shard_files(tmp_path / "light")[1]
    whole = load(tmp_path, miniature).features
    damage(path, how)
    with pytest.raises(StaleCacheError) as caught:
        load(tmp_path, miniature)
    assert str(caught.value).startswith(str(path)) and str(caught.value).endswith("Delete it and run extract again")
    report = extract_images(light, encoder, tmp_path, workers=0, shard_size=10)
    assert (report.shards_reused, report.shards_written) == (2, 1)
    assert load(tmp_path, miniature).features.tobytes() == whole.tobytes()


def test_a_shard_swapped_with_another_domains_is_refused(light, encoder, miniature, tmp_path):
    dark = build_manifest(load_spec(str(miniature.spec)), "dark", miniature.root)
    for manifest in (light, dark):
        extract_images(manifest, encoder, tmp_path, workers=0)
    path, other = (shard_files(tmp_path / name)[0] for name in ("light", "dark"))
    shutil.copy(other, path)
    with pytest.raises(StaleCacheError) as caught:
        load(tmp_path, miniature)
    assert str(caught.value) == (
        f"stale shard {path}: domain: expected 'light', got 'dark'. Run: unimos_pipe.extract_features("
        "features=unimos_pipe.feature_set(dataset='mini'), domains=['light'], "
        "options=unimos_pipe.ExtractOptions(force=True))"
    )
    assert extract_images(light, encoder, tmp_path, workers=0).encoded == 24
    assert load(tmp_path, miniature).paths == light.paths


def test_a_shard_of_an_older_model_is_refused(light, encoder, miniature, tmp_path):
    extract_images(light, encoder, tmp_path, workers=0)

    class Newer:
        identity = replace(encoder.identity, weights_sha256="f" * 64)

        def __getattr__(self, name):
            return getattr(encoder, name)

    with pytest.raises(StaleCacheError) as caught:
        extract_images(light, Newer(), tmp_path, workers=0)
    path = shard_files(tmp_path / "light")[0]
    assert str(caught.value) == (
        f"stale shard {path}: weights_sha256: expected {'f' * 64}, got {encoder.identity.weights_sha256}. "
        "Add force=True to encode light again"
    )


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_a_bad_image(miniature, encoder, tmp_path):
    (miniature.root / "light" / "circle" / "3.png").write_bytes(png_of(30_000, 30_000))
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = extract_images(manifest, encoder, tmp_path, workers=0, skip_bad=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; its pixels would take 2.7 GB
    assert [path for path, _ in report.skipped] == ["circle/3.png"]
    assert report.skipped[0][1] == "ValueError: 30,000 x 30,000 pixels, more than 200,000,000"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_hangs_the_decoder_is_a_bad_image(workers, light, encoder, tmp_path, monkeypatch):
    plain = image_loader.read_pixels
    monkeypatch.setattr(
        image_loader, "read_pixels", lambda path, *_: time.sleep(60) if path.name == "3.png" else plain(path)
    )
    monkeypatch.setattr(
        image_loader, "DECODE_SECONDS", 1.5
    )  # a busy machine may take a tenth of it for one that does not hang
    report = extract_images(light, encoder, tmp_path, workers=workers, skip_bad=True)
    assert report.skipped == tuple(
        (f"{name}/3.png", "TimeoutError: not decoded after 1.5 s") for name in ("bar", "circle", "square")
    )


@pytest.mark.parametrize(
    "fault",
    [lambda: os._exit(9), lambda: ctypes.PyDLL(None).sleep(60)],
    ids=["crashes", "hangs in C, where no signal reaches it"],
)
def test_a_decoder_that_takes_its_process_along_names_the_batch(fault, light, encoder, tmp_path, monkeypatch):
    plain = image_loader.read_pixels
    monkeypatch.setattr(image_loader, "HANG_SECONDS", 2)
    monkeypatch.setattr(image_loader, "read_pixels", lambda path, *_: fault() if path.name == "3.png" else plain(path))
    with pytest.raises(ExecutionError) as caught:
        extract_images(light, encoder, tmp_path, workers=1, shard_size=8, batch_size=8)
    assert str(caught.value) == (
        f"the decoder hung or crashed in {light.root}, in or just after bar/0.png, bar/1.png, bar/2.png and 5 more "
        "(or memory ran out). Finished shards are kept; remove the file, or use workers=0 to see its error"
    )
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL  # torch's own handler would raise in whatever runs
