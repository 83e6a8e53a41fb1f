"""What this machine's processor can do, and how PyTorch makes the most of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_a3c.system.process_wide import ProcessWideSetting


def computes_in_bf16() -> bool:
    """Whether bfloat16 makes it faster."""
    return _can("avx512_bf16") or _can("amx_bf16")


@contextmanager
def prefer_onednn(device: torch.device) -> Iterator[None]:
    """Within it oneDNN instead of MKL multiplies float32 matrices, if `device` is a CPU with AVX-512 and without AMX.

    MKL computes with AVX2 on AMD's processors, half as fast. PyTorch gives oneDNN the products that it may round to
    bfloat16 inside; oneDNN does so only with AMX, so without it all stays float32. Does nothing if
    `torch.set_float32_matmul_precision` or its newer relatives have been called before.
    """
    if device.type != "cpu" or not _can("avx512_f") or _can("amx_bf16"):
        yield
        return
    with _onednn.applied():
        yield


@contextmanager
def limited_threads(num_workers: int, threads: int | None = None) -> Iterator[None]:
    """Within it this thread computes with `threads` threads of PyTorch, by default with what `num_workers` leave.

    Threads that wait for a core that a worker has are worse than no threads, and while they wait they keep others busy.
    PyTorch keeps the number by thread, and gives a new thread the one that was set last.
    """
    with _threads.applied() as before:
        torch.get_num_threads()  # a thread's first call, or its first operation, would undo what is set before it
        if num_workers:
            torch.set_num_threads(threads or max(1, before - num_workers))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def onednn_multiplies(inputs: Tensor) -> bool:
    """Whether oneDNN multiplies such matrices: in bfloat16 always, in float32 within `prefer_onednn` or if told to."""
    if inputs.device.type != "cpu":
        return False
    return inputs.dtype == torch.bfloat16 or (inputs.dtype == torch.float32 and _float32_precision() == "medium")


def _can(instructions: str) -> bool:
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch does not tell
    return bool(capabilities.get(instructions))


def _float32_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer switches were used, and PyTorch refuses to name one value for them
        return None


def _let_onednn_multiply() -> bool:
    """Whether it was not let before, and the user has set nothing."""
    if _float32_precision() != "highest":
        return False
    torch.set_float32_matmul_precision("medium")
    return True


def _undo_onednn(was_let: bool) -> None:
    if was_let:
        torch.set_float32_matmul_precision("highest")


_onednn = ProcessWideSetting(_let_onednn_multiply, _undo_onednn)
_threads = ProcessWideSetting(torch.get_num_threads, torch.set_num_threads)
