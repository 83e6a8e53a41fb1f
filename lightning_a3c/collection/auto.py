"""What `auto` means on this machine, and whether a device can be used on it."""

from __future__ import annotations

import torch
from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_a3c.collection.config import WorkerPrecision
from lightning_a3c.collection.job import CPU
from lightning_a3c.system.machine import usable_cores
from lightning_a3c.system.processor import computes_in_bf16

_MOST_WORKERS = 8  # each further worker makes the data older
_MOST_WORKERS_ON_DEVICE = 6  # more only acting workers slow each other down on one GPU: see docs/decisions.md


def auto_workers(learners: int = 1) -> int:
    """One worker for each core this process may use, up to a sensible number.

    Args:
        learners: that share those cores, >= 1.
    """
    cores = usable_cores()
    workers = max(1, min(cores // learners, _MOST_WORKERS))
    sharing = "" if learners == 1 else f" for each of {learners} learners"
    rank_zero_info(f"data.num_workers auto: {workers}{sharing} on {cores} cores")
    return workers


def auto_precision() -> WorkerPrecision:
    """bfloat16 where the processor computes in it."""
    precision: WorkerPrecision = "bf16-true" if computes_in_bf16() else "32-true"
    rank_zero_info(f"data.worker_precision auto: {precision}")
    return precision


def auto_device(learner: torch.device, num_workers: int, sends_gradients: bool) -> torch.device:
    """Where workers compute fastest: on the learner's device, or on the CPU if many workers only act.

    Args:
        learner: where the learner's network lies.
        num_workers: worker processes.
        sends_gradients: whether workers differentiate too.
    """
    device = learner if sends_gradients or num_workers <= _MOST_WORKERS_ON_DEVICE else CPU
    rank_zero_info(f"data.worker_device auto: {device}")
    return device


def require_usable(device: str) -> None:
    """Raise ValueError unless PyTorch can make a tensor on `device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'data.worker_device must be "cpu", "auto" or a device PyTorch can use here, got {device!r}: {reason}'
        ) from error
