"""Where the learner's messages come from: a pool of processes, or one collector in this process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Protocol

import torch

from lightning_a3c.pool import WorkerPool
from lightning_a3c.supervision import Supervision
from lightning_a3c.types import Message, map_tensors
from lightning_a3c.weights import SharedWeights
from lightning_a3c.worker import Collector, CollectorJob, CollectorState


class Collectors(Protocol):
    """Where the learner's messages come from; `close` may be called twice."""

    weights: SharedWeights

    @property
    def restarts(self) -> int:
        """Times that a worker was started again."""

    def take(self, count: int, is_interrupted: Callable[[], bool] = lambda: False) -> tuple[Message, float]:
        """The next `count` messages, concatenated field by field into memory of the caller's own,
        and the share of the workers that had one waiting when asked.
        """

    def state_dict(self) -> list[CollectorState]:
        """The state of each synchronous collector between two `take`s.

        Raises:
            WorkerError: one of them is gone.
        """

    def close(self) -> None: ...


class SerialCollector:
    """One collector in this process, for debugging and tiny environments."""

    def __init__(self, job: CollectorJob, states: list[CollectorState] | None = None) -> None:
        job = job.detached()
        self.weights = SharedWeights(job.net, multiprocessing.get_context())
        self.restarts = 0
        self._collector = Collector(job, 0, self.weights)
        if states is not None:
            self._collector.load_state_dict(states[0])

    def take(self, count: int, is_interrupted: Callable[[], bool] = lambda: False) -> tuple[Message, float]:
        return _concatenate([self._collector.collect() for _ in range(count)]), 0.0

    def state_dict(self) -> list[CollectorState]:
        return [self._collector.state_dict()]

    def close(self) -> None:
        self._collector.close()


def _concatenate(messages: list[Message]) -> Message:
    batch: Message = map_tensors(lambda *tensors: torch.cat(tensors), *messages)
    return batch


def open_collectors(
    job: CollectorJob,
    num_workers: int,
    slots_per_worker: int,
    supervision: Supervision,
    states: list[CollectorState] | None,
    pin_memory: bool = False,
) -> Collectors:
    """Worker processes, or for `num_workers` 0 a collector in this process, which never pins its memory."""
    if num_workers == 0:
        return SerialCollector(job, states)
    return WorkerPool(job, num_workers, slots_per_worker, supervision, states, pin_memory)
