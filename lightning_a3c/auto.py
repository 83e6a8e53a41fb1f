"""What `auto` takes on this machine, and whether a device can be used on it."""

from __future__ import annotations

import os
import timeit

import torch
from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_a3c.networks import device_of
from lightning_a3c.policies import SoftmaxPolicy
from lightning_a3c.processor import computes_in_bf16, fastest_matmul
from lightning_a3c.worker import CPU, CollectorJob, WorkerPrecision

_MOST_WORKERS = 8  # each worker more makes the data older
_ROUNDS, _CALLS = 4, 5  # the first round also warms up, the best one counts


def auto_workers() -> int:
    """One worker for each core this process may use, as far as that is sensible."""
    cores = len(os.sched_getaffinity(0))
    workers = min(cores, _MOST_WORKERS)
    rank_zero_info(f"data.num_workers auto: {workers} on {cores} cores")
    return workers


def auto_precision() -> WorkerPrecision:
    """bfloat16 where the processor computes in it."""
    precision: WorkerPrecision = "bf16-true" if computes_in_bf16() else "32-true"
    rank_zero_info(f"data.worker_precision auto: {precision}")
    return precision


def auto_device(job: CollectorJob) -> torch.device:
    """The learner's device, where `job.net` lies, or the CPU if a worker acts faster there."""
    learner = device_of(job.net)
    device = CPU if learner == CPU else faster_device(job, CPU, learner)
    rank_zero_info(f"data.worker_device auto: {device}")
    return device


def faster_device(job: CollectorJob, *devices: torch.device) -> torch.device:
    """The one on which a worker that has it for itself acts fastest for all its environments."""
    return min(devices, key=lambda device: _seconds_to_act(job, device))


def require_usable(device: str) -> None:
    """Raises ValueError unless PyTorch can make a tensor on `device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'data.worker_device must be "cpu", "auto" or a device PyTorch can use here, got {device!r}: {reason}'
        ) from error


def _seconds_to_act(job: CollectorJob, device: torch.device) -> float:
    """Of one choice of actions for all of a worker's environments, copies to and from `device` included."""
    policy = SoftmaxPolicy(job.detached().net.to(device))
    observations = torch.zeros(job.env.num_envs, *job.observation_shape, dtype=getattr(torch, job.observation_dtype))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers do
    try:
        with fastest_matmul(device), job.autocast(device):
            return min(timeit.repeat(lambda: policy(observations), number=_CALLS, repeat=_ROUNDS)) / _CALLS
    finally:
        torch.set_num_threads(threads)
