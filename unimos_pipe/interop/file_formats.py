"""Arrays in the files in which people keep features, one small function a form: what is in there, unread.

No pickle is run. A file's word about its arrays' sizes is checked against its own before memory is taken: none may
claim more than :data:`MAX_EXPANSION` the bytes that lie on the disk.
"""

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.safe_open import open_regular

MAX_EXPANSION = 100  # features hardly compress; a claim beyond is a mistake or a trap


@dataclass(frozen=True)
class LazyArray:
    """One array of a file: its shape, the name of its type as numpy has it (``text`` for any text), and its reader."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """What its numbers take in memory."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.shape) * (int(bits[0]) // 8 if bits else 1)

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@contextmanager
def open_arrays(path: Path) -> Iterator[dict[str, LazyArray]]:
    """The arrays of a file by name; that of an ``.npy`` has none. They can be read while the block lasts.

    Raises:
        InputError: another form, a file that cannot be read, an array that claims more than the file holds, a pickle
            that is more than tensors, or a package that is missing.
    """
    open_format = FORMATS.get(path.suffix.lower())
    if open_format is None:
        raise InputError(
            f"{path}", expected=f"a file that ends in {', '.join(FORMATS)}", got=path.suffix or "no ending"
        )
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
        with open_format(path) as arrays:
            for name, array in arrays.items():
                if array.nbytes > MAX_EXPANSION * size:
                    claim = f"{array.nbytes / 1e9:,.1f} GB ({array}) in a file of {size:,} bytes"
                    raise InputError(f"{path}: {name or 'its array'} claims {claim}; it is not read")
            yield arrays
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or _one_line(error)}") from None
    except Exception as error:  # each library raises its own kinds at what is damaged
        raise InputError(f"{path} cannot be read as {path.suffix}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _open_npy(path: Path) -> Iterator[dict[str, LazyArray]]:
    with path.open("rb") as file:
        shape, dtype = _read_npy_header(file, path.stat().st_size, f"{path}")
    yield {"": LazyArray(shape, dtype, lambda: np.load(path, mmap_mode="r" if math.prod(shape) else None))}


@contextmanager
def _open_npz(path: Path) -> Iterator[dict[str, LazyArray]]:
    arrays = {}
    with np.load(path, allow_pickle=False) as held, zipfile.ZipFile(path) as archive:
        for name in held.files:
            member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
            with archive.open(member) as file:
                shape, dtype = _read_npy_header(file, member.file_size, f"{path}: {name}")
            arrays[name] = LazyArray(shape, dtype, lambda name=name: held[name])
        yield arrays


def _read_npy_header(file: BinaryIO, size: int, what: str) -> tuple[tuple[int, ...], str]:
    """Shape and type of an ``.npy``, whose data must be there. Raises InputError for objects and for other sizes."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{what}: an array of Python objects, which only a pickle can hold; a pickle can run code")
    if (held := size - file.tell()) != math.prod(shape) * dtype.itemsize:
        raise InputError(f"{what}", expected=f"{math.prod(shape) * dtype.itemsize:,} bytes of data", got=f"{held:,}")
    return shape, "text" if dtype.kind in "US" else dtype.name


@contextmanager
def _open_safetensors(path: Path) -> Iterator[dict[str, LazyArray]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- no dict
        yield {
            name: LazyArray(
                tuple(part.get_shape()),
                _TYPES.get(part.get_dtype(), part.get_dtype().lower()),
                _lazy_reader(file, name),
            )
            for name, part in slices.items()
        }


_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_TYPES |= {f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)}


def _lazy_reader(file, name: str) -> Callable[[], np.ndarray]:
    return lambda: _to_numpy(file.get_tensor(name))


@contextmanager
def _open_torch(path: Path) -> Iterator[dict[str, LazyArray]]:
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise InputError(f"{path} is a TorchScript archive, which can run code; save the tensors alone")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is a pickle with more than tensors in it, which is not opened because a pickle can run code; "
            "where it was made, save the tensors alone: torch.save({'fea': features, 'label': labels}, ...)"
        ) from None
    arrays = {}
    for name, value in content.items() if isinstance(content, Mapping) else [("", content)]:
        if isinstance(value, list | tuple) and value and all(isinstance(item, int | str) for item in value):
            array = np.array(value)
            arrays[str(name)] = LazyArray(array.shape, _type_name(array), lambda array=array: array)
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            kind = str(value.dtype).removeprefix("torch.")
            arrays[str(name)] = LazyArray(tuple(value.shape), kind, lambda value=value: _to_numpy(value))
    yield arrays


def _to_numpy(tensor: Any) -> np.ndarray:
    """A tensor as an array; what numpy has no type for as float32."""
    return tensor.detach().float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.detach().numpy()


def _type_name(array: np.ndarray) -> str:
    return "text" if array.dtype.kind == "U" else array.dtype.name


@contextmanager
def _open_parquet(path: Path) -> Iterator[dict[str, LazyArray]]:
    require_extra(str(path), "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        rows, head = file.metadata.num_rows, file.metadata
        groups = [head.row_group(number) for number in range(head.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        arrays = {}
        for field in file.schema_arrow:
            kind, read = field.type, lambda name=field.name: _read_column(file, path, name)
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            if is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
                value_counts = [
                    part.num_values for part in chunks if part.path_in_schema.partition(".")[0] == field.name
                ]
                name = "float16" if kind.value_type == pa.float16() else kind.value_type.to_pandas_dtype().__name__
                arrays[field.name] = LazyArray((rows, sum(value_counts) // max(rows, 1)), name, read)
            elif pa.types.is_integer(kind):
                arrays[field.name] = LazyArray((rows,), kind.to_pandas_dtype().__name__, read)
            elif pa.types.is_string(kind):
                arrays[field.name] = LazyArray((rows,), "text", read)
        yield arrays


def _read_column(file: Any, path: Path, name: str) -> np.ndarray:
    """A column of a parquet file: (n,), or (n, D) of lists. Raises InputError for empty cells and lists of other D."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = file.read(columns=[name]).column(name).combine_chunks()
    nested = pa.types.is_nested(column.type)
    values = column.flatten() if nested else column
    if column.null_count or values.null_count:
        raise InputError(f"{path}: column {name} has empty cells")
    if not nested:
        return np.array(column.to_pylist()) if pa.types.is_string(column.type) else column.to_numpy()
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise InputError(f"{path}: column {name}", expected="lists of one length", got=f"{lengths[0]} and {lengths[1]}")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


@contextmanager
def _open_hdf5(path: Path) -> Iterator[dict[str, LazyArray]]:
    import h5py

    arrays: dict[str, LazyArray] = {}

    def add_dataset(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.shape is None:
            return  # virtual and external ones are of other files
        if h5py.check_string_dtype(item.dtype):
            arrays[name] = LazyArray(item.shape, "text", lambda: np.array(item.asstr()[()]))
        elif item.dtype.kind in "fiub":
            arrays[name] = LazyArray(item.shape, item.dtype.name, lambda: item[()])

    with h5py.File(path, "r") as file:
        file.visititems(add_dataset)
        yield arrays


FORMATS = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".parquet": _open_parquet,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
}
