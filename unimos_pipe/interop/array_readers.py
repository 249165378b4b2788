"""Arrays in files of several formats, one function per format; arrays are read on demand.

No pickle is executed. The declared size of each array is checked before memory is allocated: at most
:data:`MAX_EXPANSION` times the size of the file, and at most the memory of the machine. Strings whose lengths are known
only after reading are read in blocks and counted.
"""

import json
import math
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unimos_pipe.base.errors import PATH_FAULTS, InputError, ReadError
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, memory_size, open_regular

MAX_EXPANSION = 100  # features hardly compress; a larger declared size is an error,
SMALL = 2**25  # unless it has at most this many bytes


@dataclass(frozen=True)
class LazyArray:
    """An array of a file that is read on demand: shape, numpy type name (``text`` for strings), and reader.

    ``itemsize`` is the size of an entry in memory, in bytes, as declared by the file.
    """

    shape: tuple[int, ...]
    dtype: str
    itemsize: int
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return math.prod(self.shape) * self.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@contextmanager
def open_arrays(path: Path) -> Iterator[dict[str, LazyArray]]:
    """Open the arrays of a file by name; the name is empty for ``.npy``. They can be read inside the block.

    Raises:
        InputError: another format, a file that cannot be read, an array too large for its file, a pickle
            that is more than tensors, or a package that is missing.
        ReadError: the file cannot be read for a transient reason.
    """
    form = ARRAY_READERS.get(path.suffix.lower())
    if form is None:
        raise InputError(
            f"{path}", expected=f"a file that ends in {', '.join(ARRAY_READERS)}", got=path.suffix or "no ending"
        )
    try:
        with open_regular(path, sys.maxsize) as file:
            size = file.seek(0, 2)
            file.seek(0)
            with form(file, path) as arrays:
                for name, array in arrays.items():
                    _check_claim(array.nbytes, f"{path}: {name or 'its array'} claims", f" ({array})", size)
                yield arrays
    except (InputError, MemoryError):
        raise
    except ReadError as error:
        raise error.of_input(f"{path} cannot be read: {error.reason}") from None
    except OSError as error:
        if error.errno is not None and error.errno not in PATH_FAULTS:
            raise ReadError.of(path, error) from None
        raise InputError(f"{path} cannot be read: {error.strerror or _one_line(error)}") from None
    except Exception as error:  # each library raises its own kinds at what is damaged
        raise InputError(f"{path} cannot be read as {path.suffix}: {_one_line(error)}") from None


def _check_claim(claimed: int, what: str, of_what: str, size: int) -> None:
    """Raise InputError for an array that needs much more memory than the file's ``size``, or than the machine has."""
    if claimed > max(MAX_EXPANSION * size, SMALL):
        raise InputError(f"{what} {claimed / 1e9:,.1f} GB{of_what} in a file of {size:,} bytes; it is not read")
    if claimed > memory_size():
        raise InputError(f"{what} {claimed / 1e9:,.1f} GB{of_what}, and this machine has {memory_size() / 1e9:,.1f} GB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _open_npy(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    size = file.seek(0, 2)
    file.seek(0)
    shape, dtype, fortran = _read_npy_header(file, size, f"{path}")
    start = file.tell()

    def read() -> np.ndarray:
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")

    yield {"": LazyArray(shape, _type_name(dtype), dtype.itemsize, read)}


@contextmanager
def _open_npz(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    arrays = {}
    with np.load(file, allow_pickle=False) as npz_file:
        for name in npz_file.files:
            member = npz_file.zip.getinfo(name if name in npz_file.zip.namelist() else f"{name}.npy")
            with npz_file.zip.open(member) as part:
                shape, dtype, _ = _read_npy_header(part, member.file_size, f"{path}: {name}")
            arrays[name] = LazyArray(shape, _type_name(dtype), dtype.itemsize, lambda name=name: npz_file[name])
        yield arrays


def _read_npy_header(file: BinaryIO, size: int, what: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Return shape, type and order (True: Fortran) of an ``.npy`` after checking the size of its data.

    Raises InputError for objects and for other sizes.
    """
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{what}: an array of Python objects, which only a pickle can hold; a pickle can run code")
    if (data_bytes := size - file.tell()) != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{what}", expected=f"{math.prod(shape) * dtype.itemsize:,} bytes of data", got=f"{data_bytes:,}"
        )
    return shape, dtype, fortran


def _type_name(dtype: np.dtype) -> str:
    return "text" if dtype.kind in "US" else dtype.name


@contextmanager
def _open_safetensors(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_SETTINGS_BYTES):
        raise ValueError(f"its head claims {length:,} bytes")
    start, arrays = 8 + length, {}
    for name, about in json.loads(file.read(length)).items():
        if name != "__metadata__":
            shape, kind = tuple(map(int, about["shape"])), str(about["dtype"])
            dtype = _TYPES.get(kind)
            first, stop = about["data_offsets"]
            count = math.prod(shape)
            if min(shape, default=0) < 0 or not 0 <= first <= stop <= size - start:
                raise ValueError(f"{name} does not lie within it")
            if dtype and stop - first != count * dtype.itemsize:
                raise ValueError(f"{name} has another size than its shape says")
            read = (
                _array_reader(file, dtype, start + first, shape, kind == "BF16")
                if dtype
                else _unknown_type_reader(path, name, kind)
            )
            type_name = "bfloat16" if kind == "BF16" else dtype.name if dtype else kind.lower()
            arrays[name] = LazyArray(shape, type_name, dtype.itemsize if dtype else 1, read)
    yield arrays


_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
_TYPES |= {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
_TYPES = {name: np.dtype(text) for name, text in _TYPES.items()}


def _array_reader(
    file: BinaryIO, dtype: np.dtype, start: int, shape: tuple[int, ...], bfloat: bool
) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        if not math.prod(shape):
            return np.empty(shape, np.float32 if bfloat else dtype)
        array = np.memmap(file, dtype, "r", start, shape)
        return (array.astype("<u4") << 16).view("<f4") if bfloat else array  # the upper half of a float32

    return read


def _unknown_type_reader(path: Path, name: str, kind: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise InputError(f"{path}: {name} is of type {kind}, which is not read")

    return read


@contextmanager
def _open_torch(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    import torch

    size = file.seek(0, 2)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise InputError(f"{path} is a TorchScript archive, which can run code; save the tensors alone")
            _check_claim(sum(part.file_size for part in archive.infolist()), f"{path} claims", "", size)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is a pickle with more than tensors in it, which is not opened because a pickle can run code; "
            "where it was made, save the tensors alone: torch.save({'fea': features, 'label': labels}, ...)"
        ) from None
    arrays = {}
    for name, value in content.items() if isinstance(content, Mapping) else [("", content)]:
        if isinstance(value, list | tuple) and value and all(isinstance(item, int | str) for item in value):
            texts = any(isinstance(item, str) for item in value)
            width = max(4 * len(str(item)) for item in value) if texts else 8  # as numpy keeps them: all of one width
            kind = "text" if texts else "int64"
            arrays[str(name)] = LazyArray((len(value),), kind, width, lambda value=value: np.array(value))
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            kind = str(value.dtype).removeprefix("torch.")
            shape, width = tuple(value.shape), value.element_size()
            arrays[str(name)] = LazyArray(shape, kind, width, lambda value=value: _to_numpy(value))
    yield arrays


def _to_numpy(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; bfloat16 becomes float32."""
    return tensor.detach().float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.detach().numpy()


@contextmanager
def _open_parquet(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    require_extra(str(path), "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = file.seek(0, 2)
    with pq.ParquetFile(file) as table:
        head = table.metadata
        rows, groups = head.num_rows, [head.row_group(number) for number in range(head.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        _check_claim(sum(part.total_uncompressed_size for part in chunks), f"{path} claims", "", size)
        arrays = {}
        for field in table.schema_arrow:
            kind, read = field.type, lambda name=field.name: _read_column(table, path, name)
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            if is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
                value_counts = [
                    part.num_values for part in chunks if part.path_in_schema.partition(".")[0] == field.name
                ]
                name = "float16" if kind.value_type == pa.float16() else kind.value_type.to_pandas_dtype().__name__
                width = np.dtype(name).itemsize
                arrays[field.name] = LazyArray((rows, sum(value_counts) // max(rows, 1)), name, width, read)
            elif pa.types.is_integer(kind):
                name = kind.to_pandas_dtype().__name__
                arrays[field.name] = LazyArray((rows,), name, np.dtype(name).itemsize, read)
            elif pa.types.is_string(kind):
                read = lambda name=field.name: _texts(file, path, name, size)  # noqa: E731
                arrays[field.name] = LazyArray((rows,), "text", 1, read)
        yield arrays


def _texts(file: BinaryIO, path: Path, name: str, size: int) -> np.ndarray:
    """Read a column of strings, each distinct one once: a short file can refer to a long string many times."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file.seek(0)
    with pq.ParquetFile(file, read_dictionary=[name]) as table:
        column = table.read(columns=[name]).column(name).unify_dictionaries().combine_chunks()
    if column.null_count:
        raise InputError(f"{path}: column {name} has empty cells")
    longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 1
    _check_claim(4 * longest * len(column), f"{path}: {name} claims", f" ({len(column):,} texts)", size)
    return np.array(column.dictionary.to_pylist())[column.indices.to_numpy()]


def _read_column(file: Any, path: Path, name: str) -> np.ndarray:
    """Read a column of numbers of a parquet file: (n,), or (n, D) for lists. Raises InputError for empty cells."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = file.read(columns=[name]).column(name).combine_chunks()
    nested = pa.types.is_nested(column.type)
    values = column.flatten() if nested else column
    if column.null_count or values.null_count:
        raise InputError(f"{path}: column {name} has empty cells")
    if not nested:
        return column.to_numpy()
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise InputError(f"{path}: column {name}", expected="lists of one length", got=f"{lengths[0]} and {lengths[1]}")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


@contextmanager
def _open_hdf5(file: BinaryIO, path: Path) -> Iterator[dict[str, LazyArray]]:
    import h5py

    arrays: dict[str, LazyArray] = {}
    size = file.seek(0, 2)

    def add_dataset(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.shape is None:
            return  # virtual and external ones are of other files
        if h5py.check_string_dtype(item.dtype):
            arrays[name] = LazyArray(item.shape, "text", item.dtype.itemsize, lambda: _read_strings(item, path, size))
        elif item.dtype.kind in "fiub":
            arrays[name] = LazyArray(item.shape, item.dtype.name, item.dtype.itemsize, lambda: item[()])

    with h5py.File(file, "r") as h5_file:
        h5_file.visititems(add_dataset)
        yield arrays


def _read_strings(item: Any, path: Path, size: int) -> np.ndarray:
    """Read the strings of a dataset in blocks, within the memory that :func:`_check_claim` allows."""
    if not item.size or not item.ndim:
        return np.array(item.asstr()[()])
    strings: list[str] = []
    longest, step = 1, max(1, MAX_EXPANSION * len(item) // item.size)
    for first in range(0, len(item), step):
        part = item.asstr()[first : first + step].reshape(-1).tolist()
        longest = max(longest, *map(len, part))
        strings += part
        _check_claim(4 * longest * len(strings), f"{path}: {item.name[1:]} claims", f" ({item.size:,} texts)", size)
    return np.array(strings).reshape(item.shape)


ARRAY_READERS = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".parquet": _open_parquet,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
}
