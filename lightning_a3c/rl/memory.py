"""Policies with memory: what distinguishes them, and computing with them. Knows no particular network.

A network with memory has two more things than another one:

- `initial_state(batch)` gives the state in which episodes begin, float32 [batch, H].
- `forward(observations [B, T, …], state [B, H], starts [B, T])` gives outputs [B, T, P], values [B, T] and the state
  after the last step, [B, H]. Where `starts` is true an episode begins, and the state is initial before that step.

The state is an argument and a result and never an attribute, since workers may repeat a call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_a3c.rl.types import Experience, Sequences


class Memory(NamedTuple):
    """What a policy carries from step to step of B environments."""

    state: Tensor  # float32 [B, H]
    starts: Tensor  # bool [B], an episode begins: the next step forgets the state

    @classmethod
    def empty(cls, batch: int, size: int) -> Memory:
        """Before the first step of `batch` episodes."""
        return cls(torch.zeros(batch, size), torch.ones(batch, dtype=torch.bool))


def is_recurrent(net: nn.Module) -> bool:
    """Whether `net` has memory."""
    size: int | None = getattr(net, "state_size", None)
    return hasattr(net, "initial_state") if size is None else size > 0


def state_size_of(net: nn.Module) -> int:
    """H, the numbers that a policy with `net` carries from step to step; 0 without memory."""
    size: int | None = getattr(net, "state_size", None)
    if size is None:
        initial_state = getattr(net, "initial_state", None)
        size = 0 if initial_state is None else initial_state(1).shape[1]
    return size


def outputs_of(net: Any, experience: Experience, has_memory: bool) -> tuple[Tensor, Tensor]:
    """Parameters [N, P] and values [N] of every step of `experience`, as `A2CLoss.of` takes them.

    Args:
        net: the network, or a module whose `forward` calls it.
        experience: on the network's device.
        has_memory: whether `net` takes a state.
    """
    if not isinstance(experience, Sequences):
        parameters, values = net(experience.observations)
        return parameters, values
    if not has_memory:
        parameters, values = net(experience.observations.flatten(0, 1))
        return parameters, values
    parameters, values, _ = net(experience.observations, experience.state, experience.starts)
    return parameters.flatten(0, 1), values.flatten()
