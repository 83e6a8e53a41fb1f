"""Process-wide settings that several fits, in threads of one process, may change at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Before = TypeVar("_Before")


class ProcessWideSetting(Generic[_Before]):
    """A change that all its users share: the first user makes it, the last one undoes it.

    If each user restored the value that it found, a later user would restore the change of an earlier one.

    >>> level = [3]
    >>> louder = ProcessWideSetting(make=lambda: level.pop(), undo=level.append)
    >>> with louder.applied() as before:
    ...     print(before, level)
    3 []
    >>> level
    [3]

    Args:
        make: changes the setting and returns its earlier value.
        undo: restores that value.
    """

    def __init__(self, make: Callable[[], _Before], undo: Callable[[_Before], None]) -> None:
        self._make = make
        self._undo = undo
        self._lock = threading.Lock()
        self._users = 0
        self._before: _Before

    @contextmanager
    def applied(self) -> Iterator[_Before]:
        """Apply the change to the block; gives the value from before the first user."""
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
