"""What `auto` takes on this machine, and whether a device can be used on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, repeat

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_a3c.dataset import CollectorDataset
from lightning_a3c.losses import A2CLoss
from lightning_a3c.network_checks import copy_network
from lightning_a3c.networks import device_of
from lightning_a3c.pool import WorkerError
from lightning_a3c.processor import computes_in_bf16
from lightning_a3c.types import Transitions, map_tensors
from lightning_a3c.worker import CPU, WorkerPrecision

_MOST_WORKERS = 8  # each worker more makes the data older
_WARM_UP_SECONDS, _TRIAL_SECONDS = 2.0, 2.0  # of trying a device


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


def auto_device(stream_on: Callable[[torch.device], CollectorDataset], learner: torch.device) -> torch.device:
    """The device of the `learner`, or the CPU if training is faster with the workers there.

    Args:
        stream_on: a new training stream with its workers on a device; it is closed here.
        learner: where the stream's network lies.
    """
    device = CPU if learner == CPU else fastest_device(stream_on, CPU, learner)
    rank_zero_info(f"data.worker_device auto: {device}")
    return device


def fastest_device(stream_on: Callable[[torch.device], CollectorDataset], *devices: torch.device) -> torch.device:
    """The one with which training is fastest, no worker failing.

    Each is tried for some seconds, with a learner that does all it does in training but to learn. One worker alone
    would not show how they share a GPU, and all of them alone not that they fetch new weights for each batch and that
    the learner computes there too.
    """
    speeds = {device: _steps_per_second(stream_on(device)) for device in devices}
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


def _steps_per_second(stream: CollectorDataset) -> float:
    """Env steps a second of `stream`, which it closes; 0 if a worker fails, as where a GPU cannot hold them all."""
    stream.supervision = replace(stream.supervision, max_restarts=0)
    net = copy_network(stream.net)  # some networks change as they compute
    with closing(stream):
        try:
            _rehearse(stream, net, seconds=0.0)  # waits for the first of them to begin
            _rehearse(stream, net, _WARM_UP_SECONDS)  # until all have
            return _rehearse(stream, net, _TRIAL_SECONDS)
        except WorkerError as error:
            rank_zero_info(f"data.worker_device auto: workers cannot use {stream.job.device}: {error}")
            return 0.0


def _rehearse(stream: CollectorDataset, net: nn.Module, seconds: float) -> float:
    """Env steps a second of one batch or more, each brought to the device of `net` and differentiated there."""
    loss, device = A2CLoss(), device_of(net)
    begun_at, env_steps = time.perf_counter(), 0
    for batch in chain.from_iterable(repeat(stream)):  # over the ends of epochs
        payload = map_tensors(partial(Tensor.to, device=device, non_blocking=True), batch.payload)
        if isinstance(payload, Transitions):
            logits, values = net(payload.observations)
            terms = loss(logits, values, payload.actions, payload.returns)
            trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
            torch.autograd.grad(terms.loss_total, trained, allow_unused=True)
        env_steps += int(batch.report.env_steps.sum())
        if (elapsed := time.perf_counter() - begun_at) >= seconds or stream.is_interrupted():
            break
    return env_steps / elapsed
