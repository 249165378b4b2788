"""``unimos-pipe``, also as ``python -m unimos_pipe``."""

import contextlib
import os
import signal
import sys


def _stop(*_) -> None:
    """Ctrl-C while modules are imported: there is nothing to put in order, and imports must not swallow it."""
    os.write(2, b"Interrupted. Nothing was begun.\n")
    os._exit(130)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    The work is done all the same, and no file that is opened later becomes the standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _restart_in_utf8_mode() -> None:
    """Replace this process by one that decodes file names as UTF-8, where the locale has another encoding.

    The streams keep the locale's encoding.
    """
    if os.name != "posix" or sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    encoding = getattr(sys.stdout, "encoding", "ascii")
    streams = {"PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING", f"{encoding}:backslashreplace")}
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **streams, "PYTHONUTF8": "1"})


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    _restart_in_utf8_mode()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    from unimos_pipe.cli.interrupts import CODES, end_when_told, exit_at_once
    from unimos_pipe.cli.main import main as command

    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end_when_told()
    try:
        command(prog_name="unimos-pipe")
    except SystemExit as end:
        if end.code in {code for _, code in CODES.values()}:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            exit_at_once(end.code)
        raise


if __name__ == "__main__":
    main()
