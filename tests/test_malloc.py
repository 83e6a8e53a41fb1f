"""Freed memory is kept for the next update."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")

END_OF_HEAP = """
import ctypes
from lightning_a3c.system.malloc import keep_freed_memory

libc = ctypes.CDLL(None)
libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if {keep}:
    keep_freed_memory()
start = libc.sbrk(0)
blocks = [libc.malloc(ctypes.c_size_t(20 * 2**20)) for _ in range(3)]
full = libc.sbrk(0)
for block in blocks:
    libc.free(block)
print(full - start, libc.sbrk(0) - start)
"""


def end_of_heap(keep: bool) -> tuple[float, float]:
    """MiB the heap has grown by with three blocks of 20 MiB, and after they were freed, in a fresh process."""
    run = subprocess.run([sys.executable, "-c", END_OF_HEAP.format(keep=keep)], capture_output=True, check=True)
    full, freed = (int(size) / 2**20 for size in run.stdout.split())
    return full, freed


def test_blocks_of_an_update_come_from_the_heap_and_stay_there_when_freed() -> None:
    full, freed = end_of_heap(keep=True)
    assert full > 59  # a part of the first block may have been there before
    assert freed == full


def test_without_it_they_go_back_to_the_kernel() -> None:
    full, freed = end_of_heap(keep=False)
    assert freed == full < 20
