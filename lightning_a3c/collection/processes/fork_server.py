"""multiprocessing's fork server, which collector processes are forked from. Standard library only: it can be started
before anything slow is imported, and imports what workers need meanwhile.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.util import Finalize
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What users and schedulers end a run with."""

_PATIENCE_SECONDS = 1.0  # with the tracker, which lives as long as any process that was forked from this one

_ended_by: int | None = None  # the process that ends the server when it exits itself
_hiding = threading.RLock()  # held while the script is hidden


def start_fork_server() -> ForkServerContext:
    """Start the server unless it runs; returns the context that processes share memory and pipes by."""
    global _ended_by
    context = multiprocessing.get_context("forkserver")
    _leave_to_parent()  # here too: this process may have been forked before this module was imported
    context.set_forkserver_preload(["lightning_a3c.collection.processes.preload"])
    if _ended_by != os.getpid():
        _ended_by = os.getpid()
        Finalize(None, _end, exitpriority=-1)  # after multiprocessing has ended what others left
    with _without_stop_signals():
        resource_tracker.ensure_running()  # unblocks the signals again
    with _without_stop_signals():
        forkserver.ensure_running()
    return context


class ForkedProcess(ForkServerProcess):
    """A process that is forked from the server and does not import the learner's script.

    Importing it would cost each process time and memory, and start a training of its own. A daemonic process may
    start one, which multiprocessing forbids lest it outlive its parent: it must end by itself when its parent dies.
    """

    def start(self) -> None:
        with ExitStack() as changes:
            self._changes = changes
            changes.enter_context(_hiding)
            changes.enter_context(_script_hidden())
            changes.enter_context(_children_allowed())
            with _without_stop_signals():  # the server may have died and be started again
                super().start()

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to the process: multiprocessing has looked at the script by now, and may wait for seconds."""
        self._changes.close()
        return {name: value for name, value in vars(self).items() if name != "_changes"}


@contextmanager
def _without_stop_signals() -> Iterator[None]:
    """What this thread starts does not get them: they are the learner's."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Within it multiprocessing finds no script to import. The module stays: other threads may be pickling from it."""
    script = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
    script.pop("__file__", None)
    script["__spec__"] = None
    try:
        yield
    finally:
        script.update(hidden)


@contextmanager
def _children_allowed() -> Iterator[None]:
    process = multiprocessing.current_process()
    was_daemon = process.daemon
    if was_daemon:
        process.daemon = False
    try:
        yield
    finally:
        if was_daemon:
            process.daemon = True


def _end() -> None:
    """Wait for multiprocessing's helper processes, which would else outlive this process a little."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    tracker: Any = resource_tracker._resource_tracker
    if tracker._pid is None:  # a child of multiprocessing has its parent's, and must leave it alone
        return
    os.close(tracker._fd)
    pid, tracker._pid, tracker._fd = tracker._pid, None, None
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with suppress(ChildProcessError):
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.005)


def _leave_to_parent() -> None:
    """Forget a server and a tracker that are a parent's, from which this process was forked.

    They cannot be waited for here, and the parent would wait for the server for as long as this process kept it alive.
    """
    server: Any = forkserver._forkserver
    tracker: Any = resource_tracker._resource_tracker
    if _is_anothers(server._forkserver_pid):
        os.close(server._forkserver_alive_fd)
        server.__init__()
    if _is_anothers(tracker._pid):
        tracker._pid = None


def _is_anothers(pid: int | None) -> bool:
    if pid is None or not hasattr(os, "waitid"):  # older Python on macOS
        return False
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _after_fork() -> None:
    _hiding.release()
    _leave_to_parent()


os.register_at_fork(before=_hiding.acquire, after_in_parent=_hiding.release, after_in_child=_after_fork)
