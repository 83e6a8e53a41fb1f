"""The fork server of multiprocessing, which forks the collector processes.

Standard library only, so that it can start before anything slow is imported and import what workers need meanwhile.
Uses private names of multiprocessing where there is no public one. Tested with CPython 3.11; when an upgrade changes
one of them, tests/test_fork_server.py fails first.
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
"""The signals by which users and schedulers end a run."""

_PATIENCE_SECONDS = 1.0  # for the resource tracker, which lives as long as any process forked from this one

_ended_by: int | None = None  # id of the process that ends the server when it exits
_hiding = threading.RLock()  # held while the script is hidden


def start_fork_server() -> ForkServerContext:
    """Start the server unless it runs; returns the context for sharing memory and pipes with its processes."""
    global _ended_by
    context = multiprocessing.get_context("forkserver")
    _leave_to_parent()  # this process may have been forked before this module was imported
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

    Importing the script would cost time and memory, and run it again. Daemonic processes may start a `ForkedProcess`,
    which multiprocessing otherwise forbids because it could outlive them: it must exit when its parent dies.
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
        """The state to send. By now multiprocessing has looked for the script, so it can be shown again."""
        self._changes.close()
        return {name: value for name, value in vars(self).items() if name != "_changes"}


@contextmanager
def _without_stop_signals() -> Iterator[None]:
    """Block the stop signals, so that processes started here inherit the block; the learner handles them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Hide the script from multiprocessing, but keep its module, from which other threads may be pickling."""
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
    """Wait for the helper processes of multiprocessing, which would otherwise outlive this process briefly."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    tracker: Any = resource_tracker._resource_tracker
    if tracker._pid is None:  # a child of multiprocessing uses its parent's tracker
        return
    os.close(tracker._fd)
    pid, tracker._pid, tracker._fd = tracker._pid, None, None
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with suppress(ChildProcessError):
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.005)


def _leave_to_parent() -> None:
    """In a forked process, forget the server and the tracker of its parent.

    This process cannot wait for them, and the parent would wait for the server as long as this process keeps it alive.
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
