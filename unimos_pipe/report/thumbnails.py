"""Thumbnails of target images, if the images are available."""

import base64
import io
from pathlib import Path

from unimos_pipe.base.errors import InputError, ReadError
from unimos_pipe.data.build_manifest import find_domain_folder, find_root
from unimos_pipe.data.dataset_spec import find_spec_files, is_valid_name, load_spec
from unimos_pipe.data.image_decoding import decode
from unimos_pipe.runs.read_run import FinishedRun

THUMBNAIL = 112  # pixels


def find_image_folder(run: FinishedRun, data_root: Path | None, cache: Path) -> Path | None:
    """Return the folder of the target's images; None if it is not found.

    For a custom data set this is the domain's folder in ``data_root``, or ``data_root`` itself if it holds the first
    image of the predictions.
    """
    target = str(run.spec.target)
    spec_path = find_spec_files().get(run.spec.dataset)
    if spec_path is None:
        if data_root is None or not is_valid_name(target):
            return None
        if (data_root / target).is_dir():
            return data_root / target
        return data_root if encode_thumbnail(data_root, run.predictions[0]["path"]) else None
    try:
        spec = load_spec(str(spec_path))
        return find_domain_folder(spec, target, find_root(spec, data_root, cache))
    except (InputError, OSError):
        return None


def encode_thumbnail(folder: Path, path: str) -> str:
    """Return a small JPEG of an image as a ``data:`` URL; empty if it cannot be read or lies outside the folder."""
    try:
        file = (folder / path).resolve()
    except (OSError, RuntimeError):  # links that form a loop
        return ""
    if not file.is_relative_to(folder.resolve()):
        return ""
    try:
        image = decode(file)
    except ReadError as error:
        if not error.lasting:
            raise
        return ""
    except Exception:  # decoders raise any type; the row is then shown without an image
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
