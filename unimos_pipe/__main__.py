"""``unimos-pipe``, also as ``python -m unimos_pipe``."""

import os
import signal


def _stop(*_) -> None:
    """Ctrl-C while modules are imported: there is nothing to put in order, and imports must not swallow it."""
    os.write(2, b"Interrupted. Nothing was begun.\n")
    os._exit(130)


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    from unimos_pipe.cli.interrupts import end_when_told
    from unimos_pipe.cli.main import main as command

    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end_when_told()
    command(prog_name="unimos-pipe")


if __name__ == "__main__":
    main()
