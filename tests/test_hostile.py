"""Files that others may have written: whatever they hold, the answer is one line or nothing, never a traceback.

The long, coverage-guided search is tests/fuzz/fuzz.py; what it found is kept here and in test_shard.py.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimos_pipe.errors import PipeError
from unimos_pipe.manifest import load_spec
from unimos_pipe.recipe import load_recipe
from unimos_pipe.run import finished_result

values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    ["name", "dataset", "classes", "encoder", "title", "domains", "pairs", "seeds", "variants", "templates", "x"]
)


def toml(table: dict) -> str:
    """A flat table as TOML."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())


SPEC = {"name": "d", "classes": ["a", "b"]}
RECIPE = {"name": "r", "dataset": "icons"}


@settings(max_examples=60, deadline=None)
@given(
    change=st.dictionaries(names, values, max_size=3),
    tail=st.sampled_from(["", "[domains]\na = {}", "[domains.a]\nx=1"]),
)
def test_any_table_is_a_spec_and_a_recipe_or_one_line(change, tail, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    for base, load in ((SPEC, load_spec), (RECIPE, load_recipe)):
        path.write_text(toml({**base, **change}) + "\n" + tail, encoding="utf-8")
        try:
            load(str(path))
        except PipeError as error:
            assert "\n" not in str(error) or any("\n" in str(value) for value in change.values())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_spec(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(data)
    for load in (load_spec, load_recipe):
        with pytest.raises(PipeError):
            load(str(path))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "3", "null", '"x"', "{", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_run_whose_files_are_not_a_runs_is_not_finished(text, tmp_path):
    good = json.dumps({"identity": "i"})
    for result, config in ((text, good), (good, text)):
        for name, content in (("result.json", result), ("config.json", config)):
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        assert finished_result(tmp_path, "i") is None
        assert finished_result(tmp_path) is None


def test_a_deeply_nested_spec_is_one_line(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 50_000)
    for load in (load_spec, load_recipe):
        with pytest.raises(PipeError, match=r"deep\.toml: cannot be read"):
            load(str(tmp_path / "deep.toml"))
