"""How much freed memory this process keeps."""

from __future__ import annotations

import ctypes

# of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 * 2**20  # bytes; glibc allows no more
_KEPT = 128 * 2**20  # bytes, free at the end of the heap


def keep_freed_memory() -> None:
    """Keep blocks of some MiB for the next update, instead of giving them back and getting them anew.

    An update's activations and gradients are tens of MiB, freed and allocated each time. The kernel zeroes each page
    that it hands out again, which takes a seventh of an update. For the rest of this process's life; does
    nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
