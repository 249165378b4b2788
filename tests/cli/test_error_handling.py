"""Every end of a command is one line on stderr and the exit code promised."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unimos_pipe.base.terminal import escape_control_chars
from unimos_pipe.cli import error_handling
from unimos_pipe.cli.error_handling import run_with_error_handling


def unimos(*args, **options):
    command = [sys.executable, "-m", "unimos_pipe", *(str(arg) for arg in args)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_full_or_closed_stdout_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = unimos("manifest", "ls", stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: cannot write the output: No space left on device. Finished work is kept\n",
    )
    reading, writing = os.pipe()
    os.close(reading)
    for command in (["manifest", "ls"], ["--help"]):
        done = unimos(*command, stdout=writing)
        assert (done.returncode, done.stderr) == (
            1,
            "Error: cannot write the output: Broken pipe. Finished work is kept\n",
        )
    os.close(writing)


def test_a_terminal_that_cannot_encode_gets_escapes(miniature, tmp_path):
    table = miniature.root / "light" / "\u00e9.csv"
    table.write_text("path,class\nbar/0.png,caf\u00e9\u001b[31m\nbar/1.png,a\n")
    command = ["manifest", "scan", "--domain", f"a={miniature.root / 'light'}:{table.name}", "-o", tmp_path / "x.toml"]
    done = unimos(*command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (
        0,
        f"{tmp_path / 'x.toml'}: 2 classes (a, caf\\xe9\\x1b[31m); images: a: 2\n",
        f"  read it through, then: unimos-pipe extract --dataset {tmp_path / 'x.toml'} --all",
    )


def test_bytes_that_steer_a_terminal_are_shown_not_sent(cli):
    answer = cli("manifest", "show", "a\x1b[2J\x9b\n\u202eb.toml")
    assert answer.code == 2 and "a\\x1b[2J\\x9b\\n\\u202eb.toml" in answer.err and answer.err.count("\n") == 1
    assert "\x1b" not in cli("manifest", "ls", "--\x1b[31m").err
    assert escape_control_chars("\udcff \u00e9\u4e2d", "latin-1") == "\\udcff \u00e9\\u4e2d"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (
            OSError(28, "No space left on device", "/x/a"),
            "Error: /x/a: No space left on device. Finished work is kept",
            1,
        ),
        (OSError(36, "File name too long", "/x/a"), "Error: /x/a: File name too long. Finished work is kept", 2),
        (NotADirectoryError(20, "Not a directory", b"/x"), "Error: /x: Not a directory. Finished work is kept", 2),
        (MemoryError(), "Error: out of memory. Finished shards and runs are kept", 1),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "Error: a library cannot be loaded (libtorch_cpu.so: failed to map segment from shared object): too little "
            "memory, or not installed",
            1,
        ),
    ],
)
def test_errors_of_the_system(error, line, code, capsys):
    def command():
        raise error

    assert (run_with_error_handling(command), capsys.readouterr().err) == (code, line + "\n")


def test_the_unforeseen_is_one_line_and_a_file(capsys, monkeypatch, tmp_path):
    def command():
        raise KeyError("x\ny")

    monkeypatch.setattr(error_handling.tempfile, "tempdir", str(tmp_path))
    assert run_with_error_handling(command) == 1
    (report,) = tmp_path.iterdir()
    assert capsys.readouterr().err == f"Error: unexpected KeyError: 'x\\ny'. Please report it, with {report}\n"
    assert report.read_text().startswith("Traceback (most recent call last):\n")
    monkeypatch.setattr(error_handling.tempfile, "tempdir", str(tmp_path / "gone"))
    assert run_with_error_handling(command) == 1
    assert capsys.readouterr().err == "Error: unexpected KeyError: 'x\\ny'. -v shows where\n"
    monkeypatch.setattr(error_handling.sys, "argv", ["unimos-pipe", "-v"])
    assert run_with_error_handling(command) == 1
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path):
    """The interpreter itself takes some time to start: the signal is sent once our own code runs."""
    (tmp_path / "click.py").write_text("import time; print('up', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "unimos_pipe", "manifest", "ls"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert (process.communicate()[1], process.returncode) == ("Interrupted. Nothing was begun.\n", 130)
