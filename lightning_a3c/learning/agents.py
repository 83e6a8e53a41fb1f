"""Building the agent's network for a task: the user's network, and around it what the task and the options need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_a3c.learning.task_following import TaskDict, observation_bounds
from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec, action_spec
from lightning_a3c.rl.agent_network import AgentNetwork, ObservationPart
from lightning_a3c.rl.networks import Bounds, build_network


class AgentOptions(NamedTuple):
    """See the arguments of `A3CModule` that begin alike."""

    normalize_observations: bool = False
    normalize_rewards: bool = False
    squash_actions: bool = False
    has_std_head: bool = False
    initial_log_std: float = -0.5


def build_agent(
    observation_shape: Sequence[int], num_actions: int, task: TaskDict | None, network: Any, options: AgentOptions
) -> nn.Module:
    """The network for a task, checked to fit it; an `AgentNetwork` only where one is needed.

    Raises:
        ValueError: the network or an option does not fit the spaces.
    """
    task = task or {}
    spec = _spec(num_actions, task, options)
    dtype: torch.dtype = getattr(torch, task.get("observation_dtype", "float32"))
    parts = [ObservationPart(name, tuple(shape), kind) for name, shape, kind in task.get("observation_parts") or ()]
    inner = [part for part in parts if part.name != task.get("mask_part")]
    shapes: Any = tuple(observation_shape)
    dtypes: Any = dtype
    bounds = observation_bounds(task or None)
    if parts:
        is_one_array = [part.name for part in inner] == [""]
        shapes = inner[0].shape if is_one_array else {part.name: part.shape for part in inner}
        kinds = {part.name: getattr(torch, part.dtype) for part in inner}
        dtypes, bounds = (kinds[""] if is_one_array else kinds), None
    size = 0
    if options.normalize_observations:
        floats = [part for part in inner if part.dtype == "float32"]
        size = sum(math.prod(part.shape) for part in floats) if parts else _float_size(observation_shape, dtype)
        if not size:
            raise ValueError("normalize_observations needs float observations, and this environment has none")
        bounds = (-math.inf, math.inf)
    net = build_network(shapes, spec.num_outputs, network, dtypes, bounds)
    if spec == DiscreteSpec(num_actions) and not parts and not size and not options.normalize_rewards:
        return net
    return AgentNetwork(net, spec, parts or None, task.get("mask_part"), size, options.normalize_rewards)


def inner_bounds(net: nn.Module, task: TaskDict | None) -> Bounds | None:
    """The bounds of what reaches the inner network."""
    if not isinstance(net, AgentNetwork):
        return observation_bounds(task)
    if net.observation_moments is not None:
        return (-math.inf, math.inf)
    return None if net.parts is not None else observation_bounds(task)


def _spec(num_actions: int, task: TaskDict, options: AgentOptions) -> ActionSpec:
    family = task.get("action_family")
    return DiscreteSpec(num_actions) if family is None else action_spec(_with_options(family, options))


def _with_options(family: dict[str, Any], options: AgentOptions) -> dict[str, Any]:
    if family["family"] == "joint":
        return family | {"parts": [_with_options(part, options) for part in family["parts"]]}
    if family["family"] != "box":
        return family
    return family | {
        "squash": options.squash_actions,
        "has_std_head": options.has_std_head,
        "initial_log_std": options.initial_log_std,
    }


def _float_size(shape: Sequence[int], dtype: torch.dtype) -> int:
    return math.prod(shape) if dtype.is_floating_point else 0
