"""Tuning of glibc's memory allocator."""

from __future__ import annotations

import ctypes

# constants from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 * 2**20  # bytes; glibc's maximum
_KEPT = 128 * 2**20  # bytes of free memory at the end of the heap


def keep_freed_memory() -> None:
    """Keep freed memory for the next update instead of returning it to the kernel.

    Each update allocates and frees tens of MiB of activations and gradients. The kernel zeroes every page that it hands
    out again, which takes a seventh of an update. Lasts until the process ends; does nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
