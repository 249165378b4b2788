"""Command lines made from click's own tree: every option of every command, times each kind of bad value.

A new option is tried unasked. No trial may end in a traceback or in another exit code than 0, 1 or 2, and after one
that fails everything that existed exists unchanged.
"""

import random
import shutil
from collections import Counter
from pathlib import Path

import click
import pytest
from file_tree import damage, tree

from unimos_pipe.cli.main import main

SHORT = 80  # command lines in CI; all of them with --slow
INTERRUPTED = 130  # Ctrl-C, or a time limit that sends SIGINT, fell into a command
NEVER = {"bench", "demo", "review"}  # whole measurements, a whole demonstration, and a page that waits for a person

JOBS = {"photos"}  # several commands: those before a fault have done their work


def commands(group: click.Group = main, path: tuple[str, ...] = ()):
    """Every leaf command as (words, command)."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


SOUND = {  # command lines that work, in the prepared folder, as option -> value; "" is a positional argument
    ("extract",): {"--dataset": "mini.toml", "--domain": "light", "--data-root": "images", "--cache": "fresh",
                   "--workers": "0"},
    ("adapt",): {"--dataset": "mini.toml", "--cache": "cache", "--src": "dark", "--tgt": "light", "--epochs": "1",
                 "--runs": "runs", "--device": "cpu"},
    ("sweep",): {"": "recipe.toml", "--cache": "cache", "--runs": "runs", "--dry-run": None},
    ("run",): {"": "recipe.toml", "--cache": "cache", "--runs": "runs", "--data-root": "images", "--dry-run": None},
    ("compare",): {"--out": "table.md", "--": "run", "": "run"},  # two folders: everything after -- is positional
    ("rerun",): {"": "run", "--dataset": "mini.toml", "--cache": "cache"},
    ("report",): {"": "run", "--out": "report", "--cache": "cache"},
    ("predict",): {"--run": "run", "--images": "images/light/bar", "-o": "answers.csv", "--workers": "0"},
    ("export",): {"--run": "run", "--out": "model"},
    ("sort",): {"": "run", "--to": "sorted", "--data-root": "images", "--cache": "cache"},
    ("photos",): {"--encoder": "tiny", "--to": "by class", "--work": "job", "--cache": "fresh", "--workers": "0",
                  "--": "images/dark", "": "images/light"},
    ("label", "next"): {"--run": "job/run", "--cache": "fresh", "--device": "cpu"},  # after photos
    ("manifest", "ls"): {},
    ("manifest", "show"): {"": "mini.toml"},
    ("manifest", "scan"): {"--domain": "a=images/dark", "-o": "own.toml"},
    ("manifest", "update"): {"": "own.toml"},
    ("manifest", "unpack"): {"": "shard.tar", "-o": "unpacked"},
    ("manifest", "check"): {"": "mini.toml", "--data-root": "images"},
    ("encoder", "ls"): {},
    ("cache", "import"): {"": "features.npy", "--dataset": "mini.toml", "--domain": "light", "--text": "text.npy",
                          "--encoder-name": "theirs", "--cache": "fresh"},
    ("cache", "export"): {"--dataset": "mini.toml", "--domain": "light", "--cache": "cache", "-o": "features"},
    ("cache", "combine"): {"--dataset": "mini.toml", "--as": "both", "--cache": "cache", "--": "tiny", "": "tiny"},
    ("cache", "path"): {},
    ("cache", "ls"): {"--cache": "cache"},
    ("cache", "verify"): {"--cache": "cache"},
    ("cache", "prune"): {"--cache": "cache", "--runs": "runs"},
}  # fmt: skip
BAD = {
    "missing": "no/such/thing",
    "folder": "images",
    "file": "precious.jpg",
    "below a file": "precious.jpg/x",
    "empty": "",
    "huge": "1" + "0" * 400,
    "negative": "-7",
    "NaN": "nan",
    "infinite": "inf",
    "unicode": "日本語 ü",
    "control": "a\x1b[31m\x07\nb",
    "option": "--yes",
    "dash": "-",
    "device": "/dev/full",
    "long": "x" * 300,
    "deep": "d/" * 2500,
    "read-only": "/proc/unimos",
    "link": "circle",
    "dots": "..",
    "equals": "a=b=c",
    "surrogate": "\udcff",
}


def trials() -> list[tuple[tuple[str, ...], str, str]]:
    """(command, option, kind of bad value) of every trial."""
    return [
        (words, option, kind)
        for words, command in commands()
        if words[0] not in {*NEVER, *JOBS}
        for option in option_names(command)
        for kind in BAD
    ]


def option_names(command: click.Command) -> list[str]:
    """The options that take a value, by their longest name; "" for positional arguments."""
    options = [max(p.opts, key=len) for p in command.params if isinstance(p, click.Option) and not p.is_flag]
    return options + ([""] if any(isinstance(p, click.Argument) for p in command.params) else [])


def line(words: tuple[str, ...], option: str, kind: str) -> list[str]:
    """The sound command line with one value spoilt."""
    aliases = {"--out": "-o"} if "-o" in SOUND[words] else {}
    given = {**SOUND[words], aliases.get(option, option): BAD[kind]}
    options = [part for name, value in given.items() if name for part in ([name] if value is None else [name, value])]
    return [*words, *options, *([given[""]] if "" in given else [])]


def run_trials(cli, prepared, tmp_path, monkeypatch, chosen) -> Counter:
    work = tmp_path / "work"
    shutil.copytree(prepared, work, symlinks=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("UNIMOS_CACHE", str(work / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before, codes, faults = tree(work), Counter(), []
    for trial in chosen:
        words = line(*trial)
        try:
            answer = cli(*words)
        except Exception as error:
            faults.append(f"{trial}: {type(error).__name__}: {str(error)[:300]}")
            continue
        if answer.code == INTERRUPTED:
            raise KeyboardInterrupt
        codes[answer.code] += 1
        after = tree(work)
        if answer.code not in (0, 1, 2):
            faults.append(f"{trial}: exit code {answer.code}")
        if answer.code and (lost := damage(before, after)):
            faults.append(f"{trial}: changed {lost[:3]}")
        if answer.code and (empty := empty_folders(after) - empty_folders(before)):
            faults.append(f"{trial}: left the empty {sorted(empty)[:3]}")
        if "\x1b" in answer.out + answer.err:
            faults.append(f"{trial}: raw control bytes")
        if answer.code == 0:
            before = after
    assert not faults, "\n".join(faults)
    return codes


def empty_folders(found: dict[str, str]) -> set[str]:
    """Of a tree."""
    return {path for path, kind in found.items() if kind == "folder"} - {str(Path(path).parent) for path in found}


def test_a_sound_line_of_every_command_is_known_here():
    """A new command must be given one, so that its options are tried."""
    assert set(SOUND) == {words for words, _ in commands() if words[0] not in NEVER}


def test_every_sound_line_works_and_ends_with_the_next_command(cli, prepared, no_figures, tmp_path, monkeypatch):
    """All but six: ``cache path`` prints a folder for other programs, ``manifest scan`` and ``unpack`` name the next
    command in their notes, and nothing follows ``compare``, ``rerun`` and a ``manifest update`` without changes.
    """
    silent = {("cache", "path"), ("compare",), ("rerun",)}
    silent |= {("manifest", name) for name in ("scan", "update", "unpack")}
    shutil.copytree(prepared, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    for words, options in SOUND.items():
        given = [part for name, value in options.items() if name for part in (name, value) if part is not None]
        answer = cli(*words, *given, *([options[""]] if "" in options else []))
        assert answer.code == 0, (words, answer)
        following = [line for line in answer.err.splitlines() if line.startswith("next: unimos-pipe ")]
        assert len(following) == (words not in silent), (words, answer.err)


def test_a_sample_of_bad_command_lines(cli, prepared, no_figures, tmp_path, monkeypatch):
    chosen = random.Random(0).sample(trials(), SHORT)
    codes = run_trials(cli, prepared, tmp_path, monkeypatch, chosen)
    assert sum(codes.values()) == SHORT and codes[2] > SHORT // 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_all_bad_command_lines(part, cli, prepared, no_figures, tmp_path, monkeypatch):
    """In eighths, by command."""
    count = len(trials())
    codes = run_trials(cli, prepared, tmp_path, monkeypatch, trials()[part * count // 8 : (part + 1) * count // 8])
    print(f"{sum(codes.values())} command lines: exit codes {dict(codes)}")
    assert sum(codes.values()) >= 300
