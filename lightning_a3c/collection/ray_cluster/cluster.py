"""This process's connection to a Ray cluster, and the cluster that is started where there is none."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.processes.fork_server import STOP_SIGNALS
from lightning_a3c.collection.ray_cluster.config import LOCAL, RayCollectors, answers, connect, is_loopback
from lightning_a3c.system.machine import usable_cores

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray uses the loopback device alone; read when it is imported
_USAGE = "RAY_USAGE_STATS_ENABLED"
_NICENESS = "RAY_worker_niceness"  # of actors, 15 unless set: beside the learner they would hardly run
_TRIAL = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"
_RECENT_SECONDS = 60.0  # for which an answer counts
_RETRY_SECONDS = 1.0  # between two attempts to reach a head that does not answer
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
        self.is_lost = False
        address = collectors.cluster_address
        import_ray(collectors)
        import ray

        with _lock:
            if not ray.is_initialized():
                _connect(address, collectors, num_workers)
                _is_ours = True
            _users += 1
            self._is_open = True
        context = ray.get_runtime_context()
        self._node = context.get_node_id()
        self._head = _Lifeline(context.gcs_address, 0.0 if address == LOCAL else collectors.connect_timeout)
        self._daemon = _Lifeline(self._daemons()[self._node], 0.0)

    def require_alive(self) -> None:
        """Raise `ClusterLost` if the head or this machine's daemon is gone: on its next use of them, or after a minute,
        Ray would end this process, without a checkpoint."""
        if self._daemon.silence is not None:
            self.is_lost = True
            raise ClusterLost(
                "Ray's daemon on the learner's machine ended, and with it this run's place in the cluster"
            )
        if (silence := self._head.silence) is not None:
            self.is_lost = True
            raise ClusterLost(
                f"the head of the Ray cluster, {self._head.address}, does not answer: for {silence:.0f} s, with a "
                f"patience of {self._head.patience:g} s (data.collectors.connect_timeout, 0 for a cluster of this run)"
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
        self.require_alive()
        # the head notices later than we that a daemon is gone
        return any(node not in daemons or not answers(daemons[node], _ANSWER_SECONDS) for node in nodes)

    def room(self) -> str:
        """The free CPUs of the cluster, as text."""
        import ray

        if not answers(self._head.address, _ANSWER_SECONDS):
            return "its head does not answer"
        free, total = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
        return f"{free:g} of the cluster's {total:g} are free"

    def _daemons(self) -> dict[str, str]:
        """The address of Ray's daemon on each node, by the node's id."""
        import ray

        if not answers(self._head.address, _ANSWER_SECONDS):
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
            self._head.close()
            self._daemon.close()
            if _users or not _is_ours:
                return
            import ray

            _is_ours = False
            ray.shutdown()


class _Lifeline:
    """A connection that says nothing, and closes when the process at its other end dies.

    Looking at it takes a microsecond. Ray closes connections that say nothing after some seconds; it is then renewed.

    Args:
        address: `host:port`.
        patience: seconds for which nobody need answer there.
    """

    def __init__(self, address: str, patience: float) -> None:
        self.address = address
        self.patience = patience
        self._connection: socket.socket | None = None
        self._tried_at = self._answered_at = time.monotonic()

    @property
    def silence(self) -> float | None:
        """Seconds for which nobody has answered; None while that is within the patience."""
        now = time.monotonic()
        if self._connection is not None:
            try:
                if self._connection.recv(4096):  # Ray's greeting
                    return None
            except BlockingIOError:
                return None
            except OSError:
                pass
            self.close()
            self._answered_at = now
        elif now - self._tried_at < min(_RETRY_SECONDS, self.patience):
            return None
        self._tried_at = now
        try:
            self._connection = connect(self.address, _ANSWER_SECONDS)
        except OSError:
            silence = now - self._answered_at
            return silence if silence >= self.patience else None
        self._connection.setblocking(False)
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


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
    if trial.returncode and "InvalidAuthToken" in errors:
        raise WorkerError(
            f"{where} refuses the token of this machine: ~/.ray/auth_token must be the same on all nodes; for the "
            "cluster that this machine is a node of, give auto"
        )
    if trial.returncode:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        errors_named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        reason = (errors_named or lines or ["no reason given"])[-1]
        raise WorkerError(f"{where} cannot be joined: {reason}; is it a Ray cluster, of the version installed here?")
    _answered_at[address] = time.monotonic()


def _connect(address: str, collectors: RayCollectors, num_workers: int) -> None:
    import ray

    require_answer(collectors)
    is_open_to_network = not is_loopback(f"{ray.util.get_node_ip_address()}:0")
    if is_open_to_network and address != LOCAL and is_loopback(address):
        raise WorkerError(
            f"data.collectors.address {address} is a loopback address, and Ray was imported without {_LOOPBACK}=0, so "
            "it would look elsewhere; set that variable before the import, or give another address"
        )
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
        if is_open_to_network:
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
    own = {_USAGE: "0", _LOOPBACK: "0", _NICENESS: "0"} if is_loopback(address) else {}
    added = own.keys() - os.environ.keys()
    os.environ.update({name: own[name] for name in added})
    try:
        yield
    finally:
        for name in added:
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
