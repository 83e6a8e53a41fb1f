"""The door between the learner and its collectors, wherever these run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import nn

from lightning_a3c.collection.config import StreamConfig
from lightning_a3c.collection.job import CollectorJob, CollectorState
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.collection.serial import SerialBackend
from lightning_a3c.rl.types import Message


class CollectorBackend(Protocol):
    """Publishes weights to the collectors and takes their messages. `close` may be called twice."""

    @property
    def restarts(self) -> int:
        """Restarts of failed workers so far."""

    def publish(self, net: nn.Module) -> int:
        """Give the collectors the weights of `net`; returns their version, counted from 1."""

    def take(self, count: int, check_interrupt: Callable[[], None] = lambda: None) -> tuple[Message, float]:
        """The next `count` messages, and the share of the workers that had one waiting when asked.

        The messages are concatenated field by field into memory of the caller's own. `check_interrupt` is called
        while waiting; what it raises ends the wait.
        """

    def state_dict(self) -> list[CollectorState]:
        """The state of each synchronous collector between two `take`s.

        Raises:
            WorkerError: one of them is gone.
        """

    def close(self) -> None: ...


def open_backend(job: CollectorJob, config: StreamConfig, states: list[CollectorState] | None) -> CollectorBackend:
    """Worker processes, here or on a Ray cluster, or for `num_workers` 0 a collector in this process."""
    if config.collectors is not None:
        from lightning_a3c.collection.ray_cluster.cluster import import_ray

        import_ray(config.collectors)
        from lightning_a3c.collection.ray_cluster.backend import RayBackend

        return RayBackend(job, config, states)
    return WorkerPool(job, config, states) if config.num_workers else SerialBackend(job, states)
