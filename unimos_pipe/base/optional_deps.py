"""Optional dependencies: the packages of each extra and the command that installs it."""

import importlib.util
import json
import shlex
import sys
from importlib import metadata
from pathlib import Path

from unimos_pipe.base.errors import InputError

EXTRAS = {  # of pyproject.toml, by the names under which they are imported
    "ray": ("ray",),
    "report": ("jinja2", "matplotlib"),
    "siglip": ("transformers",),
    "parquet": ("pyarrow",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "python_multipart", "uvicorn"),
}


def find_missing_packages(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def require_extra(what: str, extra: str) -> None:
    """Raise InputError with the install command if a package of an extra that ``what`` needs is missing."""
    if missing := find_missing_packages(extra):
        raise InputError(f"{what} needs {', '.join(missing)}", todo=f"Install it with: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return the pip command that adds an extra, from the source that this package was installed from."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").is_file():
        return f"{pip} -e {shlex.quote(f'{clone}[{extra}]')}"
    return f"{pip} {shlex.quote(f'unimos-pipe[{extra}]{_install_source()}')}"


def _install_source() -> str:
    """`` @ URL`` of the wheel, folder or repository that pip was given (PEP 610); nothing where it was an index."""
    try:
        record = json.loads(metadata.distribution("unimos-pipe").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        record = {}
    if "vcs_info" in record:
        return f" @ {record['vcs_info']['vcs']}+{record['url']}@{record['vcs_info']['commit_id']}"
    return f" @ {record['url']}" if record else ""
