"""One module opens files for reading (base/safe_open.py); whatever else opens one stands here, with its reason."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "unimos_pipe"
OPENERS = {  # names of functions and methods that open a file by its path, or could
    "open", "fdopen", "read_bytes", "read_text", "fromfile", "memmap", "loadtxt", "genfromtxt", "load_file",
    "safe_open", "File", "ParquetFile", "ZipFile", "is_zipfile", "load_checkpoint", "file_digest",
    "np.load", "torch.load", "jit.load", "json.load", "tomllib.load", "pickle.load", "load_from_path",
}  # fmt: skip
OURS = {"read_text", "read_bytes"}  # of safe_open, called as functions; as methods they are pathlib's
ALLOWED = {
    ("__main__", "os.open"): "/dev/null, in the place of a closed stream",
    ("__main__", "open"): "the streams of this process, by their numbers",
    ("base/safe_open", "os.open"): "the one place",
    ("base/safe_open", "os.fdopen"): "the one place",
    ("base/atomic_io", "os.open"): "to write, and to sync",
    ("base/atomic_io", "hashlib.file_digest"): "of a file that safe_open has opened",
    ("base/fork_pool", "open"): "streams of a process, by their numbers",
    ("base/optional_deps", "metadata.distribution('unimos-pipe').read_text"): "of the installed package",
    ("base/waits", "Path(f'/proc/{pid}/stat').read_text"): "/proc",
    ("deploy/decoder_process", "os.fdopen"): "its own stdout, by its number",
    ("bench/feature_pairs", "load_file"): "features that were prepared for a benchmark",
    ("bench/feature_pairs", "np.load"): "features that were prepared for a benchmark",
    ("bench/memory", "status.read_text"): "/proc",
    ("bench/store", "path.read_bytes"): "what plain reading takes is measured",
    ("cache/shard", "h5py.File"): "in memory",
    ("cli/review", "webbrowser.open"): "an address",
    ("cli/error_handling", "os.open"): "/dev/null, to write",
    ("cli/error_handling", "os.fdopen"): "to write",
    ("data/dataset_check", "hashlib.file_digest"): "of a file that safe_open has opened",
    ("data/image_decoding", "Image.open"): "of bytes, or of a file that safe_open has opened",
    ("data/build_manifest", "zipfile.ZipFile"): "the package's own archives",
    ("data/packed_images", "tarfile.open"): "of a file that safe_open has opened",
    ("data/packed_images", "pyarrow.parquet.ParquetFile"): "of a file that safe_open has opened",
    ("deploy/predict", "part.open"): "to write",
    ("extract/image_loader", "Path(os.devnull).open"): "/dev/null, to write",
    ("extract/jpeg_decoding", "os.fdopen"): "a pipe, and stderr",
    ("extract/load_weights", "open_clip.load_checkpoint"): "open_clip's reader, of a file that was hashed before",
    ("extract/load_weights", "torch.jit.load"): "torch's reader of archives, of a file that was hashed before",
    ("extract/load_weights", "torch.load"): "of bytes",
    ("extract/load_weights", "zipfile.ZipFile"): "of a file that was hashed before",
    ("extract/load_weights", "zipfile.is_zipfile"): "of a file that was hashed before",
    ("extract/weights_kinds", "zipfile.ZipFile"): "of a file that safe_open has opened",
    ("extract/weights_kinds", "zipfile.is_zipfile"): "of a file that safe_open has opened",
    ("interop/array_readers", "npz_file.zip.open"): "a member of an archive",
    ("interop/array_readers", "h5py.File"): "of a file that safe_open has opened",
    ("interop/array_readers", "np.load"): "of a file that safe_open has opened",
    ("interop/array_readers", "np.memmap"): "of a file that safe_open has opened",
    ("interop/array_readers", "pq.ParquetFile"): "of a file that safe_open has opened",
    ("interop/array_readers", "torch.load"): "of a file that safe_open has opened",
    ("interop/array_readers", "zipfile.ZipFile"): "of a file that safe_open has opened",
    ("interop/array_readers", "zipfile.is_zipfile"): "of a file that safe_open has opened",
    ("runs/published_results", "(Path(__file__).parent / 'paper_results.toml').read_text"): "the package's own",
    ("experiments/sweep", "Checkpoint.open"): "no file yet",
    ("training/batched_training", "Checkpoint.open"): "no file yet",
    ("runs/source_digest", "path.read_bytes"): "the package's own source",
    ("training/calibration_runs", "Checkpoint.open"): "no file yet",
    ("training/batching", "Path('/proc/meminfo').read_text"): "/proc",
}


def calls(path: Path) -> set[str]:
    """Every call in a module that may open a file, as it is written."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        last, pair = text.rpartition(".")[2], ".".join(text.split(".")[-2:])
        if (last in OPENERS or pair in OPENERS) and text not in OURS:
            found.add(text)
    return found


def test_every_file_is_opened_by_one_function():
    found = {
        (path.relative_to(PACKAGE).with_suffix("").as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for call in calls(path)
    }
    assert found == set(ALLOWED)


def test_libraries_are_given_open_files_and_no_paths():
    """Of those that could open by a path: the argument is a file, bytes, or memory."""
    tree = ast.parse((PACKAGE / "interop" / "array_readers.py").read_text(encoding="utf-8"))
    readers = {"File", "load", "memmap", "ParquetFile", "ZipFile", "is_zipfile"}
    given = {
        ast.unparse(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers
    }
    assert given == {"file"}
