"""Top-level error handling: exception -> one-line message and exit code."""

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

NO_ARGS_IS_HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())  # of click 8.2 and later
OUTPUT_LOST = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}  # of a stream


class SigTerm(KeyboardInterrupt):
    """SIGTERM; ends a command as Ctrl-C does."""


def run_with_error_handling(command: Callable[[], object]) -> int:
    """Run a command, print a one-line message if it fails, and return its exit code."""
    stdout = sys.stdout
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout  # click has met a closed pipe, put a stdout without flush here, and would leave silently
        return _print_error(f"Error: {_format_os_error(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))}", 1)
    except click.ClickException as error:
        if not isinstance(error, NO_ARGS_IS_HELP):  # its message is the help
            error.message = escape_control_chars(error.message)
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except click.Abort as stop:
        return _report_interrupt(stop.__cause__ or stop)
    except KeyboardInterrupt as stop:
        return _report_interrupt(stop)
    except UnimosPipeError as error:
        return _print_error(f"Error: {error}", error.exit_code)
    except OSError as error:
        return _print_error(f"Error: {_format_os_error(error)}", 2 if error.errno in PATH_FAULTS else 1)
    except MemoryError:
        return _print_error("Error: out of memory. Finished shards and runs are kept", 1)
    except Exception as error:
        if isinstance(error, ImportError) and "shared object" in str(error):
            cause = " ".join(str(error).split())[:200]
            return _print_error(f"Error: a library cannot be loaded ({cause}): too little memory, or not installed", 1)
        return _print_error(_format_unexpected(error), 1)


def _report_interrupt(stop: BaseException) -> int:
    if isinstance(stop, (click.Abort, EOFError)):
        return _print_error("Aborted: confirmation needed (pass --yes)", 1)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: None)  # on the way out; a second one ends it (cli/interrupts.py)
    word, code = ("Terminated", 143) if isinstance(stop, SigTerm) else ("Interrupted", 130)
    return _print_error(f"{word}. Finished shards and runs are kept; the same command resumes.", code)


def _format_os_error(error: OSError) -> str:
    if error.filename is None and error.errno in OUTPUT_LOST:
        _mute_stdout()
        return f"cannot write the output: {error.strerror or error}. Finished work is kept"
    path = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"{path}{error.strerror or error}. Finished work is kept"


def _mute_stdout() -> None:
    """Discard what stdout still buffers, which Python would fail to flush at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _format_unexpected(error: Exception) -> str:
    """Return the line for an unexpected error. The traceback goes to a file, and with -v to the terminal."""
    text = "".join(traceback.format_exception(error))
    if {"-v", "--verbose"} & set(sys.argv[1:]):
        with contextlib.suppress(OSError):
            click.echo(text, err=True)
    head = f"Error: unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    try:
        handle, name = tempfile.mkstemp(prefix="unimos-pipe-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"{head}. -v shows where"
    return f"{head}. Please report it, with {Path(name)}"


def _print_error(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        click.echo(escape_control_chars(line, getattr(sys.stderr, "encoding", None) or "utf-8"), err=True)
    return code
