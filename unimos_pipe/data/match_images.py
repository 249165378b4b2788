"""Matching of the images of a folder with rows listed before: by path, then by contents, then by file name."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class ImageMatches:
    """Result of :func:`match_images`.

    ``old_path`` has, for each image that continues a row, the path of that row; ``changed`` are paths of new contents;
    ``added`` and ``removed`` have no partner.
    """

    old_path: Mapping[str, str]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def match_images(old: Mapping[str, bytes | None], new: Mapping[str, bytes]) -> ImageMatches:
    """Match images with listed rows.

    An image whose path and contents are listed is the same. Else it continues a row of equal contents whose image is
    gone or has changed, first one of the same file name; else the row of its path, with changed contents. A row of
    unknown contents is continued by the only image of its file name.

    Args:
        old: digest of each row's contents by path; None if it is not known.
        new: digest of each image's contents by path.
    """
    old_path = {path: path for path, digest in new.items() if path in old and old[path] in (digest, None)}
    free_rows = {path: digest for path, digest in old.items() if path not in old_path}
    free_images = {path: digest for path, digest in new.items() if path not in old_path}
    rows_of_digest: dict[bytes, list[str]] = defaultdict(list)
    for path, digest in free_rows.items():
        if digest is not None:
            rows_of_digest[digest].append(path)
    for same_name in (True, False):
        for path, digest in free_images.items():
            rows = rows_of_digest.get(digest, [])
            partner = next((row for row in rows if not same_name or _name(row) == _name(path)), None)
            if path not in old_path and partner is not None:
                rows.remove(partner)
                old_path[path] = partner
    continued = set(old_path.values())
    changed = tuple(
        path for path in free_images if path not in old_path and path in free_rows and path not in continued
    )
    old_path |= {path: path for path in changed}
    continued.update(changed)
    unknown = _by_only_name([path for path, digest in free_rows.items() if digest is None and path not in continued])
    images = _by_only_name([path for path in free_images if path not in old_path])
    old_path |= {images[name]: unknown[name] for name in unknown if name in images}
    continued.update(old_path.values())
    added = tuple(path for path in new if path not in old_path)
    return ImageMatches(old_path, changed, added, tuple(path for path in old if path not in continued))


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _by_only_name(paths: list[str]) -> dict[str, str]:
    """Return the path of each file name that occurs once."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_name[_name(path)].append(path)
    return {name: group[0] for name, group in by_name.items() if len(group) == 1}
