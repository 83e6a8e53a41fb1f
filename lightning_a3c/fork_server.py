"""multiprocessing's fork server, which collector processes are forked from. Standard library only: it can be started
before anything slow is imported, and imports what workers need meanwhile.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.util import Finalize
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What users and schedulers end a run with."""


def start() -> ForkServerContext:
    """Start the server unless it runs; returns the context whose processes it forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_a3c.worker", "lightning_a3c.frozen"])
    Finalize(None, _end, exitpriority=-1)  # after multiprocessing has ended what others left
    with surroundings():
        resource_tracker.ensure_running()  # unblocks the signals again
    with surroundings():
        forkserver.ensure_running()
    return context


@contextmanager
def surroundings() -> Iterator[None]:
    """What the server and its children are to inherit: one thread each, no stop signals, which are the learner's, and
    not the learner's script: importing it would cost each of them time and memory, and start a training of its own.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = type(main)("__main__")  # an empty module
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # one thread a worker, or they fight for the cores
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sys.modules["__main__"] = main
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _end() -> None:
    """Wait for multiprocessing's helper processes, which would else outlive this process a little."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    tracker: Any = resource_tracker._resource_tracker
    if tracker._pid is not None:  # a child of multiprocessing has its parent's, and must leave it alone
        tracker._stop()
