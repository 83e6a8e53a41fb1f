"""Collector processes: start them, take their messages, replace those that fail, end them. No Lightning here."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Self

from torch import Tensor

from lightning_a3c.channel import RemoteFailure
from lightning_a3c.fork_server import start
from lightning_a3c.shared_tensors import NoFreeSharedMemory
from lightning_a3c.supervision import Failure, FailureLog, Supervision
from lightning_a3c.surroundings import Surroundings
from lightning_a3c.types import Message, map_tensors
from lightning_a3c.weights import SharedWeights
from lightning_a3c.worker import CollectorJob, CollectorState
from lightning_a3c.worker_process import WorkerProcess

_STOP_SECONDS = 3.0  # for a worker to end by itself before it is killed
_PATIENCE_SECONDS = 3.0  # for a batch to come after an interruption
_WATCH_SECONDS = 0.2  # between looks at the workers while waiting for them

_log = logging.getLogger(__name__)
_open_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


class WorkerError(RuntimeError):
    """A collector process raised, died or hung, and may not be started again."""


class Interrupted(Exception):
    """The caller asked to stop waiting for messages."""


class WorkerPool:
    """`num_workers` collector processes, each with a channel of its own.

    The processes start with the first `take`, so that the first weights can be published before.
    They come from a fork server that has imported the package once: they start fast, share its
    memory, and inherit none of the learner's threads. Their `Surroundings` are what the learner's are now.

    A worker that raises, dies or hangs is started again with a fresh seed, as far as `supervision` allows,
    while the others go on. What it had announced is still taken; what it had not is lost.

    A synchronous job runs in lock step: workers begin the next payloads when `take` is called, all with the
    weights published last, and their messages are taken in the order of their ranks. A failed worker
    cannot be replaced there without changing what follows, so it ends the run.

    Args:
        job: what every collector does.
        num_workers: >= 1.
        slots_per_worker: messages a worker may have under way, >= 1, being filled or waiting. With workers
            of equal speed this bounds the policy lag.
        supervision: what becomes of workers that fail.
        states: where synchronous collectors begin, by rank.
        pin_memory: put batches where a GPU can copy from by itself while the learner goes on.

    Raises:
        NoFreeSharedMemory: /dev/shm cannot hold the slots and weights.
        WorkerError: there is no current folder, or this process may open no more files.
    """

    def __init__(
        self,
        job: CollectorJob,
        num_workers: int,
        slots_per_worker: int,
        supervision: Supervision = Supervision(),
        states: list[CollectorState] | None = None,
        pin_memory: bool = False,
    ) -> None:
        with _told():
            self._surroundings = Surroundings.here()
            context = start()
            self.weights = SharedWeights(job.detached().net, context)
            self._job = job.share(context)
        self._env_id = job.env.id
        self._is_synchronous = job.synchronous
        self._pins = pin_memory
        self._states: list[CollectorState | None] = [*states] if states else [None] * num_workers
        self._held: list[tuple[WorkerProcess, int]] = []  # slots that a synchronous pool releases with the next take
        self._failures = FailureLog(supervision)
        self._waiting: deque[int] = deque()  # ranks whose channels have something to read, oldest first
        template = job.message_template()
        with _told():
            self._workers = [WorkerProcess(rank, template, slots_per_worker, context) for rank in range(num_workers)]
        self._watched_at = time.monotonic()  # when the workers were last looked at
        self._is_closed = False
        self._is_in_batch = False  # a take has begun and not ended
        _open_pools.add(self)
        atexit.register(self.close)  # an open pool must not keep the interpreter from ending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids by rank, of those that run now."""
        return [worker.process.pid for worker in self._workers if worker.process and worker.process.pid]

    @property
    def restarts(self) -> int:
        return self._failures.total

    def take(self, count: int, is_interrupted: Callable[[], bool] = lambda: False) -> tuple[Message, float]:
        """The next `count` messages concatenated, first come first served.

        Raises:
            Interrupted: `is_interrupted` was true while nothing came for some seconds; a batch that comes sooner is
                given out, so that the collectors can be resumed exactly from behind it.
            WorkerError: a worker has failed more often than it may; with the last tracebacks.
        """
        if self._is_closed:
            raise WorkerError("the pool is closed")
        self._is_in_batch = True
        begun_at = time.monotonic()
        self._release_held()
        self._start_due_workers()
        self._poll(timeout=0)
        self._fail_hung_workers()
        fill = 0.0 if self._is_synchronous else len(self._waiting) / len(self._workers)
        batch: Message | None = None
        for place in range(count):
            wanted = place % len(self._workers) if self._is_synchronous else None
            worker, slot, message = self._receive(
                wanted, lambda: time.monotonic() - begun_at > _PATIENCE_SECONDS and is_interrupted()
            )
            if batch is None:
                batch = map_tensors(partial(_memory_for, count, self._pins), message)
            map_tensors(partial(_copy_into, place), batch, message)
            if self._is_synchronous:
                self._held.append((worker, slot))
            else:
                worker.release(slot)  # at once: a batch may need more messages than there are slots
        assert batch is not None
        self._is_in_batch = False
        return batch, fill

    def state_dict(self) -> list[CollectorState]:
        if self._is_in_batch or not all(worker.process for worker in self._workers):
            raise WorkerError("the collectors' states cannot be had: they were interrupted in a batch, or do not run")
        try:
            return [worker.reader.ask(_STOP_SECONDS) for worker in self._workers]
        except (OSError, EOFError) as error:
            raise WorkerError(f"a collector's state cannot be had: {error!r}") from error

    def close(self) -> None:
        """End all workers: by closing their channels, and by killing those that do not stop."""
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

    def _receive(self, wanted: int | None, is_interrupted: Callable[[], bool]) -> tuple[WorkerProcess, int, Message]:
        """The next message of the rank `wanted`, or of whoever is first; sees to failed workers meanwhile."""
        while True:
            if is_interrupted():
                raise Interrupted
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
                    self._fail(worker, f"collector {worker.rank} raised", failure.error, failure.place)
                except (EOFError, ConnectionResetError):
                    self._fail(worker, worker.obituary())
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
        was_suspended = now - self._watched_at > timeout / 2  # as by Ctrl-Z, and the workers with this process
        self._watched_at = now
        for worker in self._workers:
            if not worker.process or worker.rank in self._waiting:
                continue
            worker.look()
            if was_suspended:
                worker.active_at = now
            elif now - worker.active_at > timeout:
                where = worker.whereabouts(self._env_id)
                name = f"collector {worker.rank} (process {worker.process.pid})"
                self._fail(worker, f"{name} hangs: it did nothing for {timeout:g} s and is {where}")

    def _fail(self, worker: WorkerProcess, reason: str, error: str = "", place: str = "") -> None:
        """End what is left of the worker and have it started again, or give up."""
        failure = Failure(time.monotonic(), worker.rank, reason, error, place)
        worker.close_channel()
        worker.end(deadline=failure.time)
        if self._is_synchronous:
            raise WorkerError(
                f"{self._failures.tell(failure)}\n"
                "No other worker can replace it with data.synchronous, or the result would be another; resume from the "
                "last checkpoint"
            ) from None
        delay = self._failures.record(failure)
        if delay is None:
            raise WorkerError(
                f"collector {worker.rank} failed more often than data.supervision.max_restarts allows "
                f"({self._failures.supervision.max_restarts} in {self._failures.supervision.window:g} s); "
                f"the last failures:\n{self._failures.summary()}"
            ) from None  # the worker's traceback is in the message
        if _log.isEnabledFor(logging.WARNING):
            _log.warning("%s\nStarting it again in %g s", self._failures.tell(failure), delay)
        worker.start_at = failure.time + delay

    def _start_due_workers(self) -> None:
        for worker in self._workers:
            if worker.process or worker.start_at > time.monotonic():
                continue
            state, self._states[worker.rank] = self._states[worker.rank], None
            try:
                worker.start(self._job, self.weights, state, self._surroundings)
            except NoFreeSharedMemory:
                raise
            except (OSError, EOFError) as error:
                self._fail(worker, f"collector {worker.rank} cannot be started: {_refusal(error)}")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except NoFreeSharedMemory:
        raise
    except OSError as error:
        raise WorkerError(f"collectors cannot be started: {_refusal(error)}") from error


def _refusal(error: Exception) -> str:
    """Why the system does not let a worker start."""
    if isinstance(error, EOFError | ConnectionError):
        return "the process that it is forked from ended; the system may allow no more processes (`ulimit -u`)"
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the current folder was removed; change to one that exists"
    out_of_files = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return f"{error}; allow more with `ulimit -n`, or lower data.num_workers" if out_of_files else str(error)


def _leave_to_parent() -> None:
    """In a forked child: the workers are its parent's, and must end with it though the child lives."""
    for pool in _open_pools:
        pool._abandon()


os.register_at_fork(after_in_child=_leave_to_parent)


def _memory_for(count: int, pin: bool, part: Tensor) -> Tensor:
    return part.new_empty((count * len(part), *part.shape[1:]), pin_memory=pin)


def _copy_into(place: int, whole: Tensor, part: Tensor) -> None:
    whole[place * len(part) : (place + 1) * len(part)].copy_(part)
