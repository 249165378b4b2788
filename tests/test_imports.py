"""Data flows one way: a file imports only from files above it, and each heavy library has one door."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "unimos_pipe"
ROOMS = [
    *("__init__", "errors", "config", "files", "prompts", "manifest", "listfiles", "scan", "own_data", "paper"),
    *("identity", "memory", "decode", "images", "manifest_check", "weights", "encoder", "device"),
    *(
        "layout",
        "shard",
        "engine",
        "encode",
        "extract",
        "cluster",
        "store",
        "cache",
        "task",
        "heads",
        "layers",
        "losses",
    ),
    *("schedules", "draws", "pseudo_labels", "step", "trainer", "evaluate", "selection", "run", "checkpoint", "adapt"),
    *("baselines", "recipe", "sweep", "sweep_cluster", "summary", "bench", "bench_adapt", "forecast", "console"),
    *("card", "model", "predict", "export", "api"),
    *("report_runs", "report_paper", "report_tables", "report_gap", "report_grid", "report_errors", "report_origin"),
    *("report_figures", "report"),
]
DOORS = {
    "open_clip": {"encoder", "weights"},
    "h5py": {"shard"},
    "rich": {"console"},
    "PIL": {"decode"},
    "sklearn": {"baselines", "report_gap"},
    "ray": {"engine"},
    "matplotlib": {"report_figures"},
    "jinja2": {"report"},
    "onnxruntime": {"export"},
    "huggingface_hub": {"model"},
}


def imported(path: Path) -> set[str]:
    """Every module a file names in an import, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path) if name.startswith("unimos_pipe"))
    return {part[1] for part in parts if len(part) > 1 and part[1] in ROOMS}


def test_no_import_runs_backwards():
    files = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__main__")
    assert {path.stem for path in files} == set(ROOMS)
    for path in files:
        later = {room for room in rooms(path) if ROOMS.index(room) >= ROOMS.index(path.stem)}
        assert not later, f"{path.name} imports {later}, which stand below it"


def test_the_command_line_is_imported_by_nothing_below_it():
    for path in PACKAGE.glob("*.py"):
        if path.stem != "__main__":
            assert not any(name.startswith("unimos_pipe.cli") for name in imported(path)), path.name


def test_each_heavy_library_has_one_door():
    for path in PACKAGE.rglob("*.py"):
        for library, doors in DOORS.items():
            found = any(name == library or name.startswith(f"{library}.") for name in imported(path))
            assert not found or path.stem in doors, f"{path.name} imports {library}"


def test_stage_two_needs_neither_images_nor_clip():
    """What adapt imports brings in no encoder, no image decoder and no data loader of ours."""
    code = "import sys, unimos_pipe.sweep; print([m for m in ('open_clip', 'unimos_pipe.images') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
