"""An engineer's two folders, made of the embedded icons: labelled product photos, and what lies on a phone."""

from pathlib import Path

import pillow_heif
from PIL import Image

from unimos_pipe.data.build_manifest import build_manifest, find_root
from unimos_pipe.data.dataset_spec import load_spec

PRODUCTS, PHOTOS, BROKEN = 200, 281, 4
CLASSES = 16


def photo(source: Path) -> Image.Image:
    """An icon on white, as a camera would give it."""
    with Image.open(source) as image:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB").resize((96, 96))


def make_photos(cache: Path, folder: Path) -> dict[str, str]:
    """Write ``shop/<class>/<n>.jpg`` and ``DCIM/IMG_<n>.JPG`` or ``.HEIC``, some of them broken, and a film.

    Returns:
        The classes of the phone's photos, which nobody has labelled, by file name.
    """
    spec = load_spec("icons")
    root = find_root(spec, None, cache)
    rows = {}
    for domain, count in (("color", PRODUCTS), ("sketch", PHOTOS)):
        found = build_manifest(spec, domain, root)
        by_class = [
            [path for path, k in zip(found.paths, found.labels, strict=True) if k == label] for label in range(CLASSES)
        ]
        turns = [
            (label, group[turn]) for turn in range(40) for label, group in enumerate(by_class) if turn < len(group)
        ]
        rows[domain] = [(spec.classes[label], found.root / path) for label, path in turns[:count]]
        assert len(rows[domain]) == count
    for index, (name, source) in enumerate(rows["color"]):
        (folder / "shop" / name).mkdir(parents=True, exist_ok=True)
        photo(source).save(folder / "shop" / name / f"{index:03d}.jpg", quality=90)
    phone = folder / "DCIM"
    phone.mkdir()
    truth = {}
    for index, (name, source) in enumerate(rows["sketch"]):
        heic = index % 10 == 0
        path = phone / f"IMG_{index:04d}.{'HEIC' if heic else 'JPG'}"
        if heic:
            pillow_heif.from_pillow(photo(source)).save(path, quality=90)
        else:
            photo(source).save(path, quality=90)
        truth[path.name] = name
        if index in range(1, 1 + BROKEN):
            path.write_bytes(path.read_bytes()[: 0 if index == 1 else 700])
    (phone / "IMG_0007.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(40))
    return truth
