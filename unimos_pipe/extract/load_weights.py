"""A weights file into a model: state dicts and safetensors as they are, TorchScript archives only of known origin."""

import pickle
import warnings
import zipfile
from pathlib import Path

import open_clip
import torch

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import InputError
from unimos_pipe.extract.weights import openai_hashes

NON_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}  # numbers that OpenAI's archives keep as tensors


def load_weights(model: torch.nn.Module, name: str, path: Path, *, allow_torchscript: bool = False) -> None:
    """Fill an open_clip model with a file's weights, each in the precision that the model's own parameter has.

    No pickle is run: state dicts are read with torch's ``weights_only``. OpenAI publishes its models as TorchScript
    archives, which are programs; one is opened if its sha256 is OpenAI's, any other only with ``trust``.

    Args:
        name: what to call the model in messages.
    Raises:
        InputError: an archive of unknown origin, a pickle with more than tensors in it, or weights of another model.
    """
    try:
        if is_torchscript(path):
            model.load_state_dict(_read_torchscript(path, allow_torchscript))
        else:
            open_clip.load_checkpoint(model, str(path), weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError:
        raise InputError(
            f"weights {path} are a pickle with more than tensors in it, which is not opened because a pickle can run "
            "code; where they were made, save the tensors alone: safetensors.torch.save_file(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # a file of another kind fails its reader in many ways
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"weights {path} do not load into {name}: {reason}") from None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as torch tells them from other zip files: by ``constants.pkl``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, allow_torchscript: bool) -> dict[str, torch.Tensor]:
    """The state dict of a TorchScript archive. Raises InputError if its origin is unknown and it is not trusted."""
    if not allow_torchscript and file_sha256(path) not in openai_hashes():
        raise InputError(
            f"weights {path} are a TorchScript archive, which can run code, and not one of OpenAI's; "
            "if you trust where it comes from, add --allow-torchscript"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch no longer develops TorchScript
        state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: tensor for name, tensor in state.items() if name not in NON_WEIGHTS}
