"""Weights files of the model hub: from the local hub cache, else downloaded and verified."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import Argument, InputError, ReadError

WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's file names
METADATA_TIMEOUT = 10  # seconds; without a timeout the client retries for 55


@dataclass(frozen=True)
class HubFile:
    """A repository of the hub and the candidate names of its weights file, preferred first."""

    repository: str
    files: tuple[str, ...] = WEIGHTS_FILES

    @classmethod
    def of(cls, entry: str) -> "HubFile":
        """Parse open_clip's notation: ``owner/name/`` or ``owner/name/file.bin``. Safetensors are preferred."""
        owner, name, *file = entry.rstrip("/").split("/")
        if not file:
            return cls(f"{owner}/{name}")
        return cls(f"{owner}/{name}", (str(Path(file[0]).with_suffix(".safetensors")), file[0]))

    def __str__(self) -> str:
        return f"{self.files[0]} from https://huggingface.co/{self.repository}"


def cached_weights(hub_file: HubFile) -> Path | None:
    """Return the file in the local hub cache, or None. Uses no network."""
    cached = (try_to_load_from_cache(hub_file.repository, file) for file in hub_file.files)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def download_size(hub_file: HubFile) -> int | None:
    """Return the bytes of the file on the hub; None if the hub cannot be reached or does not have it."""
    for file in hub_file.files:
        try:
            return get_hf_file_metadata(hf_hub_url(hub_file.repository, file), timeout=METADATA_TIMEOUT).size
        except EntryNotFoundError:
            continue
        except Exception:  # the hub's client raises many types
            return None
    return None


def download(hub_file: HubFile, description: str) -> Path:
    """Return the file in the local hub cache; download it first if it is missing.

    Args:
        description: names the weights in messages.
    Raises:
        InputError: the hub is unreachable, has no such file, the download failed, or its sha256 is not the announced
            one (the file is then removed).
    """
    if cached := cached_weights(hub_file):
        return cached
    try:
        return _fetch(hub_file)
    except (ReadError, MemoryError):
        raise
    except Exception as error:  # the hub's client raises many types
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            (
                (
                    f"weights {description} are not on this machine and cannot be downloaded "
                    f"({reason}). Connect to the network once, or copy {hub_file} to this machine "
                    "and pass its path as "
                ),
                Argument("pretrained"),
            )
        ) from None


def _fetch(hub_file: HubFile) -> Path:
    """Read the metadata with a short timeout, then download; the hub's client resumes broken downloads."""
    for file in hub_file.files:
        try:
            metadata = get_hf_file_metadata(hf_hub_url(hub_file.repository, file), timeout=METADATA_TIMEOUT)
        except EntryNotFoundError:
            continue
        path = Path(hf_hub_download(hub_file.repository, file))
        if metadata.etag and len(metadata.etag) == 64 and (sha256 := file_sha256(path)) != metadata.etag:
            stored = path.resolve()
            path.unlink()
            stored.unlink(missing_ok=True)
            raise ValueError(f"{file} came with sha256 {sha256[:12]}..., the hub announced {metadata.etag[:12]}...")
        return path
    raise ValueError(f"{hub_file.repository} has no {' or '.join(hub_file.files)}")
