"""Unpacking of packed images to a folder of image files, as a scan reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import atomic_replace_dir, write_text
from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.data.packed_images import find_packed_files, read_packed
from unimos_pipe.data.row_lists import ManifestRow, csv_text

LABELS = "labels.csv"


@dataclass(frozen=True)
class UnpackedImages:
    """Result of :func:`unpack_images`: the folder, and numbers of images and of labels, which ``labels.csv`` holds."""

    folder: Path
    images: int
    labelled: int


def unpack_images(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    reporter: ProgressReporter = NO_PROGRESS,
) -> UnpackedImages:
    """Write the images of tar, Parquet or Arrow files to a new folder, byte by byte as they are, and their labels.

    Images of several files are in a folder for each. Their features are those of any folder of these images.

    Args:
        sources: files, or folders of them, such as a Hugging Face data set saved to disk.
        out: a folder that does not exist or is empty.
        image_column, label_column: of tables, where they are not told by the data set.
    Raises:
        InputError: other files, damaged ones, two images of one path, or a folder that holds something.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError((f"{out} exists and is not empty; choose another ", Argument("out")))
    files = [file for source in sources for file in find_packed_files(Path(source))]
    rows: dict[str, str] = {}
    with atomic_replace_dir(out) as part, reporter.progress("unpack", len(files), "files") as advance:
        for number, file in enumerate(files):
            prefix = f"{number:05d}-{file.name.partition('.')[0]}/" if len(files) > 1 else ""
            for image in read_packed(file, image_column, label_column):
                path = prefix + image.path
                if path in rows:
                    raise InputError(f"{file}: two images of the path {image.path}")
                target = part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(image.content)
                rows[path] = image.label
            advance(1)
        if not rows:
            raise InputError(f"no image in {', '.join(map(str, sources))}")
        labelled = sum(bool(label) for label in rows.values())
        if labelled:
            write_text(part / LABELS, csv_text([ManifestRow(*row) for row in rows.items()]))
    return UnpackedImages(out, len(rows), labelled)
