"""Settings that a process has one of, though several fits may run in its threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Before = TypeVar("_Before")


class ProcessWideSetting(Generic[_Before]):
    """A change that all its users share: the first one makes it, the last one undoes it.

    Were each to put back what it found, the second would put back what the first had set.

    >>> level = [3]
    >>> louder = ProcessWideSetting(make=lambda: level.pop(), undo=level.append)
    >>> with louder.applied() as before:
    ...     print(before, level)
    3 []
    >>> level
    [3]

    Args:
        make: changes the setting and says what it was before.
        undo: puts that back.
    """

    def __init__(self, make: Callable[[], _Before], undo: Callable[[_Before], None]) -> None:
        self._make = make
        self._undo = undo
        self._lock = threading.Lock()
        self._users = 0
        self._before: _Before

    @contextmanager
    def applied(self) -> Iterator[_Before]:
        """Within it the change is made; gives what was there before the first user came."""
        with self._lock:
            if not self._users:
                self._before = self._make()
            self._users += 1
        try:
            yield self._before
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._undo(self._before)
