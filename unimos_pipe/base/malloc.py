"""glibc's allocator, told that tensors come and go by the megabyte; where there is another, nothing happens.

By default glibc gives freed memory back to the kernel, and every page of it costs a fault when it is taken again: seen
here, 15% of the encoder's time on a CPU.
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h


def tune_malloc(*, blocks_of_any_size: bool = False) -> None:
    """Keep up to 256 MB of freed memory in this process, in blocks of up to 32 MB.

    Args:
        blocks_of_any_size: take none of them from the kernel by itself, as glibc does with the larger ones.
    """
    mallopt = _libc_function("mallopt")
    if mallopt:
        mallopt(_TRIM_THRESHOLD, 256 << 20)
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        if blocks_of_any_size:
            mallopt(_MMAP_MAX, 0)


def trim_malloc() -> None:
    """Give back what is kept: before a fork, for pages shared with a child cost far more to take than fresh ones."""
    trim = _libc_function("malloc_trim")
    if trim:
        trim(0)


def _libc_function(name: str):
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
