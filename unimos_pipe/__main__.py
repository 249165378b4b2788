"""``python -m unimos_pipe`` is ``unimos-pipe``."""

from unimos_pipe.cli.main import main

main(prog_name="unimos-pipe")
