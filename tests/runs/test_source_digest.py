"""Digests of source: what they follow, and what they pass over."""

import subprocess
import sys

import pytest

from unimos_pipe.runs.source_digest import changed_modules, source_digests


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a method that imports a helper and one of the package's own methods."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "method.py").write_text(
        '"""A method."""\nimport json\nfrom unimos_pipe.methods import zero_shot\n\n'
        "def fit(task):\n    from .helper import double\n    return double(zero_shot.fit(task))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_imports_are_followed_in_the_package_and_in_methods_alone(package):
    digests = source_digests(["outside.method"])
    assert [name for name in digests if name.startswith("outside")] == [
        "outside.helper",
        "outside.method",
    ]
    rest = {name for name in digests if not name.startswith("outside")}
    assert {"unimos_pipe.methods.zero_shot", "unimos_pipe.methods.base"} <= rest
    assert all(name.startswith("unimos_pipe.methods") for name in rest)
    assert all(len(digest) == 16 for digest in digests.values())


def test_comments_docstrings_and_layout_do_not_count_and_code_does(package):
    before = source_digests(["outside.method"])
    helper = package / "helper.py"
    helper.write_text('"""Helps."""\n\n# twice\ndef double(x):\n    """Twice x."""\n    return (2 * x)\n')
    assert changed_modules(before) == []
    helper.write_text("def double(x):\n    return 3 * x\n")
    assert changed_modules(before) == ["outside.helper"]
    helper.unlink()
    assert changed_modules(before) == ["outside.helper"]


def test_a_script_is_read_by_its_path_and_a_module_without_source_is_an_error(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("def fit(task):\n    return task\n")
    assert list(source_digests([str(script)])) == [str(script)]
    with pytest.raises(FileNotFoundError, match=r"^nowhere\.method has no source file$"):
        source_digests(["nowhere.method"])


def test_nothing_is_imported_to_find_it_out():
    code = (
        "import sys; from unimos_pipe.runs.source_digest import source_digests; "
        "source_digests(['unimos_pipe.methods.unimos.trainer']); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
