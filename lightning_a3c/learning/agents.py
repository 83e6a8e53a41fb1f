"""Building the agent's network for a task: the user's network, and around it what the task and the options need."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_a3c.learning.tasks import TaskDict, observation_bounds, with_bounds_of
from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec, action_spec, is_continuous
from lightning_a3c.rl.action_spec_checks import own_action_spec
from lightning_a3c.rl.agent_network import AgentNetwork, ObservationPart
from lightning_a3c.rl.memory import is_recurrent
from lightning_a3c.rl.network_checks import check_network
from lightning_a3c.rl.networks import MLP, AtariA2C, Bounds, build_network


class AgentOptions(NamedTuple):
    """See the arguments of `A3CModule` that begin alike."""

    normalize_observations: bool = False
    normalize_rewards: bool = False
    squash_actions: bool = False
    has_std_head: bool = False
    initial_log_std: float = -0.5
    action_spec: dict[str, Any] | None = None
    bound_means: bool = False


def build_agent(
    observation_shape: Sequence[int], num_actions: int, task: TaskDict | None, network: Any, options: AgentOptions
) -> nn.Module:
    """The network for a task, checked to fit it; an `AgentNetwork` only where one is needed.

    Raises:
        ValueError: the network or an option does not fit the spaces.
    """
    task = task or {}
    spec = _spec(num_actions, task, options)
    inputs = _inner_inputs(observation_shape, task)
    size = 0
    if options.normalize_observations:
        size = _float_size(inputs)
        if not size:
            raise ValueError("normalize_observations needs float observations, and this environment has none")
        inputs = inputs._replace(bounds=(-math.inf, math.inf))
    net = build_network(inputs.shape, spec.num_outputs, network, inputs.dtype, inputs.bounds)
    parts = _parts(task)
    is_plain = spec == DiscreteSpec(num_actions) and not parts and not size and not options.normalize_rewards
    if is_plain and not is_recurrent(net):
        return net
    return AgentNetwork(net, spec, parts or None, task.get("mask_part"), size, options.normalize_rewards)


def check_agent(net: nn.Module, observation_shape: Sequence[int], num_actions: int, task: TaskDict | None) -> None:
    """Check that `net`, which may have been replaced or changed, still fits the task.

    Raises:
        ValueError: it does not; see `check_network`.
    """
    inputs = _inner_inputs(observation_shape, task or {})
    inner, outputs = net, num_actions
    if isinstance(net, AgentNetwork):
        inner, outputs = net.net, net.action_spec.num_outputs
    check_network(inner, inputs.shape, outputs, inputs.dtype, inputs.bounds)


def inner_net(net: nn.Module) -> nn.Module:
    """The network itself, without what `AgentNetwork` may put around it."""
    return net.net if isinstance(net, AgentNetwork) else net


def chooses_bounds(net: nn.Module, hparams: Mapping[str, Any]) -> bool:
    """Whether this package, not the user, decides how the network scales observations."""
    if not isinstance(inner_net(net), AtariA2C | MLP) or "network" not in hparams:  # the user's own module
        return False
    init_args = (hparams["network"] or {}).get("init_args") or {}
    return init_args.get("observation_bounds") is None


def set_bounds(net: nn.Module, hparams: MutableMapping[str, Any], task: TaskDict | None) -> None:
    """Scale observations as an agent for `task` does, and keep that in `hparams` for checkpoints."""
    if hparams["task"] is not None:
        hparams["task"] = with_bounds_of(hparams["task"], task)
    if chooses_bounds(net, hparams):
        inner = inner_net(net)
        assert isinstance(inner, AtariA2C | MLP)
        inner.set_bounds(_inner_bounds(net, task))


def _inner_bounds(net: nn.Module, task: TaskDict | None) -> Bounds | None:
    """The bounds of what reaches the inner network."""
    if not isinstance(net, AgentNetwork):
        return observation_bounds(task)
    if net.observation_moments is not None:
        return (-math.inf, math.inf)
    return None if net.parts is not None else observation_bounds(task)


def _spec(num_actions: int, task: TaskDict, options: AgentOptions) -> ActionSpec:
    family = task.get("action_family") or {"family": "discrete", "n": num_actions}
    if options.squash_actions and options.bound_means:
        raise ValueError("squash_actions needs means that are not bounded; set squash_actions or bound_means, not both")
    if options.action_spec is None:
        spec = action_spec(_with_options(family, options))
        if not is_continuous(spec):
            _refuse_options_for_numbers(options, "on actions without real numbers; remove it")
        return spec
    _refuse_options_for_numbers(options, "beside action_spec; remove it, or make it one of its init_args")
    usual = action_spec(family)
    own = own_action_spec(options.action_spec, usual)
    if task.get("mask_part") is not None and own.num_outputs != usual.num_outputs:
        raise ValueError(
            f"action_spec {options.action_spec['class_path']} takes {own.num_outputs} numbers, but env.action_mask "
            f"needs a logit for each of {usual.num_outputs} choices"
        )
    return own


def _refuse_options_for_numbers(options: AgentOptions, where: str) -> None:
    defaults = AgentOptions._field_defaults
    for name, argument in (
        ("squash_actions", "squash_actions"),
        ("has_std_head", "log_std"),
        ("initial_log_std", "initial_log_std"),
        ("bound_means", "bound_means"),
    ):
        if getattr(options, name) != defaults[name]:
            raise ValueError(f"{argument} has no effect {where}")


def _with_options(family: dict[str, Any], options: AgentOptions) -> dict[str, Any]:
    if family["family"] == "joint":
        return family | {"parts": [_with_options(part, options) for part in family["parts"]]}
    if family["family"] != "box":
        return family
    return family | {
        "squash": options.squash_actions,
        "has_std_head": options.has_std_head,
        "initial_log_std": options.initial_log_std,
        "bounds_mean": options.bound_means,
    }


class _Inputs(NamedTuple):
    """What reaches the inner network."""

    shape: Any  # of one observation, or by part
    dtype: Any
    bounds: Bounds | None


def _parts(task: TaskDict) -> list[ObservationPart]:
    return [ObservationPart(name, tuple(shape), kind) for name, shape, kind in task.get("observation_parts") or ()]


def _inner_inputs(observation_shape: Sequence[int], task: TaskDict) -> _Inputs:
    inner = [part for part in _parts(task) if part.name != task.get("mask_part")]
    if not inner:
        dtype = getattr(torch, task.get("observation_dtype", "float32"))
        return _Inputs(tuple(observation_shape), dtype, observation_bounds(task or None))
    if [part.name for part in inner] == [""]:  # one array, which travels with its mask
        return _Inputs(inner[0].shape, getattr(torch, inner[0].dtype), None)
    shapes = {part.name: part.shape for part in inner}
    return _Inputs(shapes, {part.name: getattr(torch, part.dtype) for part in inner}, None)


def _float_size(inputs: _Inputs) -> int:
    """Elements of one observation that are floats."""
    if isinstance(inputs.shape, dict):
        return sum(math.prod(shape) for name, shape in inputs.shape.items() if inputs.dtype[name].is_floating_point)
    return math.prod(inputs.shape) if inputs.dtype.is_floating_point else 0
