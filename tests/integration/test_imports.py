"""Data flows one way: a folder imports only from those below it, and each heavy library has one door."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from unimos_pipe.base.encoder_presets import EMBEDDED
from unimos_pipe.data.file_digests import MIN_AGE

PACKAGE = Path(__file__).parents[2] / "unimos_pipe"
TORCHLESS = {"data", "cache", "runs", "photos", "report"}
APART = {"methods", "extract", "report"}  # know nothing of each other
DOORS = {
    "open_clip": {
        "extract/activation",
        "extract/load_weights",
        "extract/encoder",
        "extract/views",
        "extract/fused_convolutions",
        "extract/fused_transformer",
        "extract/tokenizer",
        "extract/weights",
    },
    "h5py": {"cache/shard", "interop/array_readers"},
    "pyarrow": {"interop/array_readers", "data/packed_images"},
    "rich": {"base/terminal"},
    "PIL": {"data/image_decoding", "data/grey_range", "data/image_files"},
    "pillow_heif": {"data/image_decoding"},
    "sklearn": {
        "methods/label_selection",
        "methods/source_probe",
        "evaluation/baselines",
        "deploy/sklearn_estimator",
        "report/modality_gap",
    },
    "scipy": {"methods/zlap", "report/significance"},
    "ray": {"base/ray_cluster"},
    "matplotlib": {"report/figures"},
    "jinja2": {"report/page"},
    "fastapi": {"photos/review_server"},
    "uvicorn": {"photos/review_server"},
    "onnxruntime": {"deploy/export"},
    "huggingface_hub": {"deploy/adapted_model", "extract/hub"},
}


def order() -> list[str]:
    """The folders from the top floor down, as the package's README lists them."""
    listing = (PACKAGE / "README.md").read_text(encoding="utf-8").split("```")[1]
    return re.findall(r"^(\w+)(?:/|\.py) ", listing, re.MULTILINE)


def modules() -> dict[str, Path]:
    """Every module but the package's own two, by its path without suffix: ``cache/shard``."""
    found = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: path for name, path in found.items() if name not in ("__init__", "__main__")}


@functools.cache
def imported(path: Path) -> set[str]:
    """Every module a file names in an import, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def folders_used(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path) if name.startswith("unimos_pipe."))
    return {part[1] for part in parts} & set(order())


def test_the_readme_lists_every_folder_and_nothing_else_stands_at_the_root():
    assert sorted(order()) == sorted({name.partition("/")[0] for name in modules()})
    assert [name for name in modules() if "/" not in name] == ["api"]


def test_no_import_runs_upwards():
    floors = order()
    for name, path in modules().items():
        home = name.partition("/")[0]
        above = {folder for folder in folders_used(path) if floors.index(folder) < floors.index(home)}
        assert not above, f"{name} imports from {above}, which stand above it"
        if home in APART:
            assert not folders_used(path) & APART - {home}, (
                f"{name}: methods, extract and report know nothing of each other"
            )


def test_what_lies_below_the_methods_imports_no_torch():
    for name, path in modules().items():
        if name.partition("/")[0] in TORCHLESS:
            heavy = {used for used in imported(path) if used.split(".")[0] in ("torch", "torchvision", "open_clip")}
            assert not heavy | ({"safetensors.torch"} & imported(path)), f"{name} imports {heavy}"


def test_no_folder_has_a_circle():
    uses = {
        name: {used.replace(".", "/").removeprefix("unimos_pipe/") for used in imported(path)} & set(modules())
        for name, path in modules().items()
    }
    while leaves := {name for name, used in uses.items() if not used & set(uses)}:
        uses = {name: used for name, used in uses.items() if name not in leaves}
    assert not uses, f"modules that import each other: {sorted(uses)}"


def test_each_heavy_library_has_one_door():
    for name, path in modules().items():
        for library, doors in DOORS.items():
            found = any(used == library or used.startswith(f"{library}.") for used in imported(path))
            assert not found or name in doors, f"{name} imports {library}"


def test_stage_two_needs_neither_images_nor_clip():
    """Nor do answers from features: no scikit-learn, scipy, and torch._dynamo, which torchvision and torch.optim.LBFGS
    bring in; each takes a second to import.
    """
    code = """
import sys, torch, unimos_pipe.api, unimos_pipe.deploy.choose_images, unimos_pipe.deploy.export
import unimos_pipe.deploy.predict, unimos_pipe.interop.import_features
from unimos_pipe.evaluation.calibration import fit_temperature
from unimos_pipe.methods import auto
from unimos_pipe.methods.from_arrays import task_from_arrays
rows, labels = torch.randn(40, 8).numpy(), torch.arange(40) % 4
task = task_from_arrays((rows, labels.tolist()), rows, rows[:4], range(4))
fit_temperature(auto.fit(task).logits, labels)
heavy = "open_clip", "unimos_pipe.extract.image_loader", "scipy", "sklearn", "torch._dynamo"
print([name for name in heavy if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_an_extraction_with_nothing_to_do_loads_no_model_and_no_torch(icons_cache, tmp_path):
    """Once the encoder is remembered, what it needs is the cache; the weights are old enough in any checkout."""
    cache = tmp_path / "cache"
    shutil.copytree(icons_cache, cache)
    for path in EMBEDDED.iterdir():
        assert max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) + MIN_AGE < time.time_ns()
    code = f"""
import sys
from unimos_pipe.cli.main import main
try:
    main(["extract", "--dataset", "icons", "--all", "--cache", {str(cache)!r}])
finally:
    print(sorted({{"torch", "torchvision", "open_clip", "huggingface_hub"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n" and done.stderr.count(" 0 encoded") == 4, done.stderr


def test_the_command_line_alone_imports_neither_numpy_nor_pil():
    code = "import sys, unimos_pipe.cli.main; print(sorted({'numpy', 'PIL', 'h5py', 'torch'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_table_of_common_changes_names_what_exists():
    """Every file is there, and every name occurs in the source."""
    table = (PACKAGE / "README.md").read_text(encoding="utf-8").partition("## Where to make common changes")[2]
    names = set(re.findall(r"`([^`]+)`", table))
    files = {name for name in names if "/" in name and "*" not in name}
    roots = (PACKAGE, PACKAGE.parent)
    assert [name for name in sorted(files) if not any((root / name).exists() for root in roots)] == []
    sources = "\n".join(path.read_text(encoding="utf-8") for path in [*PACKAGE.rglob("*.py"), Path(__file__)])
    symbols = {part for name in names if "/" not in name for part in name.split(".") if part.isidentifier()}
    assert [name for name in sorted(symbols) if not re.search(rf"\b{name}\b", sources)] == []
    assert len(files) > 25 and len(symbols) > 15
