"""What runs in an actor: a pool of worker processes, fed by calls instead of by a learner. Does not import Ray."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lightning_a3c.collection.config import StreamConfig
from lightning_a3c.collection.job import CollectorState
from lightning_a3c.collection.processes.job_sharing import unpickle_job
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.collection.processes.process_settings import ProcessSettings
from lightning_a3c.rl.types import map_tensors


class Weights(NamedTuple):
    """One version of the learner's weights; see `SharedWeights.publish_arrays`."""

    arrays: list[np.ndarray]
    trained: list[bool]
    version: int


class Share(NamedTuple):
    """What one actor does of a learner's collecting."""

    config: StreamConfig  # with the actor's own number of workers
    first_collector: int
    resumed_at: int
    states: list[CollectorState] | None
    settings: ProcessSettings  # of the learner


class Answer(NamedTuple):
    """The messages of one call."""

    arrays: list[np.ndarray]  # the fields of the messages, concatenated one by one, in order
    messages: int
    restarts: int  # of the pool's workers so far


class ActorPool:
    """A pool of workers on the node of this process.

    Args:
        pickled: the learner's job; see `pickle_job`.
        share: the actor's part of it.
    """

    def __init__(self, pickled: bytes, share: Share) -> None:
        _follow(share.settings)
        job = replace(unpickle_job(pickled), first_collector=share.first_collector, resumed_at=share.resumed_at)
        self._version = 0
        self._is_closed = False
        self._pool = WorkerPool(job, share.config, share.states)

    def take(self, weights: Weights, count: int) -> Answer:
        """Publish `weights` unless newer ones are there, and return the next `count` messages."""
        if weights.version > self._version:
            self._version = weights.version
            self._pool.publish_arrays(*weights)
        try:
            message, _ = self._pool.take(count)
        except Exception:
            if self._is_closed:  # by another thread; nobody waits for an answer
                return Answer([], 0, self._pool.restarts)
            raise
        arrays: list[np.ndarray] = []

        def append(tensor: Tensor) -> None:
            arrays.append(tensor.numpy())

        map_tensors(append, message)
        return Answer(arrays, count, self._pool.restarts)

    def state_dict(self) -> list[CollectorState]:
        return self._pool.state_dict()

    def close(self) -> None:
        """End the workers; may be called while another thread is in `take`."""
        self._is_closed = True
        self._pool.close()


def _follow(learner: ProcessSettings) -> None:
    """Take over the settings of the learner that make sense on another machine.

    Variables stay those of the node: the learner's may hold secrets, and paths that are not here.
    """
    own = ProcessSettings.current()
    folder = learner.folder if os.path.isdir(learner.folder) else own.folder
    learner._replace(variables=own.variables, cores=own.cores, folder=folder).apply()
