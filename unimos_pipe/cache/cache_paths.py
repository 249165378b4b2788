"""Where the cache keeps what: ``<cache>/<dataset>/<encoder-id>/<domain>/`` holds ``shard-*.h5`` (features) and
``domain.json`` (labels, and which shards count); ``<cache>/<dataset>/<encoder-id>/text/`` the prompts' features.
"""

import glob
import os
import re
from pathlib import Path

import platformdirs

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.encoder_identity import TextIdentity, readable_name, slug

ENCODER_FOLDER = re.compile(r".+_(fp32|fp16|bf16|imported)-([0-9a-f]{8})")


def default_cache() -> Path:
    """``$UNIMOS_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("UNIMOS_CACHE") or platformdirs.user_cache_dir("unimos-pipe"))


def shard_path(folder: Path, index: int, extraction_id: str) -> Path:
    """The file of shard ``index`` in a domain's folder. ``batch`` is a word of the extraction that makes it: a shard
    never takes the name of one that is in use."""
    return folder / f"shard-{index:05d}-{extraction_id}.h5"


def shard_files(folder: Path) -> list[Path]:
    """Every shard file in a domain's folder, by name, whether or not the domain's index names it."""
    return list_folder(folder, "shard-*.h5")


def index_path(folder: Path) -> Path:
    """The file that says which shards a domain consists of, and its labels."""
    return folder / "domain.json"


def domain_lock(folder: Path) -> Path:
    """The lock file of a domain's folder or of ``text``: beside the encoder's folder, which ``cache prune`` removes."""
    encoder = folder.parent
    return encoder.with_name(f".{encoder.name}.{folder.name}.lock")


def domain_locks(encoder_folder: Path) -> list[Path]:
    """Every lock file of an encoder's domains, held or left by a killed holder."""
    return list_folder(encoder_folder.parent, f".{glob.escape(encoder_folder.name)}.*.lock")


def prune_lock(encoder_folder: Path) -> Path:
    """The lock file that ``cache prune`` holds while it removes things of a data set."""
    return encoder_folder.with_name(".prune.lock")


def wait_for_prune(encoder_folder: Path) -> None:
    """Wait, with a domain's lock held, until no ``cache prune`` is at work that had seen the lock free."""
    with exclusive_lock(encoder_folder, lock=prune_lock(encoder_folder), wait=True):
        pass


def text_path(encoder_folder: Path, domain_word: str, identity: TextIdentity) -> Path:
    """The text shard of a domain word: readable, and unique to class names and prompts as written."""
    key = fingerprint([identity.class_names, identity.prompts])[:12]
    return encoder_folder / "text" / f"{slug(domain_word)[:80]}-{key}.h5"


def encoder_folders(cache: Path, dataset: str, spec: EncoderSpec) -> list[Path]:
    """A data set's folders for encoders of the spec's readable name, of its precision (``auto``: of any), whatever
    their fingerprint."""
    precision = "fp32|fp16|bf16" if spec.precision == "auto" else spec.precision
    pattern = re.compile(f"{re.escape(readable_name(spec))}_({precision})-[0-9a-f]{{8}}")
    return [path for path in list_folder(cache / dataset) if pattern.fullmatch(path.name)]


def only_encoder_folder(cache: Path, dataset: str, precision: str = "auto") -> Path | None:
    """The folder of the one encoder that a data set has features of, in a precision (``auto``: in any), or None."""
    folders = _list_encoder_folders(cache, dataset)
    matching = [path for path in folders if precision in ("auto", ENCODER_FOLDER.fullmatch(path.name)[1])]
    return matching[0] if len(matching) == 1 else None


def _list_encoder_folders(cache: Path, dataset: str) -> list[Path]:
    return [path for path in list_folder(cache / dataset) if _is_encoder_folder(path)]


def _is_encoder_folder(path: Path) -> bool:
    return bool(ENCODER_FOLDER.fullmatch(path.name)) and path.is_dir()


def find_encoder_folder(
    cache: Path, dataset: str, spec: EncoderSpec, encoder_id: str | None, extract_command: str
) -> Path:
    """A data set's folder for an encoder whose weights may be gone.

    Args:
        encoder_id: a full encoder-id, or None to find it by the spec's readable name.
        extract_command: the command that would make it, for messages.
    Raises:
        InputError: none, or several of different precision or weights (lists them).
    """
    if encoder_id is not None:
        matches = [path for path in [cache / dataset / encoder_id] if path.is_dir()]
    else:
        matches = encoder_folders(cache, dataset, spec)
    if not matches:
        name = encoder_id or readable_name(spec)
        alternatives = ""
        if others := [path.name for path in _list_encoder_folders(cache, dataset)]:
            alternatives = f", or choose with --encoder-id what is there: {join_names(others)}"
        elif datasets := {path.parent.name for path in cache.glob("*/*") if _is_encoder_folder(path)}:
            alternatives = f". There are features of {join_names(sorted(datasets))}"
        raise InputError(
            f"no features of {dataset} by {name} in {cache}", todo=f"Make them first: {extract_command}{alternatives}"
        )
    if len(matches) > 1:
        raise InputError(
            f"{dataset} was encoded in several ways: {join_names((path.name for path in matches), 20)}; "
            "choose one with --encoder-id"
        )
    return matches[0]
