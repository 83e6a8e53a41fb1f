"""The stream of experience as a PyTorch dataset. Owns the life of the collectors; knows nothing of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import IterableDataset, get_worker_info

from lightning_a3c.collectors import Collectors, open_collectors
from lightning_a3c.heap import keep_freed_memory
from lightning_a3c.networks import device_of
from lightning_a3c.pool import Interrupted, WorkerError
from lightning_a3c.processor import fastest_matmul, threads_beside
from lightning_a3c.supervision import Supervision
from lightning_a3c.types import Batch
from lightning_a3c.worker import CollectorJob, CollectorState


class CollectorDataset(IterableDataset[Batch]):
    """Batches of fresh experience, one an update, `updates_per_epoch` of them an epoch.

    Whenever a batch is asked for, the network's weights are published to the collectors first: a
    plain loop of `for batch in dataset` with an optimizer step inside trains with current data,
    without a further call. The length is known, so nothing is prefetched.
    Collectors start with the first batch and live until `close`, across epochs.

    Args:
        job: what each collector does.
        net: the learner's network, on any device.
        num_workers: collector processes; 0 collects in this process.
        messages_per_batch: payloads concatenated to one batch, >= 1.
        updates_per_epoch: batches in an epoch, >= 1.
        slots_per_worker: see `WorkerPool`.
        learner_threads: see `CollectorDataModule`.
        supervision: what becomes of collectors that fail.
        pin_memory: see `WorkerPool`.

    Raises:
        RuntimeError: iterated inside a DataLoader worker.
        WorkerError: a collector failed more often than it may.
        NoFreeSharedMemory: /dev/shm is too small.
    """

    def __init__(
        self,
        job: CollectorJob,
        net: nn.Module,
        num_workers: int,
        messages_per_batch: int,
        updates_per_epoch: int,
        slots_per_worker: int = 2,
        learner_threads: int | None = None,
        supervision: Supervision = Supervision(),
        pin_memory: bool = False,
    ) -> None:
        self.job = job
        self.net = net
        self.num_workers = num_workers
        self.messages_per_batch = messages_per_batch
        self.updates_per_epoch = updates_per_epoch
        self.slots_per_worker = slots_per_worker
        self.learner_threads = learner_threads
        self.supervision = supervision
        self.pin_memory = pin_memory
        self.is_interrupted: Callable[[], bool] = _never  # looked at while waiting for a batch
        self.continues_epochs = True  # where a loaded state left one; Lightning counts the rest of an epoch by itself
        self._collectors: Collectors | None = None
        self._states: list[CollectorState] | None = None  # where synchronous collectors begin when opened
        self._position = 0  # batches handed out in this epoch
        self._start = 0  # where the next epoch begins: further on if it is resumed
        self._batches = 0  # handed out at all
        self._settings = ExitStack()  # of PyTorch, while collectors run

    def __len__(self) -> int:
        return self.updates_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise RuntimeError(
                "CollectorDataset starts its own processes and cannot run in those of a DataLoader: "
                "use DataLoader(dataset, batch_size=None, num_workers=0), or iterate the dataset itself"
            )
        self._position = self._start % self.updates_per_epoch if self.continues_epochs else 0
        self._start = 0
        while self._position < self.updates_per_epoch:
            yield self._next_batch()  # kept in no variable: its memory is free for the batch after it

    def state_dict(self) -> dict[str, Any]:
        """How much of the epoch is done, and for a synchronous job where the collectors are, for an exact resume."""
        return {"position": self._position, "collectors": self._collector_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = self._start = state_dict["position"]
        states = state_dict.get("collectors")
        if states is None or not self.job.synchronous:
            return
        theirs = len(states), len(states[0]["env"]["episodes"])
        ours = max(1, self.num_workers), self.job.env.num_envs
        if theirs == ours:
            self._states = states
        else:
            rank_zero_warn(
                f"the checkpoint has {theirs[0]} collectors × {theirs[1]} environments, this run "
                f"{ours[0]} × {ours[1]}: all episodes begin anew"
            )

    def close(self) -> None:
        """End the collectors; a later iteration starts new ones, on other episodes unless synchronous."""
        if self._collectors is not None:
            if self.job.synchronous:
                self._states = None
                with suppress(WorkerError):
                    self._states = self._collectors.state_dict()
            self._collectors.close()
            self._collectors = None
            self._settings.close()

    def _collector_states(self) -> list[CollectorState] | None:
        if not self.job.synchronous or self._collectors is None:
            return self._states
        try:
            return self._collectors.state_dict()
        except WorkerError as error:
            rank_zero_warn(f"{error}; what is resumed from here begins all episodes anew")
            return None

    def _open(self) -> Collectors:
        job = replace(  # opened again, they play other episodes, and their versions count from 1 once more
            self.job,
            first_update=self.job.first_update + self._batches,
            experience=self.job.experience + self._batches,
        )
        collectors = open_collectors(
            job, self.num_workers, self.slots_per_worker, self.supervision, self._states, self.pin_memory
        )
        keep_freed_memory()  # from here on: what was needed once, to open them, goes back to the system
        self._settings.enter_context(fastest_matmul(device_of(self.net)))
        self._settings.enter_context(threads_beside(self.num_workers, self.learner_threads))
        return collectors

    def _next_batch(self) -> Batch:
        if self._collectors is None:
            self._collectors = self._open()
        self._collectors.weights.publish(self.net)
        try:
            message, queue_fill = self._collectors.take(self.messages_per_batch, self.is_interrupted)
        except Interrupted:
            raise SIGTERMException from None  # as Lightning does between batches
        self._position += 1
        self._batches += 1
        return Batch(
            payload=message.payload,
            report=message.report,
            policy_lag=self._collectors.weights.version - message.report.policy_version,
            queue_fill=torch.tensor([queue_fill]),
            worker_restarts=torch.tensor([self._collectors.restarts]),
        )


def _never() -> bool:
    return False
