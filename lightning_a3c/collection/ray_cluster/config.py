"""Where collectors run on a Ray cluster, as checked values. Does not import Ray."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import Any

from lightning_a3c.system.argument_checks import require_number, require_whole

LOCAL = "local"
"""The address of a cluster that is started for the run."""

CALLS = 2
"""Calls that an actor has under way, so that it need not wait for the learner."""


class RayCollectors:
    """Worker processes in the actors of a Ray cluster, instead of on the learner's machine alone.

    Each actor runs the pool of `data.num_workers` / `actors` worker processes on one node.

    Args:
        actors: pools of workers of each learner. Ray spreads them over the nodes that have room.
        cpus_per_actor: CPUs that Ray sets aside for each; None takes as many as it has workers. A cluster that is
            started for the run has room for any number, whatever the machine has.
        messages_per_call: micro-batches that an actor sends at once. More cost less time each and make the data older.
            Lock step sends those of one update.
        address: `host:port` of the cluster's head, or `auto` for the cluster of this machine; the learner's machine is
            one of its nodes. None takes the variable RAY_ADDRESS; without it, and for `local`, a cluster that only
            this machine can reach is started for the run.
        connect_timeout: seconds, > 0, in which the cluster must answer; also how long its head may be away later.
        start_timeout: seconds, > 0, for which all actors may wait for room; in lock step, for which any may.

    Raises:
        ValueError: an argument is out of range, or Ray is not installed.
    """

    def __init__(
        self,
        actors: int = 1,
        cpus_per_actor: float | None = None,
        messages_per_call: int = 4,
        address: str | None = None,
        connect_timeout: float = 30.0,
        start_timeout: float = 300.0,
    ) -> None:
        for name, whole in (("actors", actors), ("messages_per_call", messages_per_call)):
            require_whole(f"data.collectors.{name}", whole)
            if whole < 1:
                raise ValueError(f"data.collectors.{name} must be >= 1, got {whole}")
        numbers = {"cpus_per_actor": cpus_per_actor, "connect_timeout": connect_timeout, "start_timeout": start_timeout}
        for name, number in numbers.items():
            if number is None:
                continue
            require_number(f"data.collectors.{name}", number)
            if not 0 < number < float("inf"):
                raise ValueError(f"data.collectors.{name} must be > 0 and finite, got {number}")
        if cpus_per_actor is not None and cpus_per_actor > 1 and cpus_per_actor != int(cpus_per_actor):
            raise ValueError(
                f"data.collectors.cpus_per_actor above 1 must be whole, as Ray counts, got {cpus_per_actor}"
            )
        _require_address(address)
        found = find_spec("ray")
        if found is None or found.origin is None:  # not even where a folder of that name lies about
            raise ValueError("data.collectors needs Ray, which is not installed: pip install 'lightning-a3c[ray]'")
        self.actors = actors
        self.cpus_per_actor = cpus_per_actor
        self.messages_per_call = messages_per_call
        self.address = address
        self.connect_timeout = connect_timeout
        self.start_timeout = start_timeout

    def __repr__(self) -> str:
        return f"RayCollectors({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"

    @property
    def values(self) -> dict[str, Any]:
        """The arguments as plain values."""
        return dict(vars(self))

    @property
    def cluster_address(self) -> str:
        """The address in force: `local`, `auto` or `host:port`."""
        return self.address or os.environ.get("RAY_ADDRESS") or LOCAL

    @property
    def is_local(self) -> bool:
        """Whether a cluster of this machine is started."""
        return self.cluster_address == LOCAL

    @property
    def messages_under_way(self) -> int:
        """Messages that may wait in the calls of all actors, on their way to the learner."""
        return CALLS * self.actors * self.messages_per_call

    def auto_workers(self) -> int:
        """What `data.num_workers: auto` means: a worker for each CPU that is set aside."""
        if self.cpus_per_actor is None:
            raise ValueError(
                "data.num_workers auto counts the cores of this machine; with data.collectors give a number, or set "
                "data.collectors.cpus_per_actor"
            )
        return self.actors * max(1, int(self.cpus_per_actor))

    def require_workers(self, num_workers: int) -> None:
        """Raise ValueError unless the actors can share so many workers."""
        if num_workers < 1 or num_workers % self.actors:
            raise ValueError(
                "data.num_workers must be a multiple of data.collectors.actors, which share the workers, got "
                f"{num_workers} and {self.actors}"
            )

    def cpus(self, num_workers: int) -> float:
        """CPUs set aside for each actor where all together have `num_workers` workers."""
        return num_workers / self.actors if self.cpus_per_actor is None else self.cpus_per_actor


def is_loopback(address: str) -> bool:
    """Whether the address is one that only this machine can reach."""
    host = address.rpartition(":")[0].strip("[]")
    return address == LOCAL or host in ("localhost", "::1") or host.startswith("127.")


def _require_address(address: str | None) -> None:
    if address is None or address in (LOCAL, "auto"):
        return
    form = 'data.collectors.address must be "host:port" of a Ray cluster, "auto", "local" or null'
    if not isinstance(address, str):
        raise ValueError(f"{form}, got {address!r}")
    if address.startswith("ray://"):
        raise ValueError(
            f"{form}, got {address!r}: Ray Client would send all experience through a proxy; make this machine a node "
            "(`ray start --address=HOST:6379`) and give host:port"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{form}, got {address!r}")


def answers(address: str, timeout: float) -> bool:
    """Whether something listens at `host:port`."""
    try:
        connect(address, timeout).close()
    except OSError:
        return False
    return True


def connect(address: str, timeout: float) -> socket.socket:
    """A connection to `host:port`."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)
