"""When a failed worker may start again. Pure bookkeeping: knows no process and no clock."""

from __future__ import annotations

from collections import deque
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


class Failure(NamedTuple):
    """A worker that raised, died or hung."""

    time: float  # seconds, of any one clock
    rank: int
    reason: str  # with the traceback, if there was one


class FailureLog:
    """The failures of a run's workers.

    Args:
        supervision: the rules.
    """

    def __init__(self, supervision: Supervision) -> None:
        self.supervision = supervision
        self.total = 0
        self._recent: deque[Failure] = deque()

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

    def summary(self, count: int = 3) -> str:
        """The last failures' reasons, oldest first."""
        return "\n".join(failure.reason for failure in list(self._recent)[-count:])
