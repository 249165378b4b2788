"""The data set and the image folder of a run's target, found from the run."""

from pathlib import Path

from unimos_pipe.base.errors import InputError, ReadError
from unimos_pipe.data.build_manifest import file_size, find_domain_folder, find_root
from unimos_pipe.data.dataset_spec import DatasetSpec, find_spec_files, is_valid_name, load_spec
from unimos_pipe.runs.read_run import FinishedRun


def find_dataset(run: FinishedRun) -> DatasetSpec | None:
    """Return the data set of a run: from the spec file that it recorded, else from the package; None if neither exists.

    Raises:
        InputError: the spec file is not valid.
    """
    recorded = run.result.dataset_file
    packaged = find_spec_files().get(run.spec.dataset)
    path = Path(recorded) if recorded else packaged
    if path is None or not path.is_file():
        return None
    return load_spec(str(path))


def find_image_folder(run: FinishedRun, data_root: Path | None, cache: Path) -> Path | None:
    """Return the folder of the target's images; None if it is not found.

    The spec of the data set names it. Where the spec is not found, it is the domain's folder in ``data_root``, or
    ``data_root`` itself if it holds the first image of the predictions.
    """
    target = str(run.spec.target)
    try:
        spec = find_dataset(run)
    except (InputError, ReadError):
        spec = None
    if spec is not None:
        try:
            return find_domain_folder(spec, target, find_root(spec, data_root, cache))
        except (InputError, OSError):
            return None
    if data_root is None or not is_valid_name(target):
        return None
    if (data_root / target).is_dir():
        return data_root / target
    return data_root if _is_image_of(data_root, run.predictions[0]["path"]) else None


def _is_image_of(folder: Path, path: str) -> bool:
    return ".." not in Path(path).parts and file_size(folder / path) is not None
