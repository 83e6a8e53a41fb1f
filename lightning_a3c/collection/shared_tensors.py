"""Tensors in memory that several processes share. Knows nothing of what they hold."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes, a cache line
_SHARED_MEMORY = Path("/dev/shm")


class NoFreeSharedMemory(OSError):
    """There is too little shared memory."""


class SharedTensors:
    """A list of tensors in one anonymous shared mapping.

    Python unlinks the file behind the mapping as soon as it exists, so nothing stays in /dev/shm however the processes
    end, and all tensors together cost one file descriptor per process. Pass it to a child process as an argument; both
    then see the same memory.

    Args:
        templates: supply shapes and dtypes; the tensors start at zero.
        context: the multiprocessing context of the processes that share the memory.

    Raises:
        NoFreeSharedMemory: there is too little shared memory.
    """

    def __init__(self, templates: Sequence[Tensor], context: BaseContext) -> None:
        self._layout: list[tuple[int, tuple[int, ...], torch.dtype]] = []
        size = 0
        for template in templates:
            self._layout.append((size, tuple(template.shape), template.dtype))
            size += math.ceil(template.numel() * template.element_size() / _ALIGNMENT) * _ALIGNMENT
        require_shared_memory(size)
        self._memory = context.RawArray(ctypes.c_uint8, max(size, _ALIGNMENT))
        self._map()

    def _map(self) -> None:
        arena = torch.frombuffer(self._memory, dtype=torch.uint8)
        self.tensors = [
            arena[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for offset, shape, dtype in self._layout
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"_layout": self._layout, "_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()


def require_shared_memory(size: int) -> None:
    """Raise `NoFreeSharedMemory` unless /dev/shm, where the system has it, has `size` free bytes."""
    if not _SHARED_MEMORY.is_dir():
        return
    room = os.statvfs(_SHARED_MEMORY)
    free = room.f_bavail * room.f_frsize
    if size > free:
        raise NoFreeSharedMemory(
            f"{size / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free in {_SHARED_MEMORY}; lower data.num_workers "
            "or data.slots_per_worker, or start the container with --shm-size=2g"
        )
