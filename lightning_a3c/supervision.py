"""When a failed worker may start again. Pure bookkeeping: knows no process and no clock."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Supervision:
    """How patiently workers are watched.

    Args:
        max_restarts: times one worker may be started again within `window`; one more failure ends the run.
        window: seconds, > 0.
        first_delay: seconds before the first new start, > 0; doubled with each further one in the window.
        timeout: seconds without a message, though there is room for one, and without a new call of its environments,
            after which a worker counts as hung and is killed, > 0. Starting up and each call must fit in.
    """

    max_restarts: int = 3
    window: float = 300.0
    first_delay: float = 0.5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise ValueError(f"data.supervision.max_restarts must be >= 0, got {self.max_restarts}")
        for name in ("window", "first_delay", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.supervision.{name} must be > 0, got {getattr(self, name)}")


_ABOVE = "(traceback logged above)"


class Failure(NamedTuple):
    """A worker that raised, died or hung."""

    time: float  # seconds, of any one clock
    rank: int
    reason: str  # who did what: "collector 0 raised"
    error: str = ""  # the exception, as a traceback ends with it
    place: str = ""  # the traceback without it


class FailureLog:
    """The failures of a run's workers.

    Args:
        supervision: the rules.
    """

    def __init__(self, supervision: Supervision) -> None:
        self.supervision = supervision
        self.total = 0
        self._recent: deque[Failure] = deque()
        self._told: set[str] = set()  # places of failures

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

    def tell(self, failure: Failure) -> str:
        """The failure in words, for a log; its traceback only if that was not told before."""
        if not failure.place:
            return failure.reason
        if failure.place in self._told:
            return f"{failure.reason} {_ABOVE}: {'; '.join(failure.error.splitlines())}"
        self._told.add(failure.place)
        return f"{failure.reason}:\n{failure.place}{failure.error}"

    def summary(self, count: int = 3) -> str:
        """The last `count` different failures in words, oldest first, without tracebacks that were told before.

        Failures with one traceback are alike; of these the last `count` different exceptions are given.
        """
        alike: dict[str, list[Failure]] = {}
        for failure in self._recent:
            key = failure.place or failure.reason
            alike[key] = [*alike.pop(key, []), failure]  # behind what happened before
        return "\n".join(self._sum_up(failures, count) for failures in list(alike.values())[-count:])

    def _sum_up(self, alike: list[Failure], count: int) -> str:
        times = Counter(failure.reason for failure in alike)
        who = ", ".join(reason if number == 1 else f"{reason} {number} times" for reason, number in times.items())
        place = alike[0].place
        if not place:
            return who
        errors = list(dict.fromkeys(failure.error for failure in alike))[-count:]
        return "\n".join([f"{who} {_ABOVE}:" if place in self._told else f"{who}:\n{place.rstrip()}", *errors])
