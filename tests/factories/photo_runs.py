"""A data set of photos with a label file, and a finished run whose predictions are written by hand."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from factories.runs import write_run
from PIL import Image

from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.label_file import LabelFile, label_file
from unimos_pipe.data.row_lists import ManifestRow, csv_text

CLASSES = ("cat", "dog", "a/b")
CALIBRATION = {"temperature": 1.0, "rows": 12, "basis": "source"}


@dataclass(frozen=True)
class PhotoRun:
    """A run on photos: its folder, the photos' folder, the spec file, and the originals' bytes by path."""

    run: Path
    photos: Path
    spec: Path
    originals: dict[str, bytes] = field(repr=False)

    @property
    def labels(self) -> LabelFile:
        """The label file of the photos."""
        return label_file(load_spec(str(self.spec)), "phone")

    def unchanged(self) -> bool:
        """Return whether every original is as it was."""
        files = [path for path in self.photos.rglob("*") if path.is_file()]
        return {path.relative_to(self.photos).as_posix(): path.read_bytes() for path in files} == self.originals


def write_photo_run(
    folder: Path,
    rows: list[tuple[str, str, float]],
    *,
    calibrated: bool = True,
    classes: tuple[str, ...] = CLASSES,
    branches: dict[str, tuple[str, str]] | None = None,
    size: int = 24,
) -> PhotoRun:
    """Write photos, a spec, an empty label file and a run with ``(path, class, probability)`` for each photo.

    ``branches`` are the classes of VAC and LAC by path; the run is then one of UniMoS.
    """
    rng = np.random.default_rng(0)
    photos, shop = folder / "DCIM", folder / "shop"
    for path, _, _ in rows:
        file = photos / path
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = rng.integers(0, 255, 3, np.uint8)
        Image.fromarray(np.broadcast_to(colour, (size, size, 3)).copy()).save(file, "PNG")
    shop.mkdir(parents=True, exist_ok=True)
    (folder / "my.phone.csv").write_text(csv_text([ManifestRow(path, "") for path, _, _ in rows]), encoding="utf-8")
    names = ", ".join(json.dumps(name) for name in classes)
    spec = folder / "my.toml"
    spec.write_text(
        f'name = "my"\nclasses = [{names}]\n[domains.shop]\nroot = "shop"\n'
        '[domains.phone]\nroot = "DCIM"\nmanifest = "my.phone.csv"\n',
        encoding="utf-8",
    )
    table = [(path, name, p, *_branch_cells(path, name, p, branches or {}), "") for path, name, p in rows]
    run = write_run(
        folder / "runs",
        "shop->phone",
        dataset="my",
        classes=classes,
        rows=table,
        labelled=False,
        method="unimos" if branches else "fused",
        more={"dataset_file": str(spec)} | ({"calibration": CALIBRATION} if calibrated else {}),
    )
    originals = {path: (photos / path).read_bytes() for path, _, _ in rows}
    return PhotoRun(run, photos, spec, originals)


def _branch_cells(path: str, name: str, p: float, branches: dict[str, tuple[str, str]]) -> tuple:
    vac, lac = branches.get(path, (name, name))
    return vac, p, lac, p
