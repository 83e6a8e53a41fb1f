"""This process's connection to a Ray cluster, and the cluster that is started where there is none."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_a3c.collection.processes.fork_server import STOP_SIGNALS
from lightning_a3c.collection.processes.pool import WorkerError
from lightning_a3c.collection.ray_cluster.config import LOCAL, RayCollectors, answers, is_loopback
from lightning_a3c.system.machine import usable_cores

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray uses the loopback device alone; read when it is imported
_USAGE = "RAY_USAGE_STATS_ENABLED"
_TRIAL = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"
_RECENT_SECONDS = 60.0  # for which an answer counts
_HEAD_SECONDS = 5.0  # between two looks at the head
_ANSWER_SECONDS = 2.0  # for one of them

_answered_at: dict[str, float] = {}  # clusters that were found to answer
_lock = threading.Lock()
_users = 0  # connections of this process; Ray has one for all
_is_ours = False  # whether this module made it


class ClusterLost(WorkerError):
    """The cluster ended, or this machine's part of it."""


class ClusterConnection:
    """Connects this process to the cluster, or starts one on this machine; `close` undoes what it did.

    Ray has one connection for the whole process. One that exists is used and left alone.

    Args:
        collectors: which cluster.
        num_workers: of all actors; a cluster that is started here has room for them.

    Raises:
        WorkerError: the cluster does not answer, or runs another version of Ray or Python.
    """

    def __init__(self, collectors: RayCollectors, num_workers: int) -> None:
        global _users, _is_ours
        self._patience = collectors.connect_timeout
        address = collectors.cluster_address
        import_ray(collectors)
        import ray

        with _lock:
            if not ray.is_initialized():
                _connect(address, collectors, num_workers)
                _is_ours = True
            _users += 1
            self._is_open = True
        self._head = ray.get_runtime_context().gcs_address
        self._node = ray.get_runtime_context().get_node_id()
        self._looked_at = self._answered_at = time.monotonic()

    def require_head(self) -> None:
        """Raise `ClusterLost` if the head has not answered for `connect_timeout`. Ray would end the process later."""
        now = time.monotonic()
        if now - self._looked_at < _HEAD_SECONDS:
            return
        was_suspended = now - self._looked_at > self._patience
        self._looked_at = now
        if answers(self._head, _ANSWER_SECONDS) or was_suspended:
            self._answered_at = now
        elif now - self._answered_at > self._patience:
            raise ClusterLost(
                f"the head of the Ray cluster ({self._head}) has not answered for data.collectors.connect_timeout "
                f"({self._patience:g} s)"
            )

    def nodes(self) -> set[str]:
        """The ids of the nodes; empty if the head does not answer."""
        return set(self._daemons())

    def lost(self, *nodes: str) -> bool:
        """Whether one of these nodes is no longer part of the cluster.

        Raises:
            ClusterLost: the node of this process is not, so no actor can be created any more.
        """
        daemons = self._daemons()
        if not daemons:
            return False  # unknown
        if self._node not in daemons:
            raise ClusterLost("Ray's daemon on the learner's machine ended, and with it this run's place in the cluster")
        # the head notices later than we that a daemon is gone
        return any(node not in daemons or not answers(daemons[node], _ANSWER_SECONDS) for node in nodes)

    def room(self) -> str:
        """The free CPUs of the cluster, as text."""
        import ray

        if not answers(self._head, _ANSWER_SECONDS):
            return "its head does not answer"
        free, total = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
        return f"{free:g} of the cluster's {total:g} are free"

    def _daemons(self) -> dict[str, str]:
        """The address of Ray's daemon on each node, by the node's id."""
        import ray

        if not answers(self._head, _ANSWER_SECONDS):
            return {}
        alive = (each for each in ray.nodes() if each["Alive"])
        return {each["NodeID"]: f"{each['NodeManagerAddress']}:{each['NodeManagerPort']}" for each in alive}

    def close(self) -> None:
        """Disconnect; ends a cluster that was started here."""
        global _users, _is_ours
        with _lock:
            if not self._is_open:
                return
            self._is_open = False
            _users -= 1
            if _users or not _is_ours:
                return
            import ray

            _is_ours = False
            ray.shutdown()


def import_ray(collectors: RayCollectors) -> None:
    """Import Ray, which decides now which network it uses."""
    with _environment_for(collectors.cluster_address):
        import ray  # noqa: F401


def require_answer(collectors: RayCollectors) -> None:
    """Raise `WorkerError` unless a process of this machine can join the cluster within `connect_timeout`.

    Another process tries it: where nobody answers, Ray waits for minutes, deaf to signals, and then ends the process.
    """
    address = collectors.cluster_address
    if address == LOCAL or time.monotonic() - _answered_at.get(address, -_RECENT_SECONDS) < _RECENT_SECONDS:
        return
    where = f"data.collectors.address {address}"
    timeout = collectors.connect_timeout
    if address != "auto" and not answers(address, timeout):
        raise WorkerError(f"{where} does not answer: no Ray cluster listens there; start one with `ray start --head`")
    with _environment_for(address):
        trial = subprocess.Popen(
            [sys.executable, "-c", _TRIAL, address], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    try:
        _, errors = trial.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        trial.kill()
        trial.communicate()
        raise WorkerError(
            f"{where} does not answer within data.collectors.connect_timeout ({timeout:g} s): no Ray cluster listens "
            "there, or this machine is none of its nodes; make it one with `ray start --address=HOST:PORT`"
        ) from None
    if trial.returncode:
        reason = [line.strip() for line in errors.splitlines() if line.strip()]
        first = next((n for n, line in enumerate(reason) if "Error: " in line and not line.startswith("File")), -1)
        raise WorkerError(f"{where} cannot be joined: {' '.join(reason[first:])}")
    _answered_at[address] = time.monotonic()


def _connect(address: str, collectors: RayCollectors, num_workers: int) -> None:
    import ray

    require_answer(collectors)
    options: dict[str, Any] = {"logging_level": logging.ERROR}
    if address == LOCAL:
        needed = collectors.actors * collectors.cpus(num_workers)
        options |= {"include_dashboard": False, "num_cpus": max(usable_cores(), int(-(-needed // 1)))}
    with _environment_for(address), _signals_left_alone(), _silence("ray"):
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise WorkerError(f"Ray cannot be started: {' '.join(str(error).split())}") from error
    if address == LOCAL:
        rank_zero_info("Ray: started a cluster on this machine for this run; data.collectors.address names another")
        if not ray.util.get_node_ip_address().startswith("127."):
            rank_zero_warn(
                "Ray was imported before training began, so the cluster's ports can be reached from the network; set "
                f"{_LOOPBACK}=0 before the import"
            )
    else:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cpus = sum(node["Resources"].get("CPU", 0) for node in nodes)
        rank_zero_info(f"Ray: joined the cluster at {address}, {len(nodes)} nodes with {cpus:g} CPUs")


@contextmanager
def _environment_for(address: str) -> Iterator[None]:
    """The variables that Ray reads when it is imported and when it starts processes."""
    own = {_USAGE: "0", _LOOPBACK: "0"} if is_loopback(address) else {}
    before = {name: os.environ.get(name) for name in own}
    for name, value in own.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Keep the handlers of the learner, which decides what a signal means, and let Ray's daemons ignore signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with suppress(TypeError):  # set by something other than Python
                signal.signal(number, handler)


@contextmanager
def _silence(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
