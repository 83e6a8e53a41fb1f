"""One collector in the learner's process, for debugging and tiny environments."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import torch
from torch import nn

from lightning_a3c.collection.collector import Collector
from lightning_a3c.collection.job import CollectorJob, CollectorState
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.rl.types import Message, map_tensors


class SerialBackend:
    """A `CollectorBackend` without processes.

    Args:
        job: what the collector does.
        states: of one synchronous collector, where it begins.
    """

    def __init__(self, job: CollectorJob, states: list[CollectorState] | None = None) -> None:
        job = job.with_own_network()
        self.restarts = 0
        self._weights = SharedWeights(job.net, multiprocessing.get_context())
        self._collector = Collector(job, 0, self._weights)
        if states is not None:
            self._collector.load_state_dict(states[0])

    def publish(self, net: nn.Module) -> int:
        return self._weights.publish(net)

    def take(self, count: int, check_interrupt: Callable[[], None] = lambda: None) -> tuple[Message, float]:
        return _concatenate([self._collector.collect() for _ in range(count)]), 0.0

    def state_dict(self) -> list[CollectorState]:
        return [self._collector.state_dict()]

    def close(self) -> None:
        self._collector.close()


def _concatenate(messages: list[Message]) -> Message:
    batch: Message = map_tensors(lambda *tensors: torch.cat(tensors), *messages)
    return batch
