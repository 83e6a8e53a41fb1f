"""What travels between the rooms: named tuples of tensors, shapes beside the fields.

This module knows nothing of environments, networks, processes or Lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Transitions(NamedTuple):
    """What the loss needs: B decisions and how each turned out."""

    observations: Tensor  # uint8 or float32 [B, *observation_shape]
    actions: Tensor  # int64 [B]
    returns: Tensor  # float32 [B], n-step targets R_t


class Gradients(NamedTuple):
    """k worker gradients of the combined loss, each already clipped by its worker."""

    gradient: Tensor  # float32 [k, P], all parameters flattened in order, 0 for those frozen or unused
    norm: Tensor  # float32 [k], L2 norm before the worker's clip; finite just where the gradient is
    loss_terms: Tensor  # float32 [k, T], the fields of losses.LossTerms in order
    used: Tensor  # bool [k, n], which of the n parameters were trained and does the loss depend on
    worker: Tensor  # int64 [k], rank of the worker that sent it


Payload = Transitions | Gradients
"""What a worker makes of its experience: data mode sends the first, gradient mode the second."""


class Report(NamedTuple):
    """What collecting one payload cost and which episodes ended meanwhile.

    Reports of several payloads are concatenated field by field (k payloads, E episode places).
    """

    policy_version: Tensor  # int64 [k], the oldest policy that chose any of the actions
    env_steps: Tensor  # int64 [k], environment steps taken, all sub-environments together
    episode_returns: Tensor  # float32 [E], unclipped; meaningful where episode_lengths > 0
    episode_lengths: Tensor  # int64 [E], in env steps; 0 marks an unused place


class Message(NamedTuple):
    """One worker's payload with its report; the unit of the channel."""

    payload: Payload
    report: Report


class Prediction(NamedTuple):
    """What the agent makes of B observations."""

    probabilities: Tensor  # float32 [B, A], of each action
    values: Tensor  # float32 [B]


class Batch(NamedTuple):
    """What one update learns from: several messages concatenated, and how fresh they are."""

    payload: Payload
    report: Report
    policy_lag: Tensor  # int64 [k], learner version minus policy_version, in updates
    queue_fill: Tensor  # float32 [1], share of the workers that had a message waiting, 0 … 1
    worker_restarts: Tensor  # int64 [1], times that a failed worker was started again so far


def map_tensors(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to corresponding tensors of equally shaped (nested) named tuples.

    >>> import torch
    >>> report = Report(*(torch.tensor([value]) for value in (3, 32, 1.0, 10)))
    >>> map_tensors(lambda a, b: torch.cat((a, b)), report, report).env_steps
    tensor([32, 32])
    """
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    return type(first)(*(map_tensors(function, *parts) for parts in zip(*trees, strict=True)))
