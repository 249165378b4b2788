"""Weights files on the model hub: looked for on this machine, else downloaded and compared with what was asked."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import InputError

WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)  # open_clip's own names
METADATA_TIMEOUT = 10  # seconds; a hub that is asked without this is asked for 55


@dataclass(frozen=True)
class HubFile:
    """A repository of the hub, and the names its weights file may have, the better one first."""

    repository: str
    files: tuple[str, ...] = WEIGHTS_FILES

    @classmethod
    def of(cls, entry: str) -> "HubFile":
        """From open_clip's form: ``owner/name/``, or ``owner/name/file.bin``, of which there may be safetensors."""
        owner, name, *file = entry.rstrip("/").split("/")
        if not file:
            return cls(f"{owner}/{name}")
        return cls(f"{owner}/{name}", (str(Path(file[0]).with_suffix(".safetensors")), file[0]))

    def __str__(self) -> str:
        return f"{self.files[0]} from https://huggingface.co/{self.repository}"


def cached_weights(hub_file: HubFile) -> Path | None:
    """The file in the hub's cache on this machine, or None; asks no network."""
    cached = (try_to_load_from_cache(hub_file.repository, file) for file in hub_file.files)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def download(hub_file: HubFile, description: str) -> Path:
    """The file in the hub's cache, fetched if it is not there. ``what`` names the weights in messages.

    Raises:
        InputError: out of reach, gone, broken off, or another file than the hub announced (which is not kept); says
            which file to bring, and from where.
    """
    if cached := cached_weights(hub_file):
        return cached
    try:
        return _fetch(hub_file)
    except Exception as error:  # the hub's client raises its own kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"weights {description} are not on this machine and cannot be downloaded ({reason}). "
            f"Connect to the network once, or bring {hub_file} here and pass --pretrained its path"
        ) from None


def _fetch(hub_file: HubFile) -> Path:
    """Ask once, briefly, what there is; then fetch it, which the hub's client resumes where it breaks off."""
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
