"""The C library's allocator, told that a program which trains will want its memory again at once."""

from __future__ import annotations

import ctypes
import functools

# From glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = 2**31 - 1  # bytes that must be free at the top before any are handed back


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc keep what is freed, for the process's own next use.

    By default every tensor of some megabytes is mapped anew and its pages are cleared by the kernel at first
    touch, thousands of times a second. With small batches that took a tenth of a training step (measured,
    docs/engine.md); peak memory stays what it is, only what lies between the peaks is kept.

    Returns:
        Whether the C library took the advice; others than glibc know no such call, and nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, musl
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
