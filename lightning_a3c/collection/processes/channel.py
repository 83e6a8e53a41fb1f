"""Moving named tuples of tensors from one worker to the learner through shared slots.

Only slot numbers pass through pipes; tensors stay where the worker wrote them until the learner has copied them. The
pipe also orders memory: the learner sees a slot's tensors complete once it has read the slot's number. Each worker has
its own pair of pipes instead of one queue for all: a queue's lock would stay locked for ever if a worker were killed
holding it, and a closed pipe shows at once that its other end has died. The channel does not know what the fields mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch import Tensor

from lightning_a3c.collection.shared_tensors import SharedTensors
from lightning_a3c.rl.types import map_tensors

_QUESTION = None  # sent in place of a slot's number


class RemoteFailure(Exception):
    """The writing process raised.

    Args:
        traceback: the traceback without its last lines.
        exception: those last lines, with notes.
    """

    def __init__(self, traceback: str, exception: str) -> None:
        super().__init__(traceback + exception)
        self.traceback = traceback
        self.exception = exception


class ChannelClosed(Exception):
    """The learner has closed its end or died."""


class _Slots:
    """`count` shared copies of `template`, and a status."""

    def __init__(self, template: Any, count: int, context: BaseContext) -> None:
        leaves: list[Tensor] = []
        map_tensors(leaves.append, template)
        self._template = map_tensors(lambda _: torch.empty(0), template)
        self._width = len(leaves)
        self._shared = SharedTensors([*leaves * count, torch.zeros(3, dtype=torch.int64)], context)
        self._messages: dict[int, Any] = {}  # of the slots asked for so far

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_messages": {}}  # another process maps the memory anew

    @property
    def status(self) -> Tensor:
        return self._shared.tensors[-1]

    def __getitem__(self, slot: int) -> Any:
        if slot not in self._messages:
            tensors = iter(self._shared.tensors[slot * self._width : (slot + 1) * self._width])
            self._messages[slot] = map_tensors(lambda _: next(tensors), self._template)
        return self._messages[slot]


class ChannelWriter:
    """The worker's end: picklable as an argument of a new process."""

    def __init__(self, slots: _Slots, count: int, connection: Connection) -> None:
        self._slots = slots
        self._free = deque(range(count))
        self._connection = connection

    @property
    def status(self) -> Tensor:
        """int64 [3], readable by the learner at any time."""
        return self._slots.status

    def wait_for_slot(self, answer: Callable[[], Any] = lambda: None) -> Any:
        """Block until a slot is free. Meanwhile send `answer()` whenever the learner asks.

        Returns:
            The memory of the next message, so that parts of it can be made in place.

        Raises:
            ChannelClosed: the learner reads no more messages.
        """
        while not self._free:
            try:
                slot = self._connection.recv()
            except (EOFError, OSError) as error:
                raise ChannelClosed from error
            if slot is _QUESTION:
                self._send(answer())
            else:
                self._free.append(slot)
        return self._slots[self._free[0]]

    def send(self, message: Any) -> None:
        """Copy the parts of `message` that were not made in place into a free slot, and announce the slot."""
        slot = self.wait_for_slot()
        map_tensors(lambda shared, own: own if own is shared else shared.copy_(own), slot, message)
        self._send(self._free.popleft())

    def send_failure(self, traceback: str, exception: str) -> None:
        """Send the reason why no more messages will come; see `RemoteFailure`."""
        self._send((traceback, exception))

    def close(self) -> None:
        """Close this process's copy of the worker's end."""
        self._connection.close()

    def _send(self, what: Any) -> None:
        try:
            self._connection.send(what)
        except OSError as error:
            raise ChannelClosed from error


class ChannelReader:
    """The learner's end. `multiprocessing.connection.wait` accepts it."""

    def __init__(self, slots: _Slots, connection: Connection) -> None:
        self._slots = slots
        self._connection = connection

    @property
    def status(self) -> Tensor:
        """int64 [3], as the worker last wrote it; zeros at first."""
        return self._slots.status

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive(self) -> tuple[int, Any]:
        """The next slot's number and its message, which stays valid until `release(slot)`.

        Raises:
            EOFError: the worker is gone.
            RemoteFailure: the worker raised.
        """
        slot = self._connection.recv()
        if isinstance(slot, tuple):
            raise RemoteFailure(*slot)
        return slot, self._slots[slot]

    def ask(self, timeout: float) -> Any:
        """Ask the worker while it waits for a slot: all its messages must be received, and none released.

        Raises:
            EOFError: the worker is gone.
            TimeoutError: it did not answer in `timeout` seconds.
        """
        self._connection.send(_QUESTION)
        if not self._connection.poll(timeout):
            raise TimeoutError(f"no answer in {timeout:g} s")
        return self._connection.recv()

    def release(self, slot: int) -> None:
        """Give the slot back to the worker."""
        self._connection.send(slot)

    def close(self) -> None:
        """Close this end; the worker then stops."""
        self._connection.close()


def open_channel(template: Any, slots: int, context: BaseContext) -> tuple[ChannelReader, ChannelWriter]:
    """A channel of `slots` >= 1 messages shaped like `template`, being filled or waiting."""
    memory = _Slots(template, slots, context)
    learner_end, worker_end = context.Pipe()
    return ChannelReader(memory, learner_end), ChannelWriter(memory, slots, worker_end)
