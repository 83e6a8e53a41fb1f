"""Choosing between devices that workers could compute on."""

from __future__ import annotations

import timeit

import torch

from lightning_a3c.policies import SoftmaxPolicy
from lightning_a3c.worker import CollectorJob

_ROUNDS, _CALLS = 4, 5  # the first round also warms up, the best one counts


def require_usable(device: str) -> None:
    """Raises ValueError unless PyTorch can make a tensor on `device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'data.worker_device must be "cpu", "auto" or a device PyTorch can use here, got {device!r}: {reason}'
        ) from error


def faster_device(job: CollectorJob, *devices: torch.device) -> torch.device:
    """The one on which a worker that has it for itself acts fastest for all its environments."""
    return min(devices, key=lambda device: seconds_to_act(job, device))


def seconds_to_act(job: CollectorJob, device: torch.device) -> float:
    """Of one choice of actions for all of a worker's environments, copies to and from `device` included."""
    policy = SoftmaxPolicy(job.detached().net.to(device))
    observations = torch.zeros(job.env.num_envs, *job.observation_shape, dtype=getattr(torch, job.observation_dtype))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers do
    try:
        with job.autocast(device):
            return min(timeit.repeat(lambda: policy(observations), number=_CALLS, repeat=_ROUNDS)) / _CALLS
    finally:
        torch.set_num_threads(threads)
