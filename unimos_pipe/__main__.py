"""``unimos-pipe``, also as ``python -m unimos_pipe``."""

import contextlib
import os
import signal
import sys


def _stop(*_) -> None:
    """Ctrl-C while modules are imported: there is nothing to put in order, and imports must not swallow it."""
    os.write(2, b"Interrupted. Nothing was begun.\n")
    os._exit(130)


def main() -> None:
    """Run the command line."""
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
