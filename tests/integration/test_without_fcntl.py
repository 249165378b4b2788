"""Where the system has no fcntl, stage two works all the same, and says nothing of it."""

import subprocess
import sys

_RUN = """
import sys
sys.modules["fcntl"] = None  # importing it raises ImportError
from unimos_pipe.cli.main import main
main(sys.argv[1:])
"""


def test_adapt_runs_where_fcntl_is_absent(icons_cache, tmp_path):
    command = ["adapt", "--dataset", "icons", "--cache", icons_cache, "--src", "line", "--tgt", "sketch"]
    command += ["--epochs", "1", "--no-calibrate", "--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", _RUN, *command], capture_output=True, text=True)
    warning, place, further = done.stderr.splitlines()  # one epoch: the branches disagree
    assert (done.returncode, place) == (0, f"  written to {tmp_path / 'run'}")
    assert further.startswith("next: unimos-pipe report ")
    assert warning.startswith("Warning: VAC and LAC disagree on ")
    assert done.stdout.startswith("line -> sketch, full,epochs=1, seed 0 (transductive): accuracy UniMoS ")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
