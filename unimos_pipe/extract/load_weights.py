"""Loading of weights files: state dicts, safetensors, and TorchScript archives of known origin."""

import io
import pickle
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import Argument, InputError, ReadError
from unimos_pipe.base.safe_open import read_bytes
from unimos_pipe.extract.weights import openai_hashes
from unimos_pipe.extract.weights_kinds import MAX_WEIGHTS_BYTES, check_kind

NON_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}  # integers that OpenAI's archives store as tensors


def load_weights(model: torch.nn.Module, name: str, path: Path, *, allow_torchscript: bool = False) -> None:
    """Load a file's weights into an open_clip model, in the dtype of the model's parameters.

    No pickle is executed: state dicts are read with torch's ``weights_only``. OpenAI publishes TorchScript archives,
    which can run code; an archive is opened if its sha256 is OpenAI's, or with ``allow_torchscript``.

    Tensors that a training program has wrapped, in another dictionary or under a common prefix, are unwrapped.

    Args:
        name: name of the model in messages.
    Raises:
        InputError: a file that is something else, an archive of unknown origin, a pickle with more than tensors in it,
            or weights of another model.
        ReadError: a file that cannot be read.
    """
    check_kind(path)
    try:
        if is_torchscript(path):
            model.load_state_dict(_without_constants(_read_torchscript(path, allow_torchscript), model))
        else:
            _load_checkpoint(model, path)
    except (InputError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:
            raise InputError(f"weights {path} do not load into {name}: {_short(error)}") from None
        raise ReadError.of(path, error) from None
    except pickle.UnpicklingError:
        raise InputError(
            f"weights {path} are a pickle that holds more than tensors; it is not opened because a pickle can run "
            "code. Save the tensors alone where it was written: safetensors.torch.save_file(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # readers raise many types for other files
        raise InputError(f"weights {path} do not load into {name}: {_short(error)}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _load_checkpoint(model: torch.nn.Module, path: Path) -> None:
    """Load a file of tensors; unwrap them if their names do not fit. Raises the exceptions of open_clip."""
    try:
        open_clip.load_checkpoint(model, str(path), weights_only=True)
        return
    except (OSError, MemoryError, pickle.UnpicklingError):
        raise
    except Exception as error:  # unknown keys fail its conversions with many types
        state = _read_tensors(path)
        wanted = set(model.state_dict())
        unwrapped = _unwrap(state, wanted)
        if unwrapped is None:
            names = ", ".join(map(repr, sorted(map(str, state))[:4]))
            raise ValueError(f"it holds {names}, ..., expected {min(wanted)!r}, ... ({_short(error)[:120]})") from None
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "unwrapped.safetensors")
        save_file({name: tensor.contiguous().clone() for name, tensor in unwrapped.items()}, plain)
        open_clip.load_checkpoint(model, str(plain), weights_only=True)


def _read_tensors(path: Path) -> Mapping:
    """Return the (possibly nested) dictionary of a file of tensors."""
    content = read_bytes(path, MAX_WEIGHTS_BYTES)
    if path.suffix == ".safetensors":
        return load_tensors(content)
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not a dictionary of tensors")
    return state


def _unwrap(state: Mapping, wanted: Set[str]) -> dict[str, torch.Tensor] | None:
    """Return a model's tensors from a nested dictionary or from names with a common prefix, or None.

    Args:
        wanted: names of the model's tensors; older files lack the prefix ``text.``.
    """
    wanted = wanted | {name.removeprefix("text.") for name in wanted}
    tables, candidates = [state], []
    while tables:
        table = tables.pop()
        tables += [value for value in table.values() if isinstance(value, Mapping)]
        names = [str(name) for name, value in table.items() if isinstance(value, torch.Tensor)]
        prefixes = Counter(prefix for name in names for prefix in _prefixes(name, wanted))
        candidates += [(count, prefix, table) for prefix, count in prefixes.most_common(1)]
    if not candidates:
        return None
    _, prefix, table = max(candidates, key=lambda entry: entry[0])
    tensors = {str(name): value for name, value in table.items() if isinstance(value, torch.Tensor)}
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _prefixes(name: str, wanted: Set[str]) -> Iterator[str]:
    """Yield the prefixes of ``name`` that leave one of the wanted names."""
    parts = name.split(".")
    for index in range(len(parts)):
        if ".".join(parts[index:]) in wanted:
            yield ".".join(parts[:index]) + ("." if index else "")


def _without_constants(state: Mapping[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state without non-persistent buffers, which ``torch.jit.trace`` stores with the weights."""
    constants = {name for name, _ in model.named_buffers()} - set(model.state_dict())
    return {name: tensor for name, tensor in state.items() if name not in constants}


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: a zip file with ``constants.pkl``, the criterion of torch."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, allow_torchscript: bool) -> dict[str, torch.Tensor]:
    """Return the state dict of a TorchScript archive. Raises InputError for an archive that is not allowed."""
    if not allow_torchscript and file_sha256(path) not in openai_hashes():
        raise InputError(
            (
                (
                    f"weights {path} are a TorchScript archive, which can run code, and not one "
                    "of OpenAI's; if you trust its origin, add "
                ),
                Argument("allow_torchscript", True),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated
        state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: tensor for name, tensor in state.items() if name not in NON_WEIGHTS}
