"""Collectors on a Ray cluster: feeding the actors, taking their messages, replacing those that are lost."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from torch import nn

from lightning_a3c.collection.config import StreamConfig
from lightning_a3c.collection.job import CollectorJob, CollectorState
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.processes.job_sharing import pickle_job
from lightning_a3c.collection.processes.process_settings import ProcessSettings
from lightning_a3c.collection.processes.supervision import Failure, FailureLog
from lightning_a3c.collection.ray_cluster.actor import Answer, Share, Weights
from lightning_a3c.collection.ray_cluster.arrivals import Arrivals
from lightning_a3c.collection.ray_cluster.cluster import ClusterConnection, ClusterLost
from lightning_a3c.collection.ray_cluster.config import CALLS
from lightning_a3c.collection.ray_cluster.remote_pool import RemotePool, versions_reader
from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory
from lightning_a3c.collection.shared_weights import arrays_of, trained_in
from lightning_a3c.rl.types import Message

_STOP_SECONDS = 10.0  # until an actor that was told to end its workers is killed
_PATIENCE_SECONDS = 3.0  # of waiting for a batch before an interruption counts
_WATCH_SECONDS = 0.2  # between checks of the actors while waiting for them
_SILENCE_SECONDS = 5.0  # until an actor is asked whether it is alive
_ROOM_SECONDS = 10.0  # of waiting for room before that is told

_log = logging.getLogger(__name__)

_never_freed: list[object] = []
"""Answers in a lost daemon's memory: freeing them would talk to it, and end this process."""


class RayBackend:
    """A `CollectorBackend` whose worker pools run in actors on the nodes of a Ray cluster.

    Every version of the weights is put into Ray's object store once, and each call brings the newest. An actor that
    dies or hangs is replaced, within the limits of `config.supervision`; one whose node is lost is replaced without a
    limit. An actor for which there is no room is waited for, while the others go on. Ray itself restarts nothing and
    repeats no call, so no message comes twice.

    With a synchronous job, each actor gets one call for a batch, and the messages are put in the order of the workers'
    ranks: the result is that of a `WorkerPool` with as many workers.

    Args:
        job: what every collector does.
        config: how many workers, and on which cluster; `num_workers` is a multiple of the number of actors.
        states: where synchronous collectors begin, by rank.

    Raises:
        WorkerError: the cluster does not answer.
        ValueError: part of the job cannot be pickled.
    """

    def __init__(self, job: CollectorJob, config: StreamConfig, states: list[CollectorState] | None = None) -> None:
        assert config.collectors is not None
        self._job = job.with_own_network()
        pickled = pickle_job(self._job)
        self._arrivals = Arrivals(job.message_template(), config.pin_memory)
        self._config = config
        self._collectors = config.collectors
        self._workers = config.num_workers // self._collectors.actors  # of each actor
        self._is_synchronous = job.rollout.synchronous
        self._states = states
        self._settings = ProcessSettings.current()
        self._failures = FailureLog(config.supervision)
        self._lost_nodes = 0
        self._version = 0
        self._per_call = self._collectors.messages_per_call
        self._calls: dict[ray.ObjectRef[Any], RemotePool] = {}  # oldest first
        self._watched_at = time.monotonic()
        self._is_in_batch = False
        self._is_closed = False
        self._pid = os.getpid()
        self._own_versions = versions_reader()()
        self._cluster = ClusterConnection(self._collectors, config.num_workers)
        atexit.register(self.close)  # before Ray's own
        self._pickled = ray.put(pickled)
        cpus = self._collectors.cpus(config.num_workers)
        self._actors = [RemotePool(index, cpus) for index in range(self._collectors.actors)]

    @property
    def restarts(self) -> int:
        return self._failures.total + self._lost_nodes + sum(actor.restarts for actor in self._actors)

    def publish(self, net: nn.Module) -> int:
        self._version += 1
        weights = Weights(arrays_of(net, self._job.net), trained_in(net), self._version)
        self._cluster.require_alive()
        self._weights = ray.put(weights)
        return self._version

    def take(self, count: int, check_interrupt: Callable[[], None] = lambda: None) -> tuple[Message, float]:
        """The next `count` messages concatenated, first come first served.

        `check_interrupt` is called only after some seconds of waiting, as by `WorkerPool`.

        Raises:
            WorkerError: an actor or worker has failed more often than it may, there is no room for any, the cluster
                is lost, or its nodes run other versions.
        """
        if self._is_closed:
            raise WorkerError("the collectors are closed")
        self._is_in_batch = True
        patient_until = time.monotonic() + _PATIENCE_SECONDS

        def wait() -> None:
            if time.monotonic() > patient_until:
                check_interrupt()
            self._advance(_WATCH_SECONDS)

        if self._is_synchronous:
            self._per_call = count // len(self._actors)
            for actor in self._actors:
                actor.due = 1
        self._advance(0)
        fill = 0.0 if self._is_synchronous else self._fill()
        if self._is_synchronous:
            batch = self._arrivals.batch_in_order(count, self._workers, len(self._actors), wait)
        else:
            batch = self._arrivals.batch(count, wait)
        self._is_in_batch = False
        return batch, fill

    def state_dict(self) -> list[CollectorState]:
        if self._is_in_batch or self._is_closed or not all(actor.is_open for actor in self._actors):
            raise WorkerError(
                "the collectors' states are not available: they were interrupted in a batch, or are not running"
            )
        self._cluster.require_alive()
        try:
            states = ray.get([actor.state_dict() for actor in self._actors], timeout=self._failures.supervision.timeout)
        except (RayError, WorkerError) as error:
            raise WorkerError(f"a collector's state is not available: {error!r}") from error
        return [state for of_one in states for state in of_one]

    def close(self) -> None:
        """End all workers and actors, and a cluster that was started for them."""
        if self._is_closed or os.getpid() != self._pid:  # forked from the learner
            return
        self._is_closed = True
        atexit.unregister(self.close)
        with suppress(ClusterLost):
            self._cluster.require_alive()
        if self._cluster.is_lost:  # Ray would end this process
            _never_freed.append((self._calls, self._arrivals))
        else:
            self._end_actors()
            self._calls.clear()
            self._arrivals.clear()
        self._cluster.close()

    def _end_actors(self) -> None:
        endings = [ending for actor in self._actors if (ending := actor.ask_to_close()) is not None]
        if endings:
            with suppress(RayError):
                ray.wait(endings, num_returns=len(endings), timeout=_STOP_SECONDS, fetch_local=False)
        for actor in self._actors:
            actor.end()

    def _fill(self) -> float:
        """The share of the actors with an answer that was not yet read.

        Asking lets Ray fetch answers that lie on other nodes.
        """
        calls = [call for call, actor in self._calls.items() if actor.owed]
        ready = ray.wait(calls, num_returns=len(calls), timeout=0)[0] if calls else []
        with_answer = {self._calls[call].index for call in ready} | self._arrivals.actors
        return len(with_answer) / len(self._actors)

    def _advance(self, timeout: float) -> None:
        """Make the calls that are due and read one answer, waiting for it for `timeout` seconds."""
        self._cluster.require_alive()
        self._arrivals.free_used()
        for actor in self._actors:
            if not actor.exists and actor.start_at <= time.monotonic():
                self._calls[actor.create(self._cluster.nodes())] = actor
            self._call(actor)
        if not self._calls:
            time.sleep(timeout)
        elif timeout or not self._arrivals:
            # Without fetching, Ray lets this process wait on if the daemon dies; with it, Ray would end it
            ready, _ = ray.wait(list(self._calls), timeout=timeout, fetch_local=False)
            self._cluster.require_alive()
            for call in ready:
                self._read(call, self._calls.pop(call))
        self._watch()

    def _call(self, actor: RemotePool) -> None:
        if not actor.is_open:
            return
        due = actor.due if self._is_synchronous else CALLS - actor.owed
        for _ in range(due):
            self._calls[actor.take(self._weights, self._per_call)] = actor
        actor.due = 0

    def _read(self, call: ray.ObjectRef[Any], actor: RemotePool) -> None:
        try:
            answer = ray.get(call, timeout=self._failures.supervision.timeout)
        except RayTaskError as error:
            raise _raised(actor, error) from None
        except RayError as error:
            self._fail(actor, _reason(error))
            return
        if isinstance(answer, Answer):
            actor.hear(answer.restarts)
            actor.owed -= 1
            self._arrivals.add(actor.index, answer)
        elif answer is None:
            actor.hear()
            actor.is_open = True
        else:
            actor.hear()
            actor.node, versions = answer
            self._require_same(actor, versions)
            self._calls[actor.open(self._pickled, self._share(actor.index))] = actor

    def _share(self, index: int) -> Share:
        first = index * self._workers
        states, resumed_at = None, self._job.resumed_at
        if self._states is not None:
            states = self._states[first : first + self._workers]
        if self._failures.total or self._lost_nodes:
            resumed_at += self._version  # a replacement plays other episodes
        config = replace(self._config, num_workers=self._workers, pin_memory=False, collectors=None)
        return Share(config, self._job.first_collector + first, resumed_at, states, self._settings)

    def _require_same(self, actor: RemotePool, theirs: dict[str, str]) -> None:
        differing = [
            f"{name} {theirs[name]} there and {own} here"
            for name, own in self._own_versions.items()
            if theirs[name] != own
        ]
        if differing:
            raise WorkerError(
                f"{actor.name} cannot work for this learner: {', '.join(differing)}; install the same versions on all "
                "nodes"
            )

    def _watch(self) -> None:
        """Find actors that hang, or wait for room."""
        now, timeout = time.monotonic(), self._failures.supervision.timeout
        was_suspended = now - self._watched_at > timeout / 2
        self._watched_at = now
        for actor in self._actors:
            if was_suspended:
                actor.restart_clock()
            elif actor.node and (silence := actor.silence(min(_SILENCE_SECONDS, timeout))) > timeout:
                self._fail(actor, f"hangs: it has not answered for {silence:.0f} s")
        waiting = [actor for actor in self._actors if actor.exists and not actor.node]
        for actor in waiting:
            if now - actor.created_at > _ROOM_SECONDS and not actor.is_late:
                actor.is_late = True
                _log.warning("%s waits for room: %s", actor.name, self._room())
        if waiting and (self._is_synchronous or len(waiting) == len(self._actors)):
            since = max(actor.created_at for actor in waiting)
            if now - since > self._collectors.start_timeout:
                raise WorkerError(
                    f"{waiting[0].name} found no room within data.collectors.start_timeout "
                    f"({self._collectors.start_timeout:g} s): {self._room()}; lower data.collectors.cpus_per_actor or "
                    "data.collectors.actors, or add nodes"
                )

    def _room(self) -> str:
        cpus = self._collectors.cpus(self._config.num_workers)
        return f"it needs {cpus:g} CPUs of one node; {self._cluster.room()}"

    def _fail(self, actor: RemotePool, reason: str) -> None:
        """End the actor and schedule its replacement, or give up."""
        failure = Failure(time.monotonic(), actor.index, f"{actor.name} {reason}")
        lost_node = self._cluster.lost(actor.node) if actor.node else self._cluster.lost(*actor.nodes)
        self._calls = {call: other for call, other in self._calls.items() if other is not actor}
        actor.end()
        if self._is_synchronous:
            raise WorkerError(
                f"{failure.reason}\n"
                "With data.synchronous a replacement would change the result, so the run ends; resume from the last "
                "checkpoint"
            )
        delay: float | None = self._failures.supervision.first_delay
        if lost_node:
            self._lost_nodes += 1
        else:
            delay = self._failures.record(failure)
        if delay is None:
            raise WorkerError(
                f"actor {actor.index} failed more often than data.supervision.max_restarts allows "
                f"({self._failures.supervision.max_restarts} in {self._failures.supervision.window:g} s); "
                f"the last failures:\n{self._failures.summary()}"
            )
        _log.warning("%s%s\nReplacing it in %g s", failure.reason, ", with its node" if lost_node else "", delay)
        actor.start_at = failure.time + delay


def _raised(actor: RemotePool, error: RayTaskError) -> WorkerError:
    """What an actor's method raised; it ends the run, since the pool there has done what it may."""
    cause = error.cause
    if isinstance(cause, WorkerError | NoFreeSharedMemory | ValueError):
        return WorkerError(f"{actor.name}: {cause}")
    return WorkerError(f"{actor.name} raised:\n{error.traceback_str}")


def _reason(error: RayError) -> str:
    """Why an actor was lost, in one line."""
    if isinstance(error, GetTimeoutError):
        return "was lost: its answer could not be fetched"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines[1:] if line.startswith("The actor")]
    return f"was lost: {' '.join([*lines[:1], *causes])}"
