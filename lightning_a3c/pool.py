"""The collectors of a run: start them, take their messages, end them. Knows nothing of Lightning."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import time
from collections import deque
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from lightning_a3c.channel import RemoteFailure, open_channel
from lightning_a3c.types import Message, map_tensors
from lightning_a3c.weights import SharedWeights
from lightning_a3c.worker import Collector, CollectorJob, run_worker

_STOP_SECONDS = 3.0  # for a worker to end by itself before it is killed


class WorkerError(RuntimeError):
    """A collector process raised or died."""


class Collectors(Protocol):
    """Where the learner's messages come from; `close` may be called twice."""

    weights: SharedWeights

    def take(self, count: int) -> tuple[Message, float]:
        """The next `count` messages, concatenated field by field into memory of the caller's own,
        and the share of the workers that had one waiting when asked.
        """

    def close(self) -> None: ...


class SerialCollector:
    """One collector in this process, for debugging and tiny environments."""

    def __init__(self, job: CollectorJob) -> None:
        self.weights = SharedWeights(job.net, multiprocessing.get_context())
        self._collector = Collector(job, 0, self.weights)

    def take(self, count: int) -> tuple[Message, float]:
        return _concatenate([self._collector.collect() for _ in range(count)]), 0.0

    def close(self) -> None:
        self._collector.close()


class WorkerPool:
    """`num_workers` collector processes, each with a channel of its own.

    The processes start with the first `take`, so that the first weights can be published before.
    They come from a fork server that has imported the package once: they start fast, share its
    memory, and inherit none of the learner's threads.

    Args:
        job: what every collector does.
        num_workers: >= 1.
        slots_per_worker: messages a worker may have under way, >= 1, being filled or waiting. With workers
            of equal speed this bounds the policy lag.

    Raises:
        NoFreeSharedMemory: /dev/shm cannot hold the slots and weights.
    """

    def __init__(self, job: CollectorJob, num_workers: int, slots_per_worker: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["lightning_a3c.worker"])
        Finalize(None, _end_fork_server, exitpriority=-1)  # after multiprocessing has ended what others left
        atexit.register(self.close)  # an open pool must not keep the interpreter from ending
        self.weights = SharedWeights(job.net, self._context)
        self._job = job.dumps()
        self._processes: list[BaseProcess] = []
        self._waiting: deque[int] = deque()  # ranks whose channels have something to read, oldest first
        template = job.message_template()
        channels = [open_channel(template, slots_per_worker, self._context) for _ in range(num_workers)]
        self._readers = [reader for reader, _ in channels]
        self._writers = [writer for _, writer in channels]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids by rank; empty before the first `take` and after `close`."""
        return [process.pid for process in self._processes if process.pid is not None]

    def take(self, count: int) -> tuple[Message, float]:
        """The next `count` messages concatenated, first come first served.

        Raises:
            WorkerError: a worker raised (with its traceback) or died (with its exit code).
        """
        if not self._processes:
            self._start()
        self._poll(timeout=0)
        fill = len(self._waiting) / len(self._processes)
        batch: Message | None = None
        for place in range(count):
            if not self._waiting:
                self._poll(timeout=None)
            rank = self._waiting.popleft()
            slot, message = self._receive(rank)
            if batch is None:
                batch = map_tensors(lambda part: part.new_empty(count * len(part), *part.shape[1:]), message)
            map_tensors(partial(_copy_into, place), batch, message)
            self._readers[rank].release(slot)  # at once: a batch may need more messages than there are slots
        assert batch is not None
        return batch, fill

    def close(self) -> None:
        """End all workers: by closing their channels, and by killing those that do not stop."""
        atexit.unregister(self.close)
        processes, self._processes = self._processes, []
        for reader, writer in zip(self._readers, self._writers, strict=True):
            reader.close()
            writer.close()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._readers, self._writers = [], []

    def _start(self) -> None:
        if not self._writers:
            raise WorkerError("the pool is closed")
        threads = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # one thread a worker, or they fight for the cores
        # the fork server inherits the mask: a signal to the whole process group is the learner's to handle
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            for rank, writer in enumerate(self._writers):
                process = self._context.Process(
                    target=run_worker,
                    args=(rank, self._job, self.weights, writer),
                    name=f"collector-{rank}",
                    daemon=True,
                )
                process.start()
                writer.close()  # or the learner would hold the pipe of a dead worker open
                self._processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if threads is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = threads

    def _poll(self, timeout: float | None) -> None:
        idle = [reader for rank, reader in enumerate(self._readers) if rank not in self._waiting]
        for reader in wait(idle, timeout):  # type: ignore[arg-type]  # anything with a fileno will do
            self._waiting.append(self._readers.index(reader))  # type: ignore[arg-type]

    def _receive(self, rank: int) -> tuple[int, Message]:
        try:
            return self._readers[rank].receive()
        except RemoteFailure as failure:
            raise WorkerError(f"collector {rank} raised:\n{failure}") from None
        except (EOFError, ConnectionResetError):
            process = self._processes[rank]
            process.join(_STOP_SECONDS)
            raise WorkerError(
                f"collector {rank} (process {process.pid}) died with exit code {process.exitcode}"
                f"{'; a negative code is the signal that killed it' if (process.exitcode or 0) < 0 else ''}"
            ) from None


def _end_fork_server() -> None:
    """Wait for multiprocessing's helper processes, which would else outlive this process a little."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    tracker: Any = resource_tracker._resource_tracker
    if tracker._pid is not None:  # a child of multiprocessing has its parent's, and must leave it alone
        tracker._stop()


def _copy_into(place: int, whole: Tensor, part: Tensor) -> None:
    whole[place * len(part) : (place + 1) * len(part)].copy_(part)


def _concatenate(messages: list[Message]) -> Message:
    batch: Message = map_tensors(lambda *tensors: torch.cat(tensors), *messages)
    return batch


def open_collectors(job: CollectorJob, num_workers: int, slots_per_worker: int) -> Collectors:
    """Worker processes, or for `num_workers` 0 a collector in this process."""
    return WorkerPool(job, num_workers, slots_per_worker) if num_workers else SerialCollector(job)
