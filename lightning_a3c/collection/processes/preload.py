"""Imported by the fork server: everything that workers need, so that it is imported once and shared.

Garbage collection writes to every object that it examines, which would copy the shared pages into each worker: 40 MB of
imported objects that are never garbage. So they are frozen here. Other processes that the learner's program starts
through the same server get the environment variables that the server was started with.
"""

import gc
import os
import signal

_threads = os.environ.get("OMP_NUM_THREADS")
os.environ["OMP_NUM_THREADS"] = "1"  # one thread a worker, or they fight for the cores; read by what is imported next

import lightning_a3c.collection.processes.entry  # noqa: E402, F401
from lightning_a3c.collection.processes.fork_server import STOP_SIGNALS  # noqa: E402


def _undo() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if _threads is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = _threads


os.register_at_fork(after_in_child=_undo)
gc.freeze()
