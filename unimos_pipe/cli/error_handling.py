"""How a command ends: every error becomes one line on stderr and an exit code, here and nowhere else."""

import contextlib
import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from unimos_pipe.base.errors import PATH_FAULTS, UnimosPipeError
from unimos_pipe.base.terminal import escape_control_chars

ANSWER_LOST = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}  # of a stream


class SigTerm(KeyboardInterrupt):
    """SIGTERM, which ends a command as orderly as Ctrl-C does."""


def run_with_error_handling(command: Callable[[], object]) -> int:
    """Run a command; returns its exit code, having said in one line what went wrong."""
    stdout = sys.stdout
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout  # click has met a closed pipe, put a stdout without flush here, and would leave silently
        return _say(f"Error: {_of_system(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))}", 1)
    except click.ClickException as error:
        error.message = escape_control_chars(error.message)
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except click.Abort as stop:
        return _stopped(stop.__cause__ or stop)
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except UnimosPipeError as error:
        return _say(f"Error: {error}", error.exit_code)
    except OSError as error:
        return _say(f"Error: {_of_system(error)}", 2 if error.errno in PATH_FAULTS else 1)
    except MemoryError:
        return _say("Error: out of memory. Finished shards and runs are kept", 1)
    except Exception as error:
        return _say(_unforeseen(error), 1)


def _stopped(stop: BaseException) -> int:
    if isinstance(stop, (click.Abort, EOFError)):
        return _say("Aborted: nobody answered the question", 1)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: None)  # on the way out; a second one ends it (cli/interrupts.py)
    word, code = ("Terminated", 143) if isinstance(stop, SigTerm) else ("Interrupted", 130)
    return _say(f"{word}. Finished shards and runs are kept; the same command goes on from there.", code)


def _of_system(error: OSError) -> str:
    if error.filename is None and error.errno in ANSWER_LOST:
        _mute_stdout()
        return f"cannot write the answer: {error.strerror or error}. Finished work is kept"
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"{place}{error.strerror or error}. Finished work is kept"


def _mute_stdout() -> None:
    """Send what is left in stdout's buffer nowhere: Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _unforeseen(error: Exception) -> str:
    """The line for an error that nobody thought of; the traceback goes to a file, and to the terminal with -v."""
    text = "".join(traceback.format_exception(error))
    if {"-v", "--verbose"} & set(sys.argv[1:]):
        with contextlib.suppress(OSError):
            click.echo(text, err=True)
    head = f"Error: unforeseen {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    try:
        handle, name = tempfile.mkstemp(prefix="unimos-pipe-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"{head}. -v shows where"
    return f"{head}. Please report it, with {Path(name)}"


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        click.echo(escape_control_chars(line, getattr(sys.stderr, "encoding", None) or "utf-8"), err=True)
    return code
