"""What one collector does, in a process of its own or in the learner's. Knows nothing of Lightning."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import traceback
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from typing import Literal

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from lightning_a3c.channel import ChannelWriter, ReaderGone
from lightning_a3c.env_checks import Whereabouts
from lightning_a3c.envs import EnvConfig, better_unseeded, clips_rewards, make_vector_env, reset_seed, spec_of
from lightning_a3c.fork_server import STOP_SIGNALS
from lightning_a3c.heap import keep_freed_memory
from lightning_a3c.network_checks import copy_network
from lightning_a3c.network_pickling import dumps, unpicklable
from lightning_a3c.payloads import MakePayload
from lightning_a3c.policies import SoftmaxPolicy
from lightning_a3c.processor import fastest_matmul
from lightning_a3c.registry import make_known, portable_registry
from lightning_a3c.replay import ReplayableEnv
from lightning_a3c.rollout import Rollout, empty_report
from lightning_a3c.shared_tensors import SharedTensors
from lightning_a3c.surroundings import Surroundings, seed_generators
from lightning_a3c.types import Message, Payload, Transitions, map_tensors
from lightning_a3c.weights import SharedWeights, drop_weights, newest_network

CollectorState = dict[str, dict[str, Tensor]]
"""What a synchronous collector keeps: plain tensors, which checkpoints can hold."""

WorkerPrecision = Literal["32-true", "bf16-true"]
"""Of the weights a worker acts and differentiates with, in Lightning's words; what it sends is float32 always."""

CPU = torch.device("cpu")
_log = logging.getLogger(__name__)
_NICENESS = 10  # below the learner, which everyone waits for; workers take the cores it leaves


@dataclass(frozen=True)
class CollectorJob:
    """Everything a collector needs to know; the same for all of them but their rank.

    Args:
        env: what to step.
        observation_shape: of one observation.
        observation_dtype: name of the dtype that the network sees.
        net: architecture of the policy; its weights come from the learner's snapshots.
        make_payload: what to make of the transitions.
        n_steps: N of the return targets, >= 1.
        discount: γ in [0, 1].
        size: transitions in one payload, >= 1.
        seed: of the run; each rank derives its own.
        synchronous: every payload is of one policy only, and the state can be kept and restored.
        precision: of the detached network's weights.
        device: where the network computes; all else a worker does is done on the CPU.
        first_update: how many updates of the run were made before these collectors start.
        experience: how much the run had seen by then; another number, other episodes. 0 for a run that begins.
    """

    env: EnvConfig
    observation_shape: tuple[int, ...]
    observation_dtype: str
    net: nn.Module
    make_payload: MakePayload
    n_steps: int
    discount: float
    size: int
    seed: int
    synchronous: bool = False
    precision: WorkerPrecision = "32-true"
    device: torch.device = CPU
    first_update: int = 0
    experience: int = 0

    def seeds(self, rank: int, start: int = 0) -> tuple[int, int]:
        """Of the environments and of the sampling of one collector; see `Collector` for the arguments."""
        entropy = [self.seed, rank]
        if self.experience:
            entropy += [start, self.experience]
        elif start:
            entropy += [start]
        env_seed, policy_seed = (int(s) for s in np.random.SeedSequence(entropy).generate_state(2) >> 1)
        return env_seed, policy_seed

    def detached(self) -> CollectorJob:
        """The same job with a network of its own, on the CPU, in evaluation mode and in the job's precision."""
        net = copy_network(self.net).cpu().eval()
        if self.precision == "bf16-true":
            for tensor in (*net.parameters(), *net.buffers()):
                if tensor.is_floating_point():  # `net.to` would leave half of a complex number
                    tensor.data = tensor.data.to(torch.bfloat16)
        return replace(self, net=net)

    def autocast(self, device: torch.device = CPU) -> torch.autocast:
        """Within it the detached network, on `device`, takes observations of any dtype."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-true")

    def share(self, context: BaseContext) -> SharedTensors:
        """The detached job where any number of processes can `load` it.

        Classes and environments of a notebook or script are included, which those processes do not import, and all
        that it has changed in Gymnasium's registry. Its network is an architecture without weights.

        Returns:
            One tensor, uint8 [bytes of the pickled job].

        Raises:
            ValueError: something of it cannot be pickled.
            NoFreeSharedMemory: /dev/shm is too small.
        """
        job = self.detached()
        drop_weights(job.net)
        try:
            pickled = dumps((portable_registry(), spec_of(job.env.id), job))
        except (TypeError, RuntimeError, pickle.PicklingError) as error:
            layer = unpicklable(job.net)
            if layer is not None:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"workers cannot be sent the network's {layer}: {reason}; keep out of it what cannot be pickled, "
                    "or collect in this process, with data.num_workers 0"
                ) from error
            raise ValueError(
                f"workers cannot be sent {job.env.id} or {type(job.net).__name__}: {error}; what a script or notebook "
                "defines takes along all that it refers to, so define it in a module, which workers import"
            ) from error
        job_bytes = torch.frombuffer(bytearray(pickled), dtype=torch.uint8)
        shared = SharedTensors([job_bytes], context)
        shared.tensors[0].copy_(job_bytes)
        return shared

    @staticmethod
    def load(shared: SharedTensors) -> CollectorJob:
        """A job of the caller's own, from what `share` returned."""
        job: CollectorJob
        registry, spec, job = cloudpickle.loads(shared.tensors[0].numpy().data)
        with suppress(ValueError):
            spec_of(job.env.id)  # imports the module that the id may name
        make_known(registry, spec)
        return job

    def message_template(self) -> Message:
        """A message of the shapes and dtypes of the real ones, on the meta device: it takes no memory."""
        transitions = Transitions(
            observations=torch.zeros(self.size, *self.observation_shape, dtype=getattr(torch, self.observation_dtype)),
            actions=torch.zeros(self.size, dtype=torch.int64),
            returns=torch.zeros(self.size),
        )
        with self.autocast():
            payload = self.make_payload(self.detached().net, transitions, 0, 0)
        message = Message(payload, empty_report(self.size, self.env.num_envs))
        template: Message = map_tensors(lambda tensor: tensor.to("meta"), message)
        return template


class Collector:
    """Acts with the newest weights and turns experience into messages.

    Args:
        job: what to do, detached from the learner: its network gets the weights of `weights`.
        rank: which of the run's collectors this is.
        start: 0 for the first of this rank, 1 for the one started after its failure, …; each plays other episodes.
        weights: the learner's snapshots; one must have been published before `collect`.
        whereabouts: told which call of an environment is under way.
        seeded: whether the job's seed decides how the environments begin, or chance.
    """

    def __init__(
        self,
        job: CollectorJob,
        rank: int,
        weights: SharedWeights,
        start: int = 0,
        whereabouts: Whereabouts | None = None,
        seeded: bool = True,
    ) -> None:
        env_seed, policy_seed = job.seeds(rank, start)
        self.rank = rank
        self.job = job
        self._weights = weights
        self._net = newest_network(weights, job.net, job.device)
        env = make_vector_env(job.env, whereabouts=whereabouts)
        self._env = ReplayableEnv(env, env_seed) if job.synchronous else env
        self._policy = SoftmaxPolicy(self._net, seed=policy_seed)
        self._rollout = Rollout(
            self._env,
            self._policy,
            n_steps=job.n_steps,
            discount=job.discount,
            clip_rewards=clips_rewards(job.env),
            seed=reset_seed(env_seed, job.env.num_envs) if seeded else None,
            on_policy=job.synchronous,
        )

    def collect(self, out: Message | None = None) -> Message:
        """The next payload with its report, each new step taken with the newest weights.

        Args:
            out: where the message will be sent from; parts of the payload may be made there.
        """
        place = None if out is None else out.payload
        with self.job.autocast(self.job.device):
            transitions, report = self._rollout.collect(
                self.job.size, self._weights.version, place if isinstance(place, Transitions) else None
            )

            def make_payload(net: nn.Module, version: int) -> Payload:
                update = self.job.first_update + version - 1
                return self.job.make_payload(net, transitions, self.rank, update, place)

            return Message(self._net.compute(make_payload), report)

    def state_dict(self) -> CollectorState:
        """All that decides what a synchronous collector does next, but the weights."""
        assert isinstance(self._env, ReplayableEnv)
        return {
            "env": self._env.state_dict(),
            "policy": {"generator": self._policy.generator_state},
            "rollout": self._rollout.state_dict(),
        }

    def load_state_dict(self, state: CollectorState) -> None:
        """Bring the environments, the sampling and the episodes under way back to `state`."""
        assert isinstance(self._env, ReplayableEnv)
        first_seed, _ = replace(self.job, experience=0).seeds(self.rank)  # in force where a state does not name one
        observations, is_same = self._env.load_state_dict({"seed": torch.tensor(first_seed)} | state["env"])
        if not is_same:
            _log.warning(
                "%s is not determined by its seed and the actions: the episodes under way go on elsewhere than they "
                "did, so this run will differ from one that was not interrupted",
                self.job.env.id,
            )
        self._policy.generator_state = state["policy"]["generator"]
        self._rollout.load_state_dict(state["rollout"], observations)

    def close(self) -> None:
        self._env.close()


def run_worker(
    rank: int,
    start: int,
    job: SharedTensors,
    weights: SharedWeights,
    writer: ChannelWriter,
    state: CollectorState | None,
    surroundings: Surroundings,
) -> None:
    """A collector process: collect whenever a slot is free, until the learner closes its end."""
    for number in STOP_SIGNALS:  # they reach the whole group; the learner decides
        signal.signal(number, _do_nothing)  # programs that an environment starts would inherit SIG_IGN
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    torch.set_num_threads(1)
    keep_freed_memory()
    os.nice(_NICENESS)
    try:
        surroundings.apply()
        own_job = CollectorJob.load(job)
        seed_generators(own_job.seed, rank, start, own_job.first_update)
        with fastest_matmul(own_job.device):
            # between asynchronous processes chance decides anyway which weights act
            seeded = own_job.synchronous or not better_unseeded(own_job.env)
            whereabouts = Whereabouts(writer.status.numpy())
            with closing(Collector(own_job, rank, weights, start, whereabouts, seeded=seeded)) as collector:
                if state is not None:
                    collector.load_state_dict(state)
                while True:
                    place = writer.wait_for_slot(collector.state_dict)  # before acting, so that what waits is young
                    writer.send(collector.collect(place))
    except ReaderGone:
        return
    except Exception as error:
        told = "".join(traceback.format_exception_only(error))
        with suppress(ReaderGone):
            writer.send_failure(traceback.format_exc().removesuffix(told), told.rstrip())


def _do_nothing(number: int, frame: object) -> None:
    pass
