"""The stream of experience as a PyTorch dataset. Owns the life of the collectors; knows nothing of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, NoReturn, Protocol

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import IterableDataset, get_worker_info

from lightning_a3c.collection.backend import CollectorBackend, open_backend
from lightning_a3c.collection.config import StreamConfig
from lightning_a3c.collection.job import CollectorJob, CollectorState
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.shared_weights import tensors_of
from lightning_a3c.rl.agent_network import AgentNetwork
from lightning_a3c.rl.network_checks import device_of
from lightning_a3c.rl.types import Batch, RolloutStats, map_tensors
from lightning_a3c.system.malloc import keep_freed_memory
from lightning_a3c.system.processor import limited_threads, prefer_onednn


class Learners(Protocol):
    """All learners of a run, each with a stream of its own. Its methods are collectives: all call them together."""

    rank: int
    count: int

    def expect(self, report: Batch) -> None:
        """Note the shapes of batches without payload."""

    def raise_if_interrupted(self) -> None:
        """Raise if all are to end before the next batch."""

    def share(self, batch: Batch) -> Batch:
        """`batch` with its own payload and everything else of all learners."""

    def fail(self, error: BaseException) -> NoReturn:
        """In place of `share`: tell the others, and raise `error`."""

    def gather(self, own: Any) -> list[Any] | None:
        """The values of all learners, by rank; None if the others cannot be reached."""


class CollectorDataset(IterableDataset[Batch]):
    """Batches of fresh experience: one per update, `updates_per_epoch` per epoch.

    Asking for a batch first publishes the network's weights to the collectors. So a plain loop of
    `for batch in dataset` with an optimizer step inside trains on current data without a further call. The length is
    known, so Lightning prefetches nothing. Collectors start with the first batch and live until `close`, across
    epochs.

    Args:
        job: what each collector does.
        net: the learner's network, on any device.
        config: how many collectors, and how their messages become batches.

    Raises:
        RuntimeError: iterated inside a DataLoader worker.
        WorkerError: a collector failed more often than it may.
        NoFreeSharedMemory: there is too little shared memory.
    """

    def __init__(self, job: CollectorJob, net: nn.Module, config: StreamConfig) -> None:
        self.job = job
        self.net = net
        self.config = config
        self.check_interrupt: Callable[[], None] = _never  # called while waiting for a batch; may raise
        self.learners: Learners | None = None  # if there are others
        self.continues_epochs = True  # resume inside the epoch; Lightning counts the rest of an epoch by itself
        self._backend: CollectorBackend | None = None
        self._states: list[CollectorState] | None = None  # where synchronous collectors begin
        self._position = 0  # batches of this epoch so far
        self._epoch_start = 0  # where the next epoch begins: further on if it is resumed
        self._batches = 0  # in all epochs
        self._generator_state: Tensor | None = None  # PyTorch's, where a synchronous run resumes
        self._unmerged: RolloutStats | None = None  # of the last batch; its moments count from the next version on
        self._settings = ExitStack()  # of PyTorch, while collectors run

    def __len__(self) -> int:
        return self.config.updates_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise RuntimeError(
                "CollectorDataset starts its own processes and cannot run in those of a DataLoader: "
                "use DataLoader(dataset, batch_size=None, num_workers=0), or iterate the dataset itself"
            )
        self._position = self._epoch_start % len(self) if self.continues_epochs else 0
        self._epoch_start = 0
        while self._position < len(self):
            yield self._next_batch()  # kept in no variable: its memory is free for the batch after it

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch, and the collectors' states if they are synchronous, for an exact resume."""
        moments = None
        if self._unmerged is not None and isinstance(self.net, AgentNetwork) and self.net.has_statistics:
            moments = self._unmerged._asdict()
        states = self._collector_states()
        state: dict[str, Any] = {"position": self._position, "collectors": states, "moments": moments}
        if self.job.rollout.synchronous:  # networks with Dropout draw from it
            state["generator"] = torch.get_rng_state()
            if self.learners is not None:
                gathered = self.learners.gather((states, state["generator"])) or [(None, state["generator"])]
                of_all = [states for states, _ in gathered]
                state["collectors"] = None if None in of_all else [one for states in of_all for one in states]
                state["generator"] = [generator for _, generator in gathered]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = self._epoch_start = state_dict["position"]
        moments = state_dict.get("moments")
        earlier = {"collector": torch.zeros(0, dtype=torch.int64)}  # checkpoints of earlier releases lack it
        self._unmerged = None if moments is None else RolloutStats(**(earlier | moments))
        rank, learners = (0, 1) if self.learners is None else (self.learners.rank, self.learners.count)
        self._generator_state = state_dict.get("generator") if self.job.rollout.synchronous else None
        if isinstance(self._generator_state, list):  # of several learners
            self._generator_state = self._generator_state[rank % len(self._generator_state)]
        states = state_dict.get("collectors")
        if states is None or not self.job.rollout.synchronous:
            return
        own = max(1, self.config.num_workers)
        theirs = len(states), len(states[0]["env"]["episodes"])
        ours = own * learners, self.job.env.num_envs
        if theirs == ours:
            self._states = states[own * rank : own * (rank + 1)]
        elif self.config.collectors is not None:
            raise ValueError(
                f"the checkpoint has {theirs[0]} collectors × {theirs[1]} environments, this run "
                f"{ours[0]} × {ours[1]}: on Ray a run in lock step goes on with as many, on any number of actors; set "
                f"data.num_workers to {theirs[0] // learners} and env.num_envs to {theirs[1]}"
            )
        else:
            rank_zero_warn(
                f"the checkpoint has {theirs[0]} collectors × {theirs[1]} environments, this run "
                f"{ours[0]} × {ours[1]}: all episodes begin anew"
            )

    def close(self) -> None:
        """End the collectors. A later iteration starts new ones, on other episodes unless they are synchronous."""
        if self._backend is not None:
            if self.job.rollout.synchronous:
                self._states = None
                with suppress(WorkerError):
                    self._states = self._backend.state_dict()
            self._backend.close()
            self._backend = None
            self._settings.close()

    def _collector_states(self) -> list[CollectorState] | None:
        if not self.job.rollout.synchronous or self._backend is None:
            return self._states
        try:
            return self._backend.state_dict()
        except WorkerError as error:
            rank_zero_warn(f"{error}; a run resumed from this checkpoint begins all episodes anew")
            return None

    def _open(self) -> CollectorBackend:
        job = replace(  # new collectors play other episodes, and their versions count from 1 again
            self.job,
            first_update=self.job.first_update + self._batches,
            resumed_at=self.job.resumed_at + self._batches,
        )
        backend = open_backend(job, self.config, self._states)
        keep_freed_memory()  # only from here on: memory used once, to start the collectors, goes back to the system
        self._settings.enter_context(
            prefer_onednn([tensor.shape for tensor in tensors_of(self.net)], device_of(self.net))
        )
        self._settings.enter_context(limited_threads(self._workers_here(), self.config.learner_threads))
        return backend

    def _workers_here(self) -> int:
        """Workers that share this machine's cores with the learner."""
        collectors = self.config.collectors
        if collectors is None or collectors.is_local:
            return self.config.num_workers
        return int(self.config.learner_threads is not None)  # which is obeyed where there are any

    def _next_batch(self) -> Batch:
        if self.learners is None:
            batch = self._own_batch()
        else:
            self.learners.raise_if_interrupted()
            try:
                batch = self._own_batch()
            except BaseException as error:
                self.learners.fail(error)
            batch = self.learners.share(batch)
        self._unmerged = batch.stats
        self._position += 1
        self._batches += 1
        return batch

    def _own_batch(self) -> Batch:
        if self._backend is None:
            if self.learners is not None:
                self.learners.expect(self._report_template())
            self._backend = self._open()
        if self._unmerged is not None and isinstance(self.net, AgentNetwork):
            self.net.merge(self._unmerged, self.job.rollout.micro_batch_size)
        version = self._backend.publish(self.net)
        message, queue_fill = self._backend.take(self.config.messages_per_batch, self.check_interrupt)
        if self._generator_state is not None:
            torch.set_rng_state(self._generator_state)
            self._generator_state = None
        return Batch(
            payload=message.payload,
            stats=message.stats,
            policy_lag=version - message.stats.policy_version,
            queue_fill=torch.tensor([queue_fill]),
            worker_restarts=torch.tensor([self._backend.restarts]),
        )

    def _report_template(self) -> Batch:
        """A batch without payload, with the shapes and dtypes of the real ones, on the meta device."""
        count = self.config.messages_per_batch
        stats = map_tensors(lambda part: torch.cat([part] * count), self.job.message_template().stats)
        one = torch.zeros(1, device="meta")
        return Batch((), stats, torch.cat([one] * count), one, one)  # type: ignore[arg-type]


def _never() -> None:
    pass
