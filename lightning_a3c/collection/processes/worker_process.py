"""One collector process as the learner sees it: starting, reading and ending it. Decides nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from multiprocessing.context import ForkServerContext

from lightning_a3c.collection.job import CollectorState
from lightning_a3c.collection.processes.channel import open_channel
from lightning_a3c.collection.processes.entry import run_worker
from lightning_a3c.collection.processes.fork_server import ForkedProcess
from lightning_a3c.collection.processes.process_settings import ProcessSettings
from lightning_a3c.collection.shared_tensors import SharedTensors
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.environments.checks import CallTracker
from lightning_a3c.rl.types import Message

_EXIT_SECONDS = 3.0  # until a process with a closed channel has exited


class WorkerProcess:
    """One collector process and its channel. Each restart gets a new channel and a new seed.

    Args:
        rank: which of the learner's collectors this is.
        number: which of all learners' collectors it is; people read this.
        template: shapes of its messages.
        slots: messages it may have under way.
        context: of the fork server.
    """

    def __init__(self, rank: int, number: int, template: Message, slots: int, context: ForkServerContext) -> None:
        self.rank = rank
        self.number = number
        self.process: ForkedProcess | None = None
        self.start_at = 0.0  # do not start before this time
        self.active_at = 0.0  # when it last sent something, called its environment, or got a free slot
        self._calls = 0  # to its environment, until then
        self._template = template
        self._slots = slots
        self._context = context
        self._attempts = 0
        self._is_open = False
        self._open_channel()

    def start(
        self, job: SharedTensors, weights: SharedWeights, state: CollectorState | None, settings: ProcessSettings
    ) -> None:
        if not self._is_open:
            self._open_channel()
        process = ForkedProcess(
            target=run_worker,
            args=(self.rank, self._attempts, job, weights, self.writer, state, settings),
            name=f"collector-{self.number}",
            daemon=True,
        )
        process.start()
        self.process = process
        self.writer.close()  # otherwise the learner would keep the pipe of a dead worker open
        self._attempts += 1
        self.active_at = time.monotonic()

    def receive(self) -> tuple[int, Message]:
        slot, message = self.reader.receive()
        self.active_at = time.monotonic()
        return slot, message

    def release(self, slot: int) -> None:
        self.active_at = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # it died; the next `receive` reports that
            self.reader.release(slot)

    def note_activity(self) -> None:
        """Count a new call to its environment as activity: a slow environment does not hang."""
        calls = self._call_tracker.calls
        if calls != self._calls:
            self._calls = calls
            self.active_at = time.monotonic()

    def current_call(self, env_id: str) -> str:
        """Which call to an environment the process is in, as text."""
        return self._call_tracker.describe(env_id)

    def describe_exit(self) -> str:
        """How the process ended."""
        assert self.process is not None
        self.process.join(_EXIT_SECONDS)
        code = self.process.exitcode or 0
        return (
            f"collector {self.number} (process {self.process.pid}) died with exit code {self.process.exitcode}"
            f"{'; a negative code is the signal that killed it' if code < 0 else ''}"
        )

    def close_channel(self) -> None:
        if self._is_open:
            self.reader.close()
            self.writer.close()
            self._is_open = False

    def end(self, deadline: float) -> None:
        """Wait for the process until `deadline`, then kill it."""
        process, self.process = self.process, None  # two threads may end it when a program exits; one succeeds
        if process is None:
            return
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        process.close()

    def _open_channel(self) -> None:
        self.reader, self.writer = open_channel(self._template, self._slots, self._context)
        self._call_tracker = CallTracker(self.reader.status.numpy())
        self._is_open = True
