"""A missing extra is told with the command that installs it, as fits how the package itself was installed."""

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from unimos_pipe.base import optional_deps
from unimos_pipe.base.errors import InputError

PROJECT = Path(__file__).parents[2]
PIP = f"{sys.executable} -m pip install"
WHEEL = "file:///downloads/unimos_pipe-0.1.0-py3-none-any.whl"


def test_the_extras_are_those_of_the_project():
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*optional_deps.EXTRAS, "test"} == {*declared}
    for name, packages in optional_deps.EXTRAS.items():
        assert [line.partition(">")[0].replace("-", "_") for line in declared[name]] == [*packages]


def test_in_a_clone_it_is_the_clones_path(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name != "jinja2" else object())
    with pytest.raises(InputError) as caught:
        optional_deps.require_extra("report", "report")
    assert str(caught.value) == f"report needs matplotlib. Install it with: {PIP} -e '{PROJECT}[report]'"


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (None, "unimos-pipe[onnx]"),
        ({"url": WHEEL, "archive_info": {}}, f"unimos-pipe[onnx] @ {WHEEL}"),
        (
            {"url": "https://host/unimos.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "unimos-pipe[onnx] @ git+https://host/unimos.git@c0ffee",
        ),
    ],
)
def test_elsewhere_it_is_what_pip_was_given(record, named, monkeypatch, tmp_path):
    monkeypatch.setattr(optional_deps, "__file__", str(tmp_path / "unimos_pipe" / "base" / "optional_deps.py"))
    read = SimpleNamespace(read_text=lambda name: record and json.dumps(record))
    monkeypatch.setattr(metadata, "distribution", lambda name: read)
    assert optional_deps.install_command("onnx") == f"{PIP} '{named}'"


def test_without_any_record_it_is_the_name(monkeypatch, tmp_path):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(optional_deps, "__file__", str(tmp_path / "unimos_pipe" / "base" / "optional_deps.py"))
    monkeypatch.setattr(metadata, "distribution", unknown)
    assert optional_deps.install_command("ray") == f"{PIP} 'unimos-pipe[ray]'"
