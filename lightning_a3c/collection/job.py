"""What every collector of a run does, as one value. Knows no process."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lightning_a3c.collection.config import RolloutConfig, WorkerPrecision
from lightning_a3c.collection.payloads import MakePayload
from lightning_a3c.collection.rollout import empty_stats
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.task import Task
from lightning_a3c.rl.agent_network import AgentNetwork, action_spec_of
from lightning_a3c.rl.memory import state_size_of
from lightning_a3c.rl.network_checks import copy_network
from lightning_a3c.rl.normalization import RunningMoments
from lightning_a3c.rl.types import Experience, Message, RolloutStats, Sequences, Transitions, map_tensors

CollectorState = dict[str, dict[str, Tensor]]
"""State of a synchronous collector: plain tensors, which checkpoints can hold."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class CollectorJob:
    """Everything a collector needs to know; a learner's collectors share it and differ in their rank.

    Args:
        env: what to step.
        task: what `env` turned out to be.
        rollout: how experience becomes micro-batches.
        net: architecture of the policy; its weights come from the published snapshots.
        make_payload: turns transitions into what is sent.
        seed: of the run; each rank derives its own.
        precision: of the weights that the collector computes with.
        device: where the network computes; everything else a worker does happens on the CPU.
        first_update: updates made before these collectors start.
        resumed_at: how far the run was when these collectors started, in any unit; 0 for a new run. Another number
            gives other episodes.
        first_collector: number of this learner's first collector among those of all learners; seeds follow from it.
    """

    env: EnvConfig
    task: Task
    rollout: RolloutConfig
    net: nn.Module
    make_payload: MakePayload
    seed: int
    precision: WorkerPrecision = "32-true"
    device: torch.device = CPU
    first_update: int = 0
    resumed_at: int = 0
    first_collector: int = 0

    def seeds(self, rank: int, attempt: int = 0) -> tuple[int, int]:
        """Seeds of one collector's environments and of its action sampling; `Collector` explains the arguments."""
        entropy = [self.seed, self.first_collector + rank]
        if self.resumed_at:
            entropy += [attempt, self.resumed_at]
        elif attempt:
            entropy += [attempt]
        env_seed, policy_seed = (int(s) for s in np.random.SeedSequence(entropy).generate_state(2) >> 1)
        return env_seed, policy_seed

    def with_own_network(self) -> CollectorJob:
        """The same job with its own copy of the network: on the CPU, in evaluation mode, in the job's precision."""
        net = copy_network(self.net).cpu().eval()
        if self.precision == "bf16-true":
            exact = {id(t) for m in net.modules() if isinstance(m, RunningMoments) for t in m.buffers()}
            for tensor in (*net.parameters(), *net.buffers()):
                # `net.to` would drop the imaginary part of complex tensors; statistics stay exact
                if tensor.is_floating_point() and id(tensor) not in exact:
                    _convert_in_place(tensor, torch.bfloat16)
        return replace(self, net=net)

    def autocast(self, device: torch.device = CPU) -> torch.autocast:
        """A context in which the collector's network on `device` takes observations of any dtype."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-true")

    def message_template(self) -> Message:
        """A message with the shapes and dtypes of the real ones, on the meta device, where it takes no memory."""
        size, dtype = self.rollout.micro_batch_size, getattr(torch, self.task.observation_dtype)
        net = self.with_own_network().net
        spec = action_spec_of(net, self.task.num_actions)
        transitions = Transitions(
            observations=torch.zeros(size, *self.task.observation_shape, dtype=dtype),
            actions=spec.mode(torch.zeros(size, spec.num_parameters)),
            returns=torch.zeros(size),
            log_probs=torch.zeros(size),
        )
        experience: Experience = transitions
        if self.rollout.sends_sequences:
            experience = _as_sequences(transitions, self.rollout.n_steps, state_size_of(net))
        with self.autocast():
            payload = self.make_payload(net, experience, 0, 0)
        stats = with_moments(empty_stats(size, self.env.num_envs), net, experience)
        message = Message(payload, stats)
        template: Message = map_tensors(lambda tensor: tensor.to("meta"), message)
        return template


def with_moments(stats: RolloutStats, net: nn.Module, experience: Experience) -> RolloutStats:
    """`stats` with the moments of the observations, if `net` normalises them."""
    if not isinstance(net, AgentNetwork):
        return stats
    observations = experience.observations
    is_sequence = isinstance(experience, Sequences)
    return stats._replace(observation_moments=net.measure(observations.flatten(0, 1) if is_sequence else observations))


def _as_sequences(transitions: Transitions, length: int, state_size: int) -> Sequences:
    count = len(transitions.returns) // length
    observations, actions, returns, log_probs = (
        tensor.view(count, length, *tensor.shape[1:]) for tensor in transitions
    )
    flags = torch.zeros(count, length, dtype=torch.bool)
    zeros, state = torch.zeros(count), torch.zeros(count, state_size)
    return Sequences(observations, actions, returns, log_probs, returns, returns, zeros, flags, ~flags, state)


def _convert_in_place(tensor: Tensor, dtype: torch.dtype) -> None:
    """Change the dtype of a tensor that a module holds, wherever else the module refers to it."""
    converted = tensor.detach().to(dtype)
    if isinstance(tensor, nn.Parameter):
        converted = nn.Parameter(converted, tensor.requires_grad)
    torch.utils.swap_tensors(tensor, converted)  # type: ignore[no-untyped-call]
