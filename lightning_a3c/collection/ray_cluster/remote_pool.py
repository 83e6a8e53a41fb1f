"""One actor as the learner sees it: creating, calling and ending it. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle

Versions = dict[str, str]


def versions_reader() -> Callable[[], Versions]:
    """A function that tells the versions of this process's Python and packages.

    It is made here because Ray sends what a function defines by value: it must run where this package is missing.
    """

    def read() -> dict[str, str]:
        import platform
        from importlib import import_module, metadata

        found = {"Python": ".".join(platform.python_version_tuple()[:2])}
        try:
            found["torch"] = metadata.version("torch").partition("+")[0]  # CPU and CUDA builds understand each other
        except metadata.PackageNotFoundError:
            found["torch"] = "none"
        try:
            found["lightning_a3c"] = import_module("lightning_a3c.version").__version__
        except ImportError:
            found["lightning_a3c"] = "none"
        return found

    return read


def _make_actor_class() -> Any:
    read_versions = versions_reader()

    class Collectors:  # sent by value, like `read_versions`
        def describe(self) -> tuple[str, dict[str, str]]:
            import ray

            return ray.get_runtime_context().get_node_id(), read_versions()

        def open(self, pickled: bytes, share: Any) -> None:
            from lightning_a3c.collection.ray_cluster.actor import ActorPool

            self.pool = ActorPool(pickled, share)

        def take(self, weights: Any, count: int) -> Any:
            return self.pool.take(weights, count)

        def state_dict(self) -> Any:
            return self.pool.state_dict()

        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        def ping(self) -> None:
            pass

        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        def close(self) -> None:
            if hasattr(self, "pool"):
                self.pool.close()

    options = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": {"watch": 1}}
    return ray.remote(**options)(Collectors)


class RemotePool:
    """An actor and what it owes the learner. After `end` it may be created again.

    Args:
        index: which of the learner's actors this is.
        cpus: that Ray sets aside for it.
    """

    def __init__(self, index: int, cpus: float) -> None:
        self.index = index
        self.start_at = 0.0  # do not create it before this time
        self.created_at = 0.0
        self.heard_at = 0.0  # when it last answered
        self.node = ""  # id of the node it runs on, once it does
        self.nodes: set[str] = set()  # ids of those it could be placed on
        self.is_open = False  # its pool runs
        self.is_late = False  # that it waits for room was told
        self.owed = 0  # calls of `take` under way
        self.due = 0  # that are to be made once it is open
        self.restarts = 0  # of its workers, in all its lives
        self._lives = 0  # of them, before this life
        self._actor: ActorHandle | None = None
        self._cpus = cpus
        self._ping: ray.ObjectRef[None] | None = None
        self._pinged_at = 0.0

    @property
    def name(self) -> str:
        return f"actor {self.index}" + (f" (node {self.node[:8]})" if self.node else "")

    @property
    def exists(self) -> bool:
        return self._actor is not None

    def create(self, nodes: set[str]) -> ray.ObjectRef[Any]:
        """Ask Ray for room for the actor on `nodes`; the result tells the node's id and `Versions` once it runs."""
        self.nodes = nodes
        self._actor = _make_actor_class().options(num_cpus=self._cpus, scheduling_strategy="SPREAD").remote()
        self.created_at = time.monotonic()
        self.is_late = False
        return self._call("describe")

    def open(self, pickled: ray.ObjectRef[bytes], share: Any) -> ray.ObjectRef[Any]:
        return self._call("open", pickled, share)

    def take(self, weights: ray.ObjectRef[Any], count: int) -> ray.ObjectRef[Any]:
        self.owed += 1
        return self._call("take", weights, count)

    def state_dict(self) -> ray.ObjectRef[Any]:
        return self._call("state_dict")

    def hear(self, restarts: int | None = None) -> None:
        """Note a sign of life."""
        self.heard_at = time.monotonic()
        if restarts is not None:
            self.restarts = self._lives + restarts

    def silence(self, patience: float) -> float:
        """Seconds for which it has not answered the question whether it is alive, asked after `patience` seconds."""
        now = time.monotonic()
        if self._ping is not None:
            answered, _ = ray.wait([self._ping], timeout=0, fetch_local=False)
            if not answered:
                return now - self._pinged_at
            self._ping = None
            self.hear()
        elif now - self.heard_at > patience:
            self._ping = self._call("ping")
            self._pinged_at = now
        return 0.0

    def restart_clock(self) -> None:
        """Count its silence from now on."""
        self.heard_at = self._pinged_at = time.monotonic()

    def ask_to_close(self) -> ray.ObjectRef[Any] | None:
        """The end of its workers, if it has any."""
        return self._call("close") if self._actor is not None and self.node else None

    def end(self) -> None:
        """Kill it. Its workers notice."""
        actor, self._actor, self._ping = self._actor, None, None
        self.node, self.is_open, self.owed, self.due = "", False, 0, 0
        self._lives = self.restarts
        if actor is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor, no_restart=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        assert self._actor is not None
        return getattr(self._actor, method).remote(*arguments)
