"""Forward passes through any agent network, with memory or without: one step, and whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_a3c.learning.observation_file import ObservationMismatch
from lightning_a3c.rl.agent_network import Observations
from lightning_a3c.rl.memory import Memory

Forward = Callable[..., tuple[Tensor, ...]]
"""What `A3CModule.forward` is."""


def one_step(
    forward: Forward,
    state_size: int,
    observations: Observations,
    state: Tensor | None = None,
    starts: Tensor | Sequence[bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Parameters [B, P] and values [B] for one observation of each environment, and the state after it.

    Args:
        forward: the network.
        state_size: H, 0 without memory.
        observations: [B, …], on the network's device.
        state: float32 [B, H]; None begins B episodes.
        starts: bool [B], where an episode begins with these observations.

    Raises:
        ValueError: `state` or `starts` does not fit the observations.
    """
    if not state_size:
        parameters, values = forward(observations)
        return parameters, values, None
    parts = observations if isinstance(observations, Mapping) else {"": observations}
    first = next(iter(parts.values()))
    batch, device = len(first), first.device
    fresh = Memory.empty(batch, state_size)
    begins = torch.as_tensor(starts) if starts is not None else fresh.starts if state is None else ~fresh.starts
    state = (fresh.state if state is None else state).to(device)
    if state.shape != fresh.state.shape or begins.shape != (batch,):
        raise ValueError(
            f"state {tuple(state.shape)} and starts {tuple(begins.shape)} do not fit {batch} observations: "
            f"{tuple(fresh.state.shape)} and ({batch},) are needed"
        )
    sequences: Any = {name: part.unsqueeze(1) for name, part in parts.items()}
    sequences = sequences if isinstance(observations, Mapping) else sequences[""]
    parameters, values, state = forward(sequences, state, begins.bool().to(device).unsqueeze(1))
    return parameters[:, 0], values[:, 0], state


def after_sequences(
    forward: Forward, state_size: int, observations: Tensor, observation_shape: tuple[int, ...], network: str
) -> tuple[Tensor, Tensor]:
    """Observations [B, …] or, with memory, [B, T, …] from the beginning of an episode → parameters, values at the end.

    Args:
        forward: the network.
        state_size: H, 0 without memory.
        observations: on the network's device.
        observation_shape: of one observation.
        network: its name in messages.

    Returns:
        Parameters [B, P] and values [B].

    Raises:
        ObservationMismatch: a network without memory gets sequences, or one with memory does not.
    """
    if not state_size:
        if observations.shape[2:] == observation_shape and observations.shape[1:] != observation_shape:
            raise ObservationMismatch(f"{network} has no memory and predicts from observations, not from sequences")
        parameters, values = forward(observations)
        return parameters, values
    if observations.shape[2:] != observation_shape:
        raise ObservationMismatch(
            f"{network} has memory and predicts from sequences [n, T, {', '.join(map(str, observation_shape))}], "
            f"got {tuple(observations.shape)}"
        )
    memory = Memory.empty(len(observations), state_size)
    starts = torch.zeros(observations.shape[:2], dtype=torch.bool, device=observations.device)
    starts[:, 0] = True
    parameters, values, _ = forward(observations, memory.state.to(observations.device), starts)
    return parameters[:, -1], values[:, -1]
