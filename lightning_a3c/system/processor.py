"""Features of this machine's processor, and settings that make PyTorch use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor

from lightning_a3c.system.process_wide import ProcessWideSetting

_WIDE = 2**18  # weights of a layer from which on oneDNN is at least as fast as MKL


def computes_in_bf16() -> bool:
    """Whether the processor computes faster in bfloat16."""
    return _can("avx512_bf16") or _can("amx_bf16")


@contextmanager
def prefer_onednn(shapes: Iterable[Sequence[int]], device: torch.device) -> Iterator[None]:
    """Let oneDNN instead of MKL multiply float32 matrices, if one of these weights is large and `device` a CPU with
    AVX-512 but without AMX.

    On AMD's processors MKL uses AVX2, which is slower for wide layers. Each of oneDNN's calls takes 15 µs longer, which
    makes a layer of 64 × 64 two to three times as slow. PyTorch hands oneDNN those products that may be rounded to
    bfloat16; oneDNN rounds only with AMX, so without it all stays float32. Does nothing if the user has called
    `torch.set_float32_matmul_precision` or one of its newer relatives.
    """
    is_large = any(len(shape) == 2 and prod(shape) >= _WIDE for shape in shapes)
    if not is_large or device.type != "cpu" or not _can("avx512_f") or _can("amx_bf16"):
        yield
        return
    with _onednn.applied():
        yield


@contextmanager
def limited_threads(num_workers: int, threads: int | None = None) -> Iterator[None]:
    """Limit this thread to `threads` threads of PyTorch, by default as many as `num_workers` leave cores for.

    Threads that compete with workers for a core slow both down. PyTorch keeps the number per thread, and a new thread
    takes the number that was set last.
    """
    with _threads.applied() as before:
        torch.get_num_threads()  # a thread's first call, or its first operation, would reset a number set before it
        if num_workers:
            torch.set_num_threads(threads or max(1, before - num_workers))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def onednn_multiplies(inputs: Tensor) -> bool:
    """Whether oneDNN multiplies matrices like `inputs`: always in bfloat16, by PyTorch's settings in float32."""
    if inputs.device.type != "cpu":
        return False
    return inputs.dtype == torch.bfloat16 or (inputs.dtype == torch.float32 and _float32_precision() == "medium")


def _can(instructions: str) -> bool:
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older PyTorch
    return bool(capabilities.get(instructions))


def _float32_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the user has set the newer switches, for which PyTorch cannot name one value
        return None


def _let_onednn_multiply() -> bool:
    """Whether this changed the setting; one that the user has made stays."""
    if _float32_precision() != "highest":
        return False
    torch.set_float32_matmul_precision("medium")
    return True


def _undo_onednn(was_changed: bool) -> None:
    if was_changed:
        torch.set_float32_matmul_precision("highest")


_onednn = ProcessWideSetting(_let_onednn_multiply, _undo_onednn)
_threads = ProcessWideSetting(torch.get_num_threads, torch.set_num_threads)
