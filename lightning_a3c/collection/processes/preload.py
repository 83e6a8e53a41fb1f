"""What the fork server imports: all that workers need, before anything is forked.

A collection of garbage writes to all that could be some, which would give each worker copies of the pages that it
shares with the server: 40 MB of what has been imported and never is garbage. The server forks other processes of the
learner's program too, if it asks for them: they get what the server was started with.
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
