"""When a failed worker may start again. Pure bookkeeping: knows no process and no clock."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from lightning_a3c.collection.config import Supervision

_ABOVE = "(traceback logged above)"


class Failure(NamedTuple):
    """A worker that raised, died or hung."""

    time: float  # seconds, of any one clock
    rank: int
    reason: str  # who did what: "collector 0 raised"
    exception: str = ""  # the last lines of the traceback
    traceback: str = ""  # the lines before them


class FailureLog:
    """The failures of a run's workers.

    Args:
        supervision: the rules.
    """

    def __init__(self, supervision: Supervision) -> None:
        self.supervision = supervision
        self.total = 0
        self._recent: deque[Failure] = deque()
        self._logged: set[str] = set()  # tracebacks

    def record(self, failure: Failure) -> float | None:
        """Seconds until the worker may start again, or None if it has failed too often."""
        self.total += 1
        self._recent.append(failure)
        while failure.time - self._recent[0].time > self.supervision.window:
            self._recent.popleft()
        times = sum(recent.rank == failure.rank for recent in self._recent)
        if times > self.supervision.max_restarts:
            return None
        return float(self.supervision.first_delay * 2 ** (times - 1))

    def describe(self, failure: Failure) -> str:
        """The failure as text for a log, with its traceback unless that was logged before."""
        if not failure.traceback:
            return failure.reason
        if failure.traceback in self._logged:
            return f"{failure.reason} {_ABOVE}: {'; '.join(failure.exception.splitlines())}"
        self._logged.add(failure.traceback)
        return f"{failure.reason}:\n{failure.traceback}{failure.exception}"

    def summary(self, count: int = 3) -> str:
        """The last `count` distinct failures as text, oldest first, without tracebacks that were logged before.

        Failures with the same traceback count as one; the last `count` distinct exceptions of it are given.
        """
        alike: dict[str, list[Failure]] = {}
        for failure in self._recent:
            key = failure.traceback or failure.reason
            alike[key] = [*alike.pop(key, []), failure]  # moves the key to the end
        return "\n".join(self._summarize(failures, count) for failures in list(alike.values())[-count:])

    def _summarize(self, alike: list[Failure], count: int) -> str:
        times = Counter(failure.reason for failure in alike)
        who = ", ".join(reason if number == 1 else f"{reason} {number} times" for reason, number in times.items())
        traceback = alike[0].traceback
        if not traceback:
            return who
        exceptions = list(dict.fromkeys(failure.exception for failure in alike))[-count:]
        first = f"{who} {_ABOVE}:" if traceback in self._logged else f"{who}:\n{traceback.rstrip()}"
        return "\n".join([first, *exceptions])
