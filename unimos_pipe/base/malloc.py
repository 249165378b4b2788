"""Settings of glibc's allocator for large tensors; no effect with other allocators.

By default glibc returns freed memory to the kernel, and each page costs a page fault when it is allocated again. This
took 15% of the encoder's time on a CPU.
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h


def tune_malloc(*, blocks_of_any_size: bool = False) -> None:
    """Keep up to 256 MB of freed memory in this process, in blocks of up to 32 MB.

    Args:
        blocks_of_any_size: also keep blocks above 32 MB, which glibc otherwise maps separately.
    """
    mallopt = _libc_function("mallopt")
    if mallopt:
        mallopt(_TRIM_THRESHOLD, 256 << 20)
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        if blocks_of_any_size:
            mallopt(_MMAP_MAX, 0)


def trim_malloc() -> None:
    """Return kept memory to the kernel. Call it before a fork: writing to pages shared with a child is expensive."""
    trim = _libc_function("malloc_trim")
    if trim:
        trim(0)


def _libc_function(name: str):
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
