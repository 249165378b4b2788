"""What exists below a folder, to show that a failed command left it as it was."""

import hashlib
import os
from pathlib import Path


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder -> what it is: a file's digest, a link's target, or ``folder``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            kind = f"link to {os.readlink(path)}"  # noqa: PTH115 - as it is written
        elif path.is_dir():
            kind = "folder"
        elif path.is_file():
            kind = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            kind = "special"
        found[path.relative_to(folder).as_posix()] = kind
    return found


def damage(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Paths that are gone or other than before; what is new is none."""
    return [path for path, kind in before.items() if after.get(path) != kind]
