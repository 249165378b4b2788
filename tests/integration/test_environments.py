"""20 environments: users without a home, closed and full streams, locales, little shared memory, daemonic callers."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from unimos_pipe.base.errors import ExecutionError, InputError
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cli.click_classes import expand_home
from unimos_pipe.extract import image_loader
from unimos_pipe.extract.image_loader import read_batches

NO_USER = 54321


def command(*words: str, shell: str = "{}", **environment: str | None) -> subprocess.CompletedProcess:
    """Run a command line below a shell's redirections; None takes a variable away."""
    variables = {key: value for key, value in {**os.environ, **environment}.items() if value is not None}
    line = shell.format(" ".join((sys.executable, "-m", "unimos_pipe", *words)))
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=variables, timeout=100)


STREAMS = {
    "closed stdin": ("{} <&-", 0, True),
    "closed stdout": ("{} >&-", 0, False),
    "closed stderr": ("{} 2>&-", 0, True),
    "closed stdin and stdout": ("{} <&- >&-", 0, False),
    "closed stdin and stderr": ("{} <&- 2>&-", 0, True),
    "closed stdout and stderr": ("{} >&- 2>&-", 0, False),
    "all closed": ("{} <&- >&- 2>&-", 0, False),
    "full stdout": ("{} >/dev/full", 1, False),
    "full stderr": ("{} 2>/dev/full", 0, True),
    "head": ("set -o pipefail; {} | head -c 1", None, True),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name, tmp_path):
    """The work counts: a spec is written, the exit code is right, and no traceback appears."""
    shell, code, answers = STREAMS[name]
    for name in ("x", "y"):
        (tmp_path / "a" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name / "1.png")
    out = tmp_path / "my.toml"
    done = command("manifest", "scan", "--domain", f"a={tmp_path}/a", "--out", str(out), shell=shell)
    assert done.returncode == code or (code is None and done.returncode in (0, 1))
    assert out.is_file() and "unexpected" not in done.stderr and "Traceback" not in done.stderr
    assert bool(done.stdout) == answers


LOCALES = [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "xx_YY.latin1"}]


@pytest.mark.parametrize("variables", [*LOCALES, {"PYTHONIOENCODING": "ascii"}], ids=str)
def test_locales(variables, tmp_path):
    for name in ("ä ö", "y"):
        (tmp_path / "a" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name / "1.png")
    out = tmp_path / "my.toml"
    done = command("manifest", "scan", "--domain", f"a={tmp_path}/a", "--out", str(out), **variables)
    assert done.returncode == 0, done.stderr
    assert "ä ö" in out.read_text(encoding="utf-8")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("variables", [{"HOME": None, "UNIMOS_CACHE": None}, {"HOME": None, "UNIMOS_CACHE": "/tmp/c"}])
def test_a_user_without_a_home(variables):
    """A container's user has no entry in the list of users and no HOME."""
    code = (
        "import os; from unimos_pipe.cache.cache_paths import default_cache; "
        f"os.setgid({NO_USER}); os.setuid({NO_USER}); print(default_cache())"
    )
    variables = {key: value for key, value in {**os.environ, **variables}.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    if "UNIMOS_CACHE" in variables:
        assert (done.stdout, done.stderr) == ("/tmp/c\n", "")
    else:
        assert done.stderr.splitlines()[-1].endswith(
            "this user has no home folder for the cache. Set UNIMOS_CACHE or HOME to a folder that can be written, "
            "or pass cache"
        )


def test_no_home_is_an_error_of_the_library(monkeypatch):
    monkeypatch.delenv("UNIMOS_CACHE", raising=False)

    def fail(_: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("unimos_pipe.cache.cache_paths.platformdirs.user_cache_dir", fail)
    with pytest.raises(InputError, match=r"^this user has no home folder for the cache. Set UNIMOS_CACHE or HOME"):
        default_cache()


def test_the_home_folder_is_expanded_in_every_word_and_variable(monkeypatch, tmp_path, cli):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/a b") == f"{tmp_path}/a b"
    assert expand_home("--cache=~/c") == f"--cache={tmp_path}/c"
    for word in ("a~/b", "~user/x", "--set=a=~b", "--template=~ a"):
        assert expand_home(word) == word
    monkeypatch.setenv("UNIMOS_CACHE", "~/c")
    assert default_cache() == tmp_path / "c"
    assert cli("cache", "ls").out == f"{tmp_path}/c holds no features\n"
    assert cli("cache", "ls", "--cache=~/d").out == f"{tmp_path}/d holds no features\n"
    monkeypatch.setenv("UNIMOS_DATA_ROOT", "~/none")
    assert f"{tmp_path}/none" in cli("manifest", "check", "office_home").err


@pytest.fixture
def images(tmp_path) -> list[str]:
    for row in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{row}.png")
    return [f"{row}.png" for row in range(3)]


def read(folder: Path, images: list[str]) -> list[int]:
    stream = read_batches(folder, images, [[0, 1], [2]], lambda image: torch.zeros(100, 100, 3), workers=2)
    return [row for good, _, _ in stream for row in good]


def test_little_shared_memory_is_told_before_any_work(images, tmp_path, monkeypatch):
    small = SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(image_loader.os, "statvfs", lambda path: small)
    with pytest.raises(ExecutionError) as refused:
        read(tmp_path, images)
    assert str(refused.value) == (
        "the decoders need 0 MB of shared memory, /dev/shm has 0 MB free; decode in this process with workers=0, "
        "take smaller batches or fewer workers, or start the container with more (docker's shm-size)"
    )


def _read_in_child(folder: Path, images: list[str], answer: Path) -> None:
    answer.write_text(json.dumps(read(folder, images)))


def test_a_daemonic_caller_decodes_in_its_own_process(images, tmp_path):
    child = multiprocessing.get_context("fork").Process(
        target=_read_in_child, args=(tmp_path, images, tmp_path / "answer"), daemon=True
    )
    child.start()
    child.join(100)
    assert child.exitcode == 0 and json.loads((tmp_path / "answer").read_text()) == [0, 1, 2]


def test_a_script_without_a_main_guard_is_told_the_cause(monkeypatch):
    assert image_loader._guard_hint() == ""
    monkeypatch.setattr(image_loader.multiprocessing, "get_start_method", lambda: "spawn")
    monkeypatch.setattr(image_loader.sys, "platform", "darwin")  # where processes are not forked
    assert str(image_loader._decoder_error(Path("d"), ["1.png"])) == (
        "the decoder hung or crashed in d, in or just after 1.png (or memory ran out). Finished shards are kept; "
        "remove the file, or use workers=0 to see its error. A script that calls this must do so below "
        "if __name__ == '__main__':"
    )


UNGUARDED = """
import multiprocessing, sys
print("started", flush=True)
multiprocessing.set_start_method(sys.argv[1])
import torch, unimos_pipe
torch.set_num_threads(2)
features = unimos_pipe.feature_set("icons", cache=sys.argv[2])
pair = ("line", "solid")
extract_options = unimos_pipe.ExtractOptions(workers=1)
encoded = unimos_pipe.extract_features(features, pair[: 1 + len(sys.argv[3:])], options=extract_options)
print(sum(report.encoded for report in encoded.reports))
if not sys.argv[3:]:
    sys.exit()
options = unimos_pipe.AdaptOptions(settings={"train.epochs": 1}, calibrate=False)
place = unimos_pipe.RunLocation(runs=sys.argv[2] + "/runs")
print(len(unimos_pipe.adapt_pairs(features, [pair, pair[::-1]], options, place)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize(
    ("method", "train"),
    [("spawn", []), *(pytest.param(name, ["train"], marks=pytest.mark.slow) for name in ("spawn", "forkserver"))],
)
def test_a_script_without_a_main_guard_works_where_processes_are_forked(method, train, tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, tmp_path / "script.py", method, tmp_path / "cache", *train]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines()[0] == "started" and done.stdout.count("started") == 1
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 600 and done.stdout.split()[2:] == (["2"] if train else [])


DAEMONIC = """
import multiprocessing, sys
import torch, unimos_pipe

def train():
    torch.set_num_threads(2)
    options = unimos_pipe.AdaptOptions(settings={"train.epochs": 1}, calibrate=False)
    features = unimos_pipe.feature_set("icons", cache=sys.argv[1])
    place = unimos_pipe.RunLocation(runs="runs")
    unimos_pipe.adapt_pairs(features, [("line", "solid"), ("solid", "line")], options, place)

child = multiprocessing.get_context("fork").Process(target=train, daemon=True)
child.start()
child.join()
sys.exit(child.exitcode)
"""


def test_a_daemonic_caller_trains_in_its_own_process(icons_cache, tmp_path):
    """In a program of its own: the threads of torch do not survive a fork of these tests' process."""
    command = [sys.executable, "-c", DAEMONIC, icons_cache]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2
