"""Provenance of a run: versions, machine, commit and command line."""

import platform
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from unimos_pipe import __version__

PACKAGE = Path(__file__).parents[1]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return the versions and the machine for ``config.json``."""
    cuda = device.type == "cuda"
    return {
        "unimos-pipe": __version__,
        "commit": package_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


@cache
def package_commit() -> str | None:
    """The commit of the checkout that the package lies in, with ``-dirty`` after it where files differ; else None."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(PACKAGE), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed inside another project's checkout
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def command_line() -> str:
    """Return the command line of this process."""
    program, *words = sys.argv or [""]
    name = Path(program).name
    return shlex.join(["unimos-pipe" if name in ("unimos-pipe", "__main__.py") else name, *words])
