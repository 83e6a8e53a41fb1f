"""The named tuples that travel from the environments to the learner, with dtype and shape beside each field.

Knows nothing of environments, networks, processes or Lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Transitions(NamedTuple):
    """B transitions in the form that the loss needs; their order does not matter."""

    observations: Tensor  # uint8 or float32 [B, *observation_shape]; bytes [B, n] if packed
    actions: Tensor  # int64 [B] for discrete ones; otherwise int64 or float32 [B, L]
    returns: Tensor  # float32 [B], targets R_t
    log_probs: Tensor  # float32 [B], log μ(a|o) of the policy μ that acted


class Sequences(NamedTuple):
    """S sequences of T steps, each in the order of time: for policies with memory, and for V-trace."""

    observations: Tensor  # uint8 or float32 [S, T, *observation_shape]; bytes [S, T, n] if packed
    actions: Tensor  # int64 [S, T] for discrete ones; otherwise int64 or float32 [S, T, L]
    returns: Tensor  # float32 [S, T], targets by the values of the policy that acted
    log_probs: Tensor  # float32 [S, T], log μ(a|o) of the policy μ that acted
    rewards: Tensor  # float32 [S, T], as learned from, plus γV(final observation) where truncated
    discounts: Tensor  # float32 [S, T], γ, or 0 where the episode ended
    bootstrap: Tensor  # float32 [S], V of the observation after the last step
    starts: Tensor  # bool [S, T], an episode begins: the state is forgotten before this step
    is_valid: Tensor  # bool [S, T], false where the step only reset (next-step autoreset)
    state: Tensor  # float32 [S, H], of the policy's memory before the first step; H is 0 without memory


Experience = Transitions | Sequences
"""What is learned from."""


class Gradients(NamedTuple):
    """k gradients of the combined loss, each clipped by the worker that computed it."""

    gradient: Tensor  # float32 [k, P], all parameters flattened in order; 0 where frozen or unused
    norm: Tensor  # float32 [k], L2 norm before the worker clipped; finite exactly where the gradient is
    loss_terms: Tensor  # float32 [k, T], the fields of losses.LossTerms in order
    has_gradient: Tensor  # bool [k, n], per parameter: trainable, and the loss depends on it
    worker: Tensor  # int64 [k], rank of the worker that sent it


Payload = Transitions | Sequences | Gradients
"""What a worker sends: experience in data mode, gradients in gradient mode."""


class RolloutStats(NamedTuple):
    """Policy version and env steps of a payload, and the episodes that ended during its collection.

    The stats of k payloads are concatenated field by field, with E places for episodes in total.
    """

    policy_version: Tensor  # int64 [k], the oldest version that chose one of the actions
    env_steps: Tensor  # int64 [k], steps of all sub-environments together
    episode_returns: Tensor  # float32 [E], unclipped; valid where episode_lengths > 0
    episode_lengths: Tensor  # int64 [E], in env steps; 0 marks an empty place
    observation_moments: Tensor  # float32 [k, 2, D], mean and variance by element; D is 0 unless they are normalised
    return_moments: Tensor  # float32 [k, 3], count, mean and variance of running returns; count 0 unless scaled
    collector: Tensor  # int64 [k], number of the collector that sent it, among those of all learners


class Message(NamedTuple):
    """One worker's payload and its stats; the unit of the channel."""

    payload: Payload
    stats: RolloutStats


class Prediction(NamedTuple):
    """Policy and value for B observations."""

    probabilities: Tensor  # float32 [B, A], of each discrete action; A is 0 for other action spaces
    values: Tensor  # float32 [B]
    actions: Tensor  # the likeliest, in the environment's units: [B] for discrete ones, otherwise [B, L]


class Batch(NamedTuple):
    """The input of one update: several messages, concatenated, and how fresh they are."""

    payload: Payload
    stats: RolloutStats
    policy_lag: Tensor  # int64 [k], learner's version minus policy_version, in updates
    queue_fill: Tensor  # float32 [1], share of workers with a message waiting, 0 … 1
    worker_restarts: Tensor  # int64 [1], restarts of failed workers so far


def map_tensors(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to corresponding tensors of equally shaped (nested) named tuples.

    >>> import torch
    >>> prediction = Prediction(torch.ones(1, 2), torch.zeros(1), torch.tensor([1]))
    >>> map_tensors(lambda a, b: torch.cat((a, b)), prediction, prediction).actions
    tensor([1, 1])
    """
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    return type(first)(*(map_tensors(function, *parts) for parts in zip(*trees, strict=True)))
