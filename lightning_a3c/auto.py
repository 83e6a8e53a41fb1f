"""What `auto` takes on this machine, and whether a device can be used on it."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import replace

import torch
from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_a3c.collectors import Collectors, open_collectors
from lightning_a3c.networks import device_of
from lightning_a3c.pool import WorkerError
from lightning_a3c.processor import computes_in_bf16
from lightning_a3c.supervision import Supervision
from lightning_a3c.worker import CPU, CollectorJob, WorkerPrecision

_MOST_WORKERS = 8  # each worker more makes the data older
_WARM_UP_SECONDS, _TRIAL_SECONDS = 2.0, 2.0  # of trying a device
_SLOTS = 2  # of each worker meanwhile: one to fill, one to be read


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


def auto_device(job: CollectorJob, num_workers: int, supervision: Supervision) -> torch.device:
    """The learner's device, where `job.net` lies, or the CPU if the workers collect faster there."""
    learner = device_of(job.net)
    device = CPU if learner == CPU else fastest_device(job, num_workers, supervision, CPU, learner)
    rank_zero_info(f"data.worker_device auto: {device}")
    return device


def fastest_device(
    job: CollectorJob, num_workers: int, supervision: Supervision, *devices: torch.device
) -> torch.device:
    """The one on which `num_workers` workers together collect fastest, none of them failing.

    Each is tried for some seconds: one worker alone would not show how they share a GPU.
    """
    no_second_try = replace(supervision, max_restarts=0)
    trials = {device: replace(job, device=device, synchronous=False) for device in devices}
    speeds = {device: _steps_per_second(trial, num_workers, no_second_try) for device, trial in trials.items()}
    rank_zero_info("env steps/s by device: " + ", ".join(f"{device} {speed:.0f}" for device, speed in speeds.items()))
    return max(speeds, key=speeds.__getitem__)


def require_usable(device: str) -> None:
    """Raises ValueError unless PyTorch can make a tensor on `device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'data.worker_device must be "cpu", "auto" or a device PyTorch can use here, got {device!r}: {reason}'
        ) from error


def _steps_per_second(job: CollectorJob, num_workers: int, supervision: Supervision) -> float:
    """Of workers that need not wait for a learner; 0 if one fails, as where a GPU's memory is too small for all."""
    with closing(open_collectors(job, num_workers, _SLOTS, supervision, states=None)) as collectors:
        collectors.weights.publish(job.net)
        try:
            collectors.take(1)
            _collect(collectors, _WARM_UP_SECONDS)  # until all have begun
            return _collect(collectors, _TRIAL_SECONDS)
        except WorkerError as error:
            rank_zero_info(f"data.worker_device auto: workers cannot use {job.device}: {error}")
            return 0.0


def _collect(collectors: Collectors, seconds: float) -> float:
    begun_at, env_steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun_at) < seconds or not env_steps:
        message, _ = collectors.take(1)
        env_steps += int(message.report.env_steps.sum())
    return env_steps / elapsed
