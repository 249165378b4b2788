"""Paths in the cache.

``<cache>/<dataset>/<encoder-id>/<domain>/`` holds ``shard-*.h5`` (features) and ``domain.json`` (labels and the list of
shards). ``<cache>/<dataset>/<encoder-id>/text/`` holds the text features of the prompts.
"""

import contextlib
import glob
import os
import re
from pathlib import Path

import platformdirs

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.errors import Argument, Call, InputError, ReadError, join_names
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.encoder_identity import IMPORTED, TextIdentity, readable_name, slug

ENCODER_FOLDER = re.compile(r".+_(fp32|fp16|bf16|imported)-([0-9a-f]{8})")


def default_cache() -> Path:
    """Return ``$UNIMOS_CACHE``, else the user's cache folder.

    Raises:
        InputError: neither exists, as for a user of a container who has no entry and no HOME.
    """
    try:
        if named := os.environ.get("UNIMOS_CACHE"):
            return Path(named).expanduser()
        return Path(platformdirs.user_cache_dir("unimos-pipe"))
    except RuntimeError:
        raise InputError(
            "this user has no home folder for the cache",
            todo=("Set UNIMOS_CACHE or HOME to a folder that can be written, or pass ", Argument("cache")),
        ) from None


def shard_path(folder: Path, index: int, extraction_id: str) -> Path:
    """Return the path of shard ``index`` in a domain's folder.

    ``extraction_id`` is unique to the extraction, so a new shard never has the name of one in use.
    """
    return folder / f"shard-{index:05d}-{extraction_id}.h5"


def shard_files(folder: Path) -> list[Path]:
    """Return all shard files in a domain's folder, sorted, listed in the domain's index or not."""
    return list_folder(folder, "shard-*.h5")


def index_path(folder: Path) -> Path:
    """Return the path of a domain's index, which lists its shards and labels."""
    return folder / "domain.json"


def domain_lock(folder: Path) -> Path:
    """Return the lock file of a domain's folder or of ``text``.

    It is outside the encoder's folder, which ``cache prune`` may remove.
    """
    encoder = folder.parent
    return encoder.with_name(f".{encoder.name}.{folder.name}.lock")


def domain_locks(encoder_folder: Path) -> list[Path]:
    """Return all lock files of an encoder's domains, including those of killed processes."""
    return list_folder(encoder_folder.parent, f".{glob.escape(encoder_folder.name)}.*.lock")


def prune_lock(encoder_folder: Path) -> Path:
    """Return the lock file that ``cache prune`` holds while it removes items of a data set."""
    return encoder_folder.with_name(".prune.lock")


def wait_for_prune(encoder_folder: Path) -> None:
    """Wait, with a domain's lock held, for a running ``cache prune`` that saw the lock free."""
    with exclusive_lock(encoder_folder, lock=prune_lock(encoder_folder), wait=True):
        pass


def text_path(encoder_folder: Path, domain_word: str, identity: TextIdentity) -> Path:
    """Return the text shard of a domain word; its name is unique to the class names and prompts."""
    key = fingerprint([identity.class_names, identity.prompts])[:12]
    return encoder_folder / "text" / f"{slug(domain_word)[:80]}-{key}.h5"


def encoder_folders(cache: Path, dataset: str, spec: EncoderSpec) -> list[Path]:
    """Return a data set's folders for a spec's readable name and precision (``auto``: any), with any fingerprint."""
    precision = "fp32|fp16|bf16" if spec.precision == "auto" else spec.precision
    pattern = re.compile(f"{re.escape(readable_name(spec))}_({precision})-[0-9a-f]{{8}}")
    return [path for path in list_folder(cache / dataset) if pattern.fullmatch(path.name)]


def is_imported(encoder_folder: Path) -> bool:
    """Return True for the cache folder of imported features."""
    match = ENCODER_FOLDER.fullmatch(encoder_folder.name)
    return match is not None and match[1] == IMPORTED


def domains_of_encoder(encoder_folder: Path) -> list[Path]:
    """Return the folders of all domains of all data sets with an encoder's fingerprint; not those of imported features.

    The readable name may differ: a tag and a file may hold the same weights. Folders that cannot be listed, such as
    those of another user, are left out.
    """
    match = ENCODER_FOLDER.fullmatch(encoder_folder.name)
    if match is None or is_imported(encoder_folder):
        return []
    datasets = _list_readable(encoder_folder.parents[1])
    encoders = [path for dataset in datasets for path in _list_readable(dataset, f"*_{match[1]}-{match[2]}")]
    return [path for encoder in encoders for path in _list_readable(encoder)]


def _list_readable(folder: Path, pattern: str = "*") -> list[Path]:
    with contextlib.suppress(ReadError):
        return list_folder(folder, pattern)
    return []


def only_encoder_folder(cache: Path, dataset: str, precision: str = "auto") -> Path | None:
    """Return the encoder folder of a data set in a precision (``auto``: any) if there is exactly one, else None."""
    folders = _list_encoder_folders(cache, dataset)
    matching = [path for path in folders if precision in ("auto", ENCODER_FOLDER.fullmatch(path.name)[1])]
    return matching[0] if len(matching) == 1 else None


def _list_encoder_folders(cache: Path, dataset: str) -> list[Path]:
    return [path for path in list_folder(cache / dataset) if _is_encoder_folder(path)]


def _is_encoder_folder(path: Path) -> bool:
    return bool(ENCODER_FOLDER.fullmatch(path.name)) and path.is_dir()


def find_encoder_by_name(cache: Path, dataset: str, name: str) -> Path:
    """Return a data set's folder of an encoder-id, or of the only one that begins so.

    Raises:
        InputError: none, or several.
    """
    folders = _list_encoder_folders(cache, dataset)
    exact = [path for path in folders if path.name == name]
    matches = exact or [path for path in folders if path.name.startswith(name)]
    if len(matches) != 1:
        raise InputError(
            f"encoder {name!r} of {dataset} in {cache}",
            expected="an encoder-id, or the beginning of one alone",
            got=f"{len(matches)} of {join_names(path.name for path in matches or folders)}",
        )
    return matches[0]


def find_encoder_folder(cache: Path, dataset: str, spec: EncoderSpec, encoder_id: str | None, extract: Call) -> Path:
    """Return a data set's folder for an encoder whose weights may be absent.

    Args:
        encoder_id: a full encoder-id, or None to find it by the spec's readable name.
        extract: the call that creates the features, for messages.
    Raises:
        InputError: none, or several of different precision or weights (lists them).
    """
    if encoder_id is not None:
        matches = [path for path in [cache / dataset / encoder_id] if path.is_dir()]
    else:
        matches = encoder_folders(cache, dataset, spec)
    if not matches:
        name = encoder_id or readable_name(spec)
        alternatives: tuple = ()
        if others := [path.name for path in _list_encoder_folders(cache, dataset)]:
            alternatives = (", or choose with ", Argument("encoder_id"), f" what is there: {join_names(others)}")
        elif datasets := {path.parent.name for path in cache.glob("*/*") if _is_encoder_folder(path)}:
            alternatives = (f". There are features of {join_names(sorted(datasets))}",)
        raise InputError(
            f"no features of {dataset} by {name} in {cache}", todo=("Make them first: ", extract, *alternatives)
        )
    if len(matches) > 1:
        raise InputError(
            (
                f"{dataset} was encoded in several ways: {join_names((path.name for path in matches), 20)}; "
                "choose one with ",
                Argument("encoder_id"),
            )
        )
    return matches[0]
