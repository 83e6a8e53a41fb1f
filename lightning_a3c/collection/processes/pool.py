"""Collector processes: starting them, taking their messages, restarting and ending them. Knows no Lightning."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Self

import numpy as np
from torch import Tensor, nn

from lightning_a3c.collection.config import StreamConfig
from lightning_a3c.collection.job import CollectorJob, CollectorState
from lightning_a3c.collection.processes.channel import RemoteFailure
from lightning_a3c.collection.processes.errors import WorkerError, os_errors_explained, refusal_of
from lightning_a3c.collection.processes.fork_server import start_fork_server
from lightning_a3c.collection.processes.job_sharing import share_job
from lightning_a3c.collection.processes.process_settings import ProcessSettings
from lightning_a3c.collection.processes.supervision import Failure, FailureLog
from lightning_a3c.collection.processes.worker_process import WorkerProcess
from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.rl.types import Message, RolloutStats

_STOP_SECONDS = 3.0  # until a worker that was told to stop is killed
_PATIENCE_SECONDS = 3.0  # of waiting for a batch before an interruption counts
_WATCH_SECONDS = 0.2  # between checks of the workers while waiting for them

_log = logging.getLogger(__name__)
_open_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


class WorkerPool:
    """`num_workers` collector processes, each with a channel of its own.

    The processes start with the first `take`, after the first weights are published. They come from a fork server
    that has imported the package once, so they start fast, share its memory, and inherit none of the learner's
    threads. They get the learner's `ProcessSettings` of this moment.

    A worker that raises, dies or hangs is restarted with a new seed, within the limits of `config.supervision`, while
    the others go on. Messages that it had announced are still taken; the rest is lost.

    With a synchronous job, workers begin the next payloads when `take` is called, all with the weights published
    last, and messages are taken in the order of ranks. Replacing a failed worker would change what follows, so there
    a failure ends the run.

    Args:
        job: what every collector does.
        config: how many workers and slots, and their supervision; `num_workers` >= 1.
        states: where synchronous collectors begin, by rank.

    Raises:
        NoFreeSharedMemory: there is too little shared memory for the slots and weights.
        WorkerError: there is no current folder, or this process may open no more files.
    """

    def __init__(
        self,
        job: CollectorJob,
        config: StreamConfig,
        states: list[CollectorState] | None = None,
    ) -> None:
        with os_errors_explained():
            self._settings = ProcessSettings.current()
            context = start_fork_server()
            self._weights = SharedWeights(job.with_own_network().net, context)
            self._job = share_job(job, context)
        self._env_id = job.env.id
        self._is_synchronous = job.rollout.synchronous
        self._pins = config.pin_memory
        self._states: list[CollectorState | None] = [*states] if states else [None] * config.num_workers
        self._held: list[tuple[WorkerProcess, int]] = []  # slots that a synchronous pool releases in the next take
        self._failures = FailureLog(config.supervision)
        self._waiting: deque[int] = deque()  # ranks with something to read, oldest first
        template = job.message_template()
        with os_errors_explained():
            self._workers = [
                WorkerProcess(rank, job.first_collector + rank, template, config.slots_per_worker, context)
                for rank in range(config.num_workers)
            ]
        self._watched_at = time.monotonic()  # when the workers were last checked
        self._is_closed = False
        self._is_in_batch = False  # inside `take`
        _open_pools.add(self)
        atexit.register(self.close)  # an open pool must not keep the interpreter from ending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers, by rank."""
        return [worker.process.pid for worker in self._workers if worker.process and worker.process.pid]

    @property
    def restarts(self) -> int:
        return self._failures.total

    def publish(self, net: nn.Module) -> int:
        return self._weights.publish(net)

    def publish_arrays(self, arrays: Sequence[np.ndarray], trained: Sequence[bool], number: int) -> None:
        """In place of `publish`, weights from another process; see `SharedWeights`."""
        self._weights.publish_arrays(arrays, trained, number)

    def take(self, count: int, check_interrupt: Callable[[], None] = lambda: None) -> tuple[Message, float]:
        """The next `count` messages concatenated, first come first served.

        `check_interrupt` is called only after some seconds of waiting. A batch that comes sooner is returned, so that
        the collectors can resume exactly after it.

        Raises:
            WorkerError: a worker has failed more often than it may; with the last tracebacks.
        """
        if self._is_closed:
            raise WorkerError("the pool is closed")
        self._is_in_batch = True
        patient_until = time.monotonic() + _PATIENCE_SECONDS

        def check() -> None:
            if time.monotonic() > patient_until:
                check_interrupt()

        self._release_held()
        self._start_due_workers()
        self._poll(timeout=0)
        self._fail_hung_workers()
        fill = 0.0 if self._is_synchronous else len(self._waiting) / len(self._workers)
        whole: list[Tensor] = []
        for place in range(count):
            wanted = place % len(self._workers) if self._is_synchronous else None
            worker, slot, message = self._receive(wanted, check)
            parts = (*message.payload, *message.stats)
            if place == 0:
                whole = [_memory_for(count, self._pins, part) for part in parts]
            for memory, part in zip(whole, parts, strict=True):
                rows = part.shape[0]
                memory[place * rows : (place + 1) * rows].copy_(part)
            if self._is_synchronous:
                self._held.append((worker, slot))
            else:
                worker.release(slot)  # at once, since a batch may need more messages than there are slots
        self._is_in_batch = False
        fields = len(message.payload)
        return Message(type(message.payload)(*whole[:fields]), RolloutStats(*whole[fields:])), fill

    def state_dict(self) -> list[CollectorState]:
        if self._is_in_batch or not all(worker.process for worker in self._workers):
            raise WorkerError(
                "the collectors' states are not available: they were interrupted in a batch, or are not running"
            )
        try:
            return [worker.reader.ask(_STOP_SECONDS) for worker in self._workers]
        except (OSError, EOFError) as error:
            raise WorkerError(f"a collector's state is not available: {error!r}") from error

    def close(self) -> None:
        """End all workers: close their channels, then kill those that do not stop."""
        atexit.unregister(self.close)
        _open_pools.discard(self)
        self._is_closed = True
        for worker in self._workers:
            worker.close_channel()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.end(deadline)

    def _abandon(self) -> None:
        atexit.unregister(self.close)
        self._is_closed = True
        for worker in self._workers:
            worker.close_channel()
            worker.process = None

    def _release_held(self) -> None:
        for worker, slot in self._held:
            worker.release(slot)
        self._held = []

    def _receive(self, wanted: int | None, check_interrupt: Callable[[], None]) -> tuple[WorkerProcess, int, Message]:
        """The next message of rank `wanted`, or of any rank; meanwhile restarts failed workers."""
        while True:
            check_interrupt()
            self._start_due_workers()
            if not (self._waiting if wanted is None else wanted in self._waiting):
                self._poll(timeout=_WATCH_SECONDS)
            ranks = [rank for rank in self._waiting if wanted in (None, rank)]
            if ranks:
                self._waiting.remove(ranks[0])
                worker = self._workers[ranks[0]]
                try:
                    return worker, *worker.receive()
                except RemoteFailure as failure:
                    self._fail(worker, f"collector {worker.number} raised", failure.exception, failure.traceback)
                except (EOFError, ConnectionResetError):
                    self._fail(worker, worker.describe_exit())
            self._fail_hung_workers()

    def _poll(self, timeout: float) -> None:
        readers = {
            worker.reader: worker.rank
            for worker in self._workers
            if worker.process and worker.rank not in self._waiting
        }
        for reader in wait(list(readers), timeout):  # type: ignore[arg-type]  # anything with a fileno will do
            self._waiting.append(readers[reader])  # type: ignore[index]

    def _fail_hung_workers(self) -> None:
        now, timeout = time.monotonic(), self._failures.supervision.timeout
        was_suspended = now - self._watched_at > timeout / 2  # by Ctrl-Z, say, which stops the workers too
        self._watched_at = now
        for worker in self._workers:
            if not worker.process or worker.rank in self._waiting:
                continue
            worker.note_activity()
            if was_suspended:
                worker.active_at = now
            elif now - worker.active_at > timeout:
                where = worker.current_call(self._env_id)
                name = f"collector {worker.number} (process {worker.process.pid})"
                self._fail(worker, f"{name} hangs: it did nothing for {timeout:g} s and is {where}")

    def _fail(self, worker: WorkerProcess, reason: str, exception: str = "", traceback: str = "") -> None:
        """End the worker and schedule its restart, or give up."""
        failure = Failure(time.monotonic(), worker.rank, reason, exception, traceback)
        worker.close_channel()
        worker.end(deadline=failure.time)
        if self._is_synchronous:
            raise WorkerError(
                f"{self._failures.describe(failure)}\n"
                "With data.synchronous a replacement would change the result, so the run ends; resume from the last "
                "checkpoint"
            ) from None
        delay = self._failures.record(failure)
        if delay is None:
            raise WorkerError(
                f"collector {worker.number} failed more often than data.supervision.max_restarts allows "
                f"({self._failures.supervision.max_restarts} in {self._failures.supervision.window:g} s); "
                f"the last failures:\n{self._failures.summary()}"
            ) from None  # the worker's traceback is in the message
        if _log.isEnabledFor(logging.WARNING):
            _log.warning("%s\nRestarting it in %g s", self._failures.describe(failure), delay)
        worker.start_at = failure.time + delay

    def _start_due_workers(self) -> None:
        for worker in self._workers:
            if worker.process or worker.start_at > time.monotonic():
                continue
            state, self._states[worker.rank] = self._states[worker.rank], None
            try:
                worker.start(self._job, self._weights, state, self._settings)
            except NoFreeSharedMemory:
                raise
            except (OSError, EOFError) as error:
                self._fail(worker, f"collector {worker.number} cannot be started: {refusal_of(error)}")


def _leave_to_parent() -> None:
    """In a forked child, let go of the workers: they belong to its parent and must end when it does."""
    for pool in _open_pools:
        pool._abandon()


os.register_at_fork(after_in_child=_leave_to_parent)


def _memory_for(count: int, pin: bool, part: Tensor) -> Tensor:
    return part.new_empty((count * part.shape[0], *part.shape[1:]), pin_memory=pin)
