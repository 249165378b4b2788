"""The public names have types: a type checker accepts a right program and reports wrong ones."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import unimos_pipe

ROOT = Path(__file__).parents[2]
SETTINGS = """\
[mypy]
follow_imports = silent
[mypy-torch.*,sklearn.*,scipy.*,h5py.*,pandas.*,ray.*]
follow_imports = skip
"""
RIGHT = """\
from pathlib import Path
from typing import assert_type

import unimos_pipe

features = unimos_pipe.feature_set("icons")
recipe = unimos_pipe.Recipe("mine", "icons", pairs=("line->sketch",), seeds=2)
sweep = unimos_pipe.run_sweep(recipe, features, options=unimos_pipe.SweepOptions(show=("oracle",)))
assert_type(sweep, unimos_pipe.SweepResult)
assert_type(sweep.mean("full"), float)
runs = unimos_pipe.adapt_pairs(features, [("line", "sketch")], unimos_pipe.AdaptOptions(method="fused"))
assert_type(runs, list[unimos_pipe.RunResult])
assert_type(runs[0].accuracy, float | None)
model = unimos_pipe.load("model")
assert_type(model, unimos_pipe.AdaptedModel)
predictions = model.predict([Path("photo.jpg")])
assert_type(predictions, unimos_pipe.Predictions)
assert_type(predictions.labels, list[str | None])
"""
WRONG = {  # a program: the code of its error
    'unimos_pipe.run_sweep("icons_ablation", runs=3)': "arg-type",
    'unimos_pipe.adapt_pairs("icons", ["line->sketch"])': "list-item",
    'unimos_pipe.load("model").predict(3)': "arg-type",
    'unimos_pipe.AdaptOptions("full")': "call-arg",
    "unimos_pipe.does_not_exist": "attr-defined",
}


def test_a_type_checker_reads_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    (tmp_path / "right.py").write_text(RIGHT)
    for number, line in enumerate(WRONG):
        (tmp_path / f"wrong{number}.py").write_text(f"import unimos_pipe\n\n{line}\n")
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *files],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    errors = [
        line.partition(":")[0] + line[line.rindex("[") :] for line in ran.stdout.splitlines() if ": error: " in line
    ]
    assert sorted(errors) == [f"wrong{number}.py[{code}]" for number, code in enumerate(WRONG.values())], (
        ran.stdout + ran.stderr
    )


def test_the_names_for_checkers_are_those_that_are_imported():
    tree = ast.parse(Path(unimos_pipe.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    checked = {alias.asname: line.module for line in block.body for alias in line.names}
    assert checked == unimos_pipe._PUBLIC
    assert {*checked, "__version__"} == set(unimos_pipe.__all__)
    for name, module in checked.items():
        assert getattr(unimos_pipe, name) is getattr(sys.modules[module], name)
    with pytest.raises(AttributeError, match=r"^module 'unimos_pipe' has no attribute 'does_not_exist'$"):
        unimos_pipe.does_not_exist  # noqa: B018


@pytest.mark.parametrize("name", [name for name in unimos_pipe.__all__ if name != "__version__"])
def test_every_parameter_and_result_is_annotated(name):
    public = getattr(unimos_pipe, name)
    if inspect.isfunction(public):
        signature = inspect.signature(public)
        assert signature.return_annotation is not signature.empty
        missing = [key for key, part in signature.parameters.items() if part.annotation is part.empty]
        assert missing == []


@pytest.mark.parametrize(
    "name", [name for name in unimos_pipe.__all__ if name.endswith(("Options", "Trial", "Location"))]
)
def test_options_are_built_with_keywords(name):
    public = getattr(unimos_pipe, name)
    kinds = {part.kind for part in inspect.signature(public).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
