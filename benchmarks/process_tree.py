"""What a process and all its descendants use. Knows nothing of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil


def pss(pid: int) -> int:
    """Proportional set size in bytes: a page that n processes share counts as 1/n in each, so sums are honest."""
    return int(_total(_tree(pid), lambda process: process.memory_full_info().pss))


def private(pid: int) -> int:
    """Unique set size in bytes: pages that no other process has, whatever else runs on the machine."""
    return int(_total(_tree(pid), lambda process: process.memory_full_info().uss))


def cpu_seconds(pid: int) -> dict[int, float]:
    """CPU time that each living process of the tree has used so far, by process id; the root comes first."""
    used: dict[int, float] = {}
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            used[process.pid] = sum(process.cpu_times()[:2])
    return used


def open_descriptors(pid: int) -> tuple[int, int]:
    """Open file descriptors of the process itself, and of all its descendants together."""
    root, *descendants = _tree(pid)
    return root.num_fds(), int(_total(descendants, lambda process: process.num_fds()))


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _total(processes: Iterable[psutil.Process], measure: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            total += measure(process)
    return total
