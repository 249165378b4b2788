"""Commands that are killed, run into a full disk, or meet another: the old or the new stands, never neither.

Each trial is a process of its own (:func:`fork_server.zygote`) in a folder that holds a cache, a run, an export, a
sweep, a report and things of the user's. A short round runs in CI, the long one with --slow.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from file_tree import damage, tree
from fork_server import Ended, Zygote, zygote
from workspace import PRECIOUS, prepare

import unimos_pipe
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.runs.read_run import read_run

DATA = ["--dataset", "mini.toml", "--cache", "cache", "--encoder", "tiny"]
FORCED = {  # each makes anew what is there
    "export": ["export", "--run", "other", "--out", "model", "--force"],
    "adapt": ["adapt", *DATA, "--src", "dark", "--tgt", "light", "--epochs", "2", "--out", "run", "--force"],
    "extract": ["extract", *DATA, "--domain", "light", "--data-root", "images", "--workers", "0", "--shard-size", "2",
                "--force"],
}  # fmt: skip
WRITERS = {
    **FORCED,
    "sweep": ["sweep", "recipe.toml", "--stack-size", "1", "--cache", "cache", "--runs", "runs", "--force"],
    "run": ["run", "recipe.toml", "--cache", "cache", "--runs", "runs", "--data-root", "images", "--workers", "0"],
    "report": ["report", "run", "--out", "report", "--cache", "cache"],
    "predict": ["predict", "--run", "other", "--images", "images/light", "-o", "answers.csv", "--workers", "0"],
    "scan": ["manifest", "scan", "--domain", "a=images/dark", "--domain", "b=images/light", "-o", "own.toml",
             "--force"],
    "import": ["cache", "import", "features.npy", "--dataset", "mini.toml", "--domain", "light", "--text", "text.npy",
               "--encoder-name", "theirs", "--cache", "cache", "--force"],
    "hand out": ["cache", "export", "--dataset", "mini.toml", "--encoder", "tiny", "--all", "--cache", "cache", "-o",
                 "features"],
    "method": ["adapt", *DATA, "--src", "dark", "--tgt", "light", "--method", "fused", "--out",
               "quick", "--force"],
    "prune": ["cache", "prune", "--cache", "cache", "--runs", "runs", "--yes"],
}  # fmt: skip
TOGETHER = [  # pairs of commands that meet over one thing
    *((name, name) for name in WRITERS),
    ("extract", "adapt"), ("extract", "prune"), ("extract", "predict"), ("extract", "report"), ("extract", "run"),
    ("adapt", "report"), ("adapt", "prune"), ("export", "predict"), ("sweep", "run"), ("sweep", "prune"),
    ("sweep", "extract"), ("import", "extract"), ("hand out", "extract"), ("method", "report"),
]  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    with zygote(tmp_path_factory.mktemp("said")) as found:
        yield found


@pytest.fixture(scope="module")
def lived_in(cli, start, tmp_path_factory) -> Path:
    """The folder in which trials begin: every writer has been there once."""
    folder = prepare(cli, tmp_path_factory.mktemp("lived-in"))
    adapt = ["other" if word == "run" else word for word in FORCED["adapt"]]
    for words in (
        adapt,
        *(WRITERS[name] for name in ("sweep", "report", "scan", "predict", "method", "hand out", "import")),
    ):
        answer = start.run([word for word in words if word != "--force"], folder)
        assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def work(lived_in, tmp_path) -> Path:
    shutil.copytree(lived_in, tmp_path / "work", symlinks=True)
    recipe = tmp_path / "work" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(lived_in), str(tmp_path / "work")))
    return tmp_path / "work"


class Wholeness:
    """What must hold of a folder whatever happened in it: each thing is one of those that were seen whole."""

    def __init__(self, work: Path):
        self.work = work
        self.precious = self._precious()
        self.known: dict[str, set[str]] = {}
        self.take()

    def take(self) -> None:
        """The things as they are now are whole."""
        for name, state in self._states().items():
            self.known.setdefault(name, set()).add(state)

    def faults(self) -> list[str]:
        """What is lost, broken or a mixture."""
        try:
            states = self._states()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        faults = [f"{name}: neither old nor new" for name, state in states.items() if state not in self.known[name]]
        return faults + (["precious things changed"] if self._precious() != self.precious else [])

    def _states(self) -> dict[str, str]:
        work = self.work
        model = unimos_pipe.load(work / "model")
        heads = {name: tensor.double().sum().item() for name, tensor in sorted(model.fitted.state_dict().items())}
        page = (work / "report" / "report.html").read_text()
        assert page.rstrip().endswith("</html>")
        sweep = {
            str(run.relative_to(work)): read_run(run).identity for run in sorted((work / "runs" / "r").rglob("seed0"))
        }
        return {
            "features": self._features(),
            "run": read_run(work / "run").identity,
            "quick": read_run(work / "quick").identity,
            "handed out": " ".join(sorted(path.name for path in (work / "features").iterdir())),
            "model": json.dumps(heads),
            "answers.csv": (work / "answers.csv").read_text(),
            "own.toml": load_spec(str(work / "own.toml")).name,
            "report": " ".join(sorted(path.name for path in (work / "report").rglob("*"))),
            "runs": json.dumps(sweep),
        }

    def _features(self) -> str:
        store = FeatureStore(
            load_spec(str(self.work / "mini.toml")),
            next((self.work / "cache" / "mini").glob("tiny*")),
            extract_call("mini"),
        )
        parts = [store.domain(name).features for name in ("dark", "light")]
        return hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest()

    def _precious(self) -> dict[str, str]:
        return {name: kind for name, kind in tree(self.work).items() if name.split("/")[0] in PRECIOUS}


def check(answer: Ended, codes: tuple[int, ...]) -> None:
    """The exit code is one of these, and an error is one line."""
    assert answer.code in codes, (answer.code, answer.err[-500:])
    assert "Traceback" not in answer.err and "Error: unexpected" not in answer.err, answer.err
    if answer.code:
        assert answer.err.splitlines()[-1].startswith("Error: "), answer.err


def assert_whole_after_kills(start: Zygote, work: Path, names: list[str], seed: int) -> int:
    """Kill each named command at random moments until one fell into its work; all is whole then, and after another try.

    Returns how many tries it took.
    """
    rng, seconds = random.Random(seed), {}
    whole = Wholeness(work)
    for name in sorted(set(names)) * 2:  # again: what the first ones make may depend on what the last ones made
        began = time.perf_counter()
        check(start.run(WRITERS[name], work), (0,))
        seconds[name] = time.perf_counter() - began
        whole.take()
    tries = 0
    for name in names:
        code = 0
        while code != -9:
            tries += 1
            running = start.start(WRITERS[name], work)
            time.sleep(rng.random() * seconds[name])
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, 9)
            code = running.wait().code
            if code != -9:
                seconds[name] *= 0.9  # the machine is quicker than it was at first
            assert not (faults := whole.faults()), (name, faults)
    for name in sorted(set(names)):
        check(start.run(WRITERS[name], work), (0,))
        assert not (faults := whole.faults()), (name, faults)
    assert not leftovers(work)
    return tries


def leftovers(work: Path) -> list[str]:
    """Files and folders that only a writer at work may have."""
    return [name for name in tree(work) if Path(name).name.startswith(".unimos-") or name.endswith((".part", ".old"))]


@pytest.mark.parametrize("name", FORCED)
def test_a_killed_force_leaves_the_old_or_the_new(name, start, work):
    assert_whole_after_kills(start, work, [name] * 2, seed=0)


def test_a_kill_of_any_command_leaves_the_old_or_the_new(start, work):
    assert_whole_after_kills(start, work, ["sweep", "predict", "import"], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORCED)
def test_25_kills_of_a_force(name, start, work):
    tries = assert_whole_after_kills(start, work, [name] * 25, seed=2)
    print(f"{name} --force: 25 kills in its work, {tries} tries")


@pytest.mark.slow
def test_40_kills_over_all_commands(start, work):
    tries = assert_whole_after_kills(start, work, (sorted(WRITERS) * 5)[:40], seed=3)
    print(f"40 kills in a command's work, {tries} tries")


def without_room(start: Zygote, work: Path, name: str, **options) -> bool:
    """Run a command where files do not fit; whether it failed, and then nothing that was there is changed."""
    before, whole = tree(work), Wholeness(work)
    answer = start.run(WRITERS[name], work, **options)
    check(answer, (0, 1))
    if answer.code:
        assert damage(before, tree(work)) == []
        assert not whole.faults() and not leftovers(work)
    return bool(answer.code)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "prune"])
def test_files_that_do_not_fit_are_one_line_and_change_nothing(name, start, work):
    assert without_room(start, work, name, largest=100)
    check(start.run(WRITERS[name], work), (0,))


@pytest.mark.slow
def test_full_disks(start, lived_in, tmp_path):
    """Every writer on a file system with next to nothing left, a little, and almost enough."""
    failed = []
    for name in WRITERS:
        disk = tmp_path / "disk"
        disk.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        try:
            work = disk / "work"
            shutil.copytree(lived_in, work, symlinks=True)
            recipe = work / "recipe.toml"
            recipe.write_text(recipe.read_text().replace(str(lived_in), str(work)))
            check(start.run(WRITERS[name], work), (0,))
            for left in (0, 4096, 20_480, 65_536):
                with (disk / "ballast").open("wb") as ballast:
                    free = shutil.disk_usage(disk).free
                    ballast.write(bytes(max(free - left, 0)))
                failed += [(name, left)] if without_room(start, work, name, TMPDIR=str(tmp_path)) else []
                (disk / "ballast").unlink()
            check(start.run(WRITERS[name], work), (0,))
        finally:
            subprocess.run(["umount", disk], check=True)
    print(f"{len(failed)} commands on a full disk: {failed}")
    assert len(failed) >= 20


def assert_whole_after_meeting(start: Zygote, work: Path, first: str, second: str) -> tuple[int, int]:
    """Start two commands at once: each works or is refused, one of them works, and all is whole."""
    whole = Wholeness(work)
    for name in {first, second}:
        check(start.run(WRITERS[name], work), (0,))
        whole.take()
    answers = [running.wait() for running in [start.start(WRITERS[name], work) for name in (first, second)]]
    for answer in answers:
        check(answer, (0, 2))
        assert not answer.code or "another process is writing to" in answer.err, answer.err
    codes = tuple(answer.code for answer in answers)
    assert 0 in codes
    assert not (faults := whole.faults()), (first, second, faults)
    assert not leftovers(work)
    return codes


@pytest.mark.parametrize(("first", "second"), [("adapt", "adapt"), ("extract", "prune")])
def test_two_commands_that_meet(first, second, start, work):
    assert_whole_after_meeting(start, work, first, second)


@pytest.mark.slow
def test_20_pairs_that_meet(start, work):
    refused = {(first, second): assert_whole_after_meeting(start, work, first, second) for first, second in TOGETHER}
    print(f"exit codes of {len(refused)} pairs: {refused}")
    assert len(refused) >= 20
