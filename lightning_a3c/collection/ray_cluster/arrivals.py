"""Making batches of the messages that actors have sent, several a call. Does not import Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_a3c.collection.ray_cluster.actor import Answer
from lightning_a3c.rl.types import Message, map_tensors


class _Arrival(NamedTuple):
    actor: int
    answer: Answer


class Arrivals:
    """Answers of actors that are not yet in a batch, the oldest first.

    Args:
        template: the shapes and dtypes of one message.
        pin_memory: whether batches lie in pinned memory.
    """

    def __init__(self, template: Message, pin_memory: bool) -> None:
        self._template = template
        self._pins = pin_memory
        self._arrivals: deque[_Arrival] = deque()
        self._used = 0  # messages of the first arrival that are in a batch
        self._used_up: list[_Arrival] = []  # all of their messages are in batches

    def __bool__(self) -> bool:
        return bool(self._arrivals)

    @property
    def actors(self) -> set[int]:
        """The indices of those whose answers are here."""
        return {arrival.actor for arrival in self._arrivals}

    def add(self, actor: int, answer: Answer) -> None:
        self._arrivals.append(_Arrival(actor, answer))

    def free_used(self) -> None:
        """Give the memory of answers that are in batches back to Ray, which talks to its daemon."""
        self._used_up.clear()

    def clear(self) -> None:
        self._arrivals.clear()
        self._used_up.clear()

    def batch(self, count: int, wait: Callable[[], None]) -> Message:
        """The next `count` messages in the order of their arrival; `wait` is called while there are too few."""
        batch, filled = self._memory(count), 0
        while filled < count:
            if not self._arrivals:
                wait()
                continue
            answer = self._arrivals[0].answer
            number = min(count - filled, answer.messages - self._used)
            self._copy(answer, self._used, batch, filled, number)
            filled += number
            self._used += number
            if self._used == answer.messages:
                self._used_up.append(self._arrivals.popleft())
                self._used = 0
        return batch

    def batch_in_order(self, count: int, workers: int, actors: int, wait: Callable[[], None]) -> Message:
        """One answer of each actor as a batch of `count` messages in the order of the workers' ranks.

        Args:
            count: a multiple of `workers` × `actors`.
            workers: of each actor.
            actors: all of which answer once.
            wait: called while answers are missing.
        """
        batch = self._memory(count)
        while len(self._arrivals) < actors:
            wait()
        for actor, answer in self._arrivals:
            for turn in range(count // (workers * actors)):
                place = (turn * actors + actor) * workers
                self._copy(answer, turn * workers, batch, place, workers)
        self._used_up.extend(self._arrivals)
        self._arrivals.clear()
        return batch

    def _memory(self, count: int) -> Message:
        def memory_for(part: Tensor) -> Tensor:
            return torch.empty((count * len(part), *part.shape[1:]), dtype=part.dtype, pin_memory=self._pins)

        batch: Message = map_tensors(memory_for, self._template)
        return batch

    def _copy(self, answer: Answer, begin: int, batch: Message, place: int, number: int) -> None:
        arrays = iter(answer.arrays)

        def copy(part: Tensor, whole: Tensor) -> None:
            size = len(part)
            own = next(arrays)[begin * size : (begin + number) * size]
            np.copyto(whole.numpy()[place * size : (place + number) * size], own)

        map_tensors(copy, self._template, batch)
