"""Files that others may have written: whatever they hold, the answer is one line or nothing, never a traceback.

The long, coverage-guided search is tests/integration/fuzz/fuzz.py; what it found is kept here and in test_shard.py.
"""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from factories.tasks import made_heads, small_method
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import unimos_pipe
from unimos_pipe.base.errors import InputError, UnimosPipeError
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.photos.image_folder import find_image_folder
from unimos_pipe.runs.method_names import METHODS
from unimos_pipe.runs.read_recipe import load_recipe
from unimos_pipe.runs.read_run import RunFolderError, read_run

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
        except UnimosPipeError as error:
            assert "\n" not in str(error) or any("\n" in str(value) for value in change.values())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_spec(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(data)
    for load in (load_spec, load_recipe):
        with pytest.raises(UnimosPipeError):
            load(str(path))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "3", "null", '"x"', "{", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_run_whose_files_are_not_a_runs_is_not_finished(text, tmp_path):
    good = json.dumps({"identity": "i"})
    for result, config in ((text, good), (good, text)):
        for name, content in (("result.json", result), ("config.json", config)):
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RunFolderError):
            read_run(tmp_path)


def test_a_deeply_nested_spec_is_one_line(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 50_000)
    for load in (load_spec, load_recipe):
        with pytest.raises(UnimosPipeError, match=r"deep\.toml: cannot be read"):
            load(str(tmp_path / "deep.toml"))


HUGE = f"0x{'f' * 5000}"  # more digits than Python turns into decimals
LONG = f"1{'0' * 299} and so on"  # a number of 400 digits, in a message
BITS = "expected a number of at most 64 bits, got"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"seeds = {HUGE}", f"seeds: {BITS} a value too large to show"),
        (f"seeds = 1{'0' * 400}", f"seeds: {BITS} {LONG}"),
        (f"options.loss.alpha = 1{'0' * 400}", f"options.loss.alpha: {BITS} {LONG}"),
        (f"title = [{HUGE}]", "title: expected str, got a value too large to show"),
        (f"title{'.a' * 2_000} = 1", "title: expected str, got a value too large to show"),
        (f"options.loss.alpha{'.a' * 2_000} = 1", "options.loss.alpha: expected float, got a value too large to show"),
        (f"grid.'loss.alpha' = {HUGE}", "grid loss.alpha: expected a list of values, got a value too large to show"),
        (f"grid.'loss.alpha' = [{HUGE}]", f"grid loss.alpha: {BITS} a value too large to show"),
    ],
)
def test_a_recipes_numbers_and_tables_without_end_are_one_line(text, fault, tmp_path):
    path = tmp_path / "huge.toml"
    path.write_text(f"{toml(RECIPE)}\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    assert str(caught.value) == f"{path}: {fault}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"[domains]\na = {HUGE}", "expected a table, got a value too large to show"),
        (f"[domains]\na.images = {HUGE}", f"domains.a: images: {BITS} a value too large to show"),
        (
            f"[domains]\na.per_class.a = {HUGE}",
            "domains.a.per_class.a: expected a count, got a value too large to show",
        ),
        (f"[domains]\na = {{}}\n[display]\na = {HUGE}", "display.a: expected a text, got a value too large to show"),
    ],
)
def test_a_specs_numbers_without_end_are_one_line(text, fault, tmp_path):
    path = tmp_path / "huge.toml"
    path.write_text(f"{toml(SPEC)}\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_spec(str(path))
    assert str(caught.value) == f"{path}: {fault}"


@pytest.fixture
def export(tmp_path):
    """``export(config={...}, **tensors)``: the folder of an exported model of 2 classes, sound but for those."""
    method = small_method()

    def write(config=(), **tensors: torch.Tensor):
        encoder = dict.fromkeys(EncoderIdentity.__dataclass_fields__, "0") | {
            "precision": "fp32",
            "activation": "GELU",
            "weights_sha256": "0" * 64,
        }
        sound = {"format": 2, "classes": ["a", "b"], "encoder": encoder, "encoder_id": "e"}
        sound |= {"about": {"dataset": "d", "source": "s", "target": "t"}}
        sound |= {"method": "unimos", "options": asdict(method), "temperature": None}
        (tmp_path / "config.json").write_text(json.dumps({**sound, **dict(config)}))
        state = made_heads(method, dim=4, classes=2, dtype=torch.float32).run_state(0) | {
            "text_features": torch.eye(2, 4)
        }
        save_file({**state, **tensors}, tmp_path / "model.safetensors")
        return tmp_path

    return write


def test_a_sound_export_answers(export):
    """One of format 1, too, when UniMoS was the only method."""
    found = unimos_pipe.load(export(), "cpu", allow_edited=True).predict_features(torch.ones(3, 4))
    assert found.probabilities.shape == (3, 2) and found.raw.equal(found.probabilities)
    old = unimos_pipe.load(
        export({"format": 1, "method": asdict(small_method())}), "cpu", allow_edited=True
    ).predict_features(torch.ones(3, 4))
    assert old.probabilities.equal(found.probabilities)


ABLE = ", ".join(METHODS)


@pytest.mark.parametrize(
    ("config", "tensors", "fault"),
    [
        ({"options": 0}, {}, "config.json: options: expected a table, got 0"),
        ({"options": None}, {}, "config.json: options: expected a table, got None"),
        ({"method": []}, {}, f"config.json: method: expected one of {ABLE}, got []"),
        ({"method": "zlap"}, {}, "tensors: expected those of zlap, got others ('weight')"),
        ({"method": "fused"}, {}, "tensors: expected those of fused, got others ('weight')"),
        (
            {"method": "fused"},
            {"weight": torch.ones(3, 2), "bias": torch.ones(2), "answered": torch.ones(2, dtype=torch.bool)},
            "tensors: expected those of fused, got others (mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2))",
        ),
        (
            {"method": "fused"},
            {"weight": torch.ones(4, 3), "bias": torch.ones(3), "answered": torch.ones(3, dtype=torch.bool)},
            "tensors: expected logits for 2 classes, got [1, 3]",
        ),
        ({"temperature": 0}, {}, "config.json: temperature: expected a number from 0.01 to 100.0, got 0"),
        ({"temperature": "x"}, {}, "config.json: temperature: expected a number from 0.01 to 100.0, got 'x'"),
        ({"encoder_id": 0}, {}, "config.json: encoder and encoder_id: expected strings"),
        ({"options": {"loss": {"alpha": 10**400}}}, {}, f"config.json: options: loss.alpha: {BITS} {LONG}"),
        ({"options": {"train": {"epochs": 10**400}}}, {}, f"config.json: options: train.epochs: {BITS} {LONG}"),
        *(
            (
                {"options": {"loss": {"extra": value}}},
                {},
                f"config.json: options: loss.extra: expected pairs of a name and a weight, got {value!r}",
            )
            for value in (0, [0], [["a"]], "ab")
        ),
        (
            {"options": {"heads": {"bottleneck_dim": 2**62}}},
            {},
            "tensors: expected bottleneck_linear.weight of shape (4611686018427387904, 4), got (12, 4)",
        ),
        ({}, {"text_features": torch.zeros(2, 0)}, "text_features: expected (2, D), got [2, 0]"),
        (
            {},
            {"text_features": torch.zeros(2, 300_000, dtype=torch.uint8)},
            "tensors: expected vision_separator.weight of shape (300000, 300000), got (4, 4)",
        ),
        (
            {},
            {"label_prior": torch.ones(2, dtype=torch.int32)},
            "tensors: expected all float32, or all float64, got float32, int32",
        ),
    ],
)
def test_a_hostile_export_is_one_line(config, tensors, fault, export):
    with pytest.raises(InputError) as caught:
        unimos_pipe.load(export(config, **tensors), "cpu", allow_edited=True)
    assert str(caught.value) == f"the model's {fault}"


def test_a_deeply_nested_export_is_one_line(export):
    folder = export()
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"config\.json cannot be read: maximum recursion depth exceeded"):
        unimos_pipe.load(folder, "cpu")


def test_a_spec_can_unpack_only_what_the_package_holds(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(f'{toml(SPEC)}\nembedded = "../../x.zip"\n[domains]\na = {{}}\n')
    with pytest.raises(InputError) as caught:
        load_spec(str(path))
    assert str(caught.value) == f"{path}: embedded '../../x.zip': the package has icons.zip"


def test_a_runs_target_cannot_leave_the_images_folder(tmp_path):
    (tmp_path / "phone").mkdir()
    (tmp_path / "shop" / "phone").mkdir(parents=True)
    for target, folder in (("phone", tmp_path / "shop" / "phone"), ("../phone", None), (".", None)):
        run = SimpleNamespace(
            spec=SimpleNamespace(dataset="own", target=target), result=SimpleNamespace(dataset_file=None)
        )
        assert find_image_folder(run, tmp_path / "shop", tmp_path) == folder
