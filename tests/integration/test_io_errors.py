"""Commands whose k-th open, read, write, fsync or rename fails: an error by its own cause, and nothing sound is lost.

The calls fail in the C library (io_faults.c), so that every reader meets them: Python's own, HDF5's, safetensors' and
the decoders'. A short round runs in CI, the long one with --slow.
"""

import errno
import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from file_tree import damage, tree
from fork_server import CALLS, SHORT, Ended, Fault, Zygote, fault_library, zygote
from workspace import DATA, WRITERS, Wholeness, check, leftovers

READERS = {
    "ls": ["cache", "ls", "--cache", "cache"],
    "verify": ["cache", "verify", "--cache", "cache"],
    "deep": ["cache", "verify", "--cache", "cache", "--dataset", "mini.toml", "--deep", "--data-root", "images"],
    "check": ["manifest", "check", "mini.toml", "--data-root", "images"],
    "predict domain": ["predict", "--run", "other", "--domain", "light", "--dataset", "mini.toml", "--cache", "cache",
                       "-o", "answers.csv"],
    "predict exported": ["predict", "--run", "model", "--images", "images/light", "-o", "answers.csv", "--workers",
                         "0"],
    "again": ["sweep", "recipe.toml", "--stack-size", "1", "--cache", "cache", "--runs", "runs"],
    "decoders": ["extract", *DATA, "--domain", "light", "--data-root", "images", "--workers", "1", "--force"],
    "skip": ["extract", *DATA, "--domain", "light", "--data-root", "images", "--workers", "0", "--force",
             "--on-error", "skip"],
    "extract": ["extract", *DATA, "--all", "--data-root", "images", "--workers", "0"],
}  # fmt: skip
COMMANDS = {**WRITERS, **{f"{name} again" if name in WRITERS else name: words for name, words in READERS.items()}}
ERRORS = {
    "open": (errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOSPC),
    "read": (errno.EIO, errno.ESTALE, errno.EINTR, SHORT),
    "write": (errno.EIO, errno.ENOSPC, errno.EINTR, SHORT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC, errno.ESTALE),
}
HARMLESS = (errno.EINTR, SHORT)  # a program that asks again loses nothing
BLAMES = (  # what a failure to read may not be taken for
    "damaged", "delete it", "train it again", "trained again", "not a model", "cannot write the answer",
    "no whole run", "not what was written", "is new or has changed", "left out", "not an image", "unreadable image",
    "bad image", "no shard", "missing", "is no",
)  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    library = fault_library(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    with zygote(tmp_path_factory.mktemp("said"), library) as found:
        yield found


class Soundness(Wholeness):
    """Wholeness of trials in any order: a run is verified, but its identity follows the shards that are there."""

    def _states(self) -> dict[str, str]:
        states = super()._states()
        return {**states, "run": "verified", "quick": "verified", "runs": " ".join(sorted(json.loads(states["runs"])))}


def faults_of(answer: Ended, fault: Fault) -> list[str]:
    """What is wrong with how a command ended whose call failed."""
    said = answer.err.lower()
    wrong = [f"it blames: {blame}" for blame in BLAMES if blame in said]
    if fault.error in HARMLESS and answer.code:
        wrong.append("what only had to be asked again ended it")
    before_all_work = fault.error == errno.ENOSPC and "choose another folder with" in said
    if answer.code not in (0, 2 if before_all_work else 1):
        wrong.append(f"exit code {answer.code}")
    if "Traceback" in answer.err or "unforeseen" in answer.err or "unexpected" in answer.err:
        wrong.append("nobody foresaw it")
    if answer.code:
        last = answer.err.splitlines()[-1] if answer.err else ""
        if not last.startswith("Error: "):
            wrong.append("no error in its last line")
        elif os.strerror(fault.error) not in last:
            wrong.append("not its own cause")
    return wrong


def trials(start: Zygote, work: Path, commands: list[str], count: int, seed: int) -> tuple[Counter, list[str]]:
    """Run commands in turn, each time with another call that fails; returns counts of ends, and everything wrong."""
    rng, whole, calls = random.Random(seed), Soundness(work), {}
    for name in sorted(set(commands)) * 2:  # again: what the first ones make may depend on what the last ones made
        answer = start.run(COMMANDS[name], work, fault=Fault())
        check(answer, (0,))
        calls[name] = answer.calls
        whole.take()
    ended, wrong = Counter(), []
    for number in range(count):
        name = commands[number % len(commands)]
        can = [call for call in CALLS if calls[name][CALLS.index(call)]]
        call = rng.choice(can)
        error, at = rng.choice(ERRORS[call]), rng.randint(1, calls[name][CALLS.index(call)])
        lasting = call == "write" and error not in HARMLESS and rng.random() < 0.3  # who asks again would ask for ever
        fault = Fault(call, error, at, lasting)
        answer = start.run(COMMANDS[name], work, fault=fault)
        kind = "short" if fault.error == SHORT else errno.errorcode[fault.error]
        struck = answer.calls and answer.calls[-1] > 0
        ended[f"{call} {kind}", "not struck" if not struck else "done" if answer.code == 0 else "error"] += 1
        found = (faults_of(answer, fault) if struck else []) + whole.faults()
        if found:
            wrong.append(f"{name}, {call} {fault.at} {kind}: {found}: {answer.err[-300:]!r}")
        if answer.code == 0:
            whole.take() if not found else None
    for name in sorted(set(commands)):
        check(start.run(COMMANDS[name], work), (0,))
        wrong += [f"{name} afterwards: {fault}" for fault in whole.faults()]
    return ended, wrong + [f"left behind: {name}" for name in leftovers(work)]


def test_some_calls_that_fail(start, work):
    _, wrong = trials(start, work, ["extract", "adapt", "predict", "again", "verify"], 10, seed=0)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_400_calls_that_fail_over_all_commands(seed, start, work):
    ended, wrong = trials(start, work, sorted(COMMANDS), 100, seed=100 + seed)
    print(f"{ended.total()} calls that fail: {dict(sorted(ended.items()))}")
    assert not wrong, "\n".join(wrong)


def with_waste(work: Path) -> tuple[Path, list[str]]:
    """Add to a cache what prune removes: a damaged shard, a writer's leftover, an encoder that nothing needs."""
    encoder = next((work / "cache" / "mini").glob("tiny*"))
    shutil.copytree(encoder, encoder.with_name("other_embedded_fp32-00000000"))
    (encoder / "light" / ".unimos-00000000-0000000000000000.part").write_bytes(b"half")
    shard = next((encoder / "dark").glob("shard-*.h5"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    (encoder / "dark" / "shard-00009-00000000.h5").write_bytes(content)
    return encoder, []


def prunes(start: Zygote, work: Path, count: int, seed: int) -> Counter:
    """Prune under errors: whatever comes of it, every sound file is there."""
    with_waste(work)
    sound = tree(work)
    clean = start.run(WRITERS["prune"], shutil.copytree(work, work.with_name("clean"), symlinks=True), fault=Fault())
    kept = tree(work.with_name("clean"))
    sound = {name: kind for name, kind in sound.items() if name in kept}
    assert clean.code == 0 and len(kept) < len(tree(work))
    rng, ended = random.Random(seed), Counter()
    for number in range(count):
        folder = shutil.copytree(work, work.with_name(f"prune-{number}"), symlinks=True)
        call = rng.choice([call for call in ("open", "read") if clean.calls[CALLS.index(call)]])
        error = rng.choice((errno.EIO, errno.EMFILE, errno.ESTALE))
        fault = Fault(call, error, rng.randint(1, clean.calls[CALLS.index(call)]))
        answer = start.run(WRITERS["prune"], folder, fault=fault)
        lost = damage(sound, tree(folder))
        assert lost == [], (fault, lost, answer.err)
        assert not faults_of(answer, fault), (fault, answer.err)
        ended["error" if answer.code else "done"] += 1
        shutil.rmtree(folder)
    return ended


def test_prune_under_errors_loses_nothing(start, work):
    assert prunes(start, work, 4, seed=0).total() == 4


@pytest.mark.slow
def test_60_prunes_under_errors_lose_nothing(start, work):
    ended = prunes(start, work, 60, seed=1)
    print(f"60 prunes under errors: {dict(ended)}")
    assert ended.total() == 60
