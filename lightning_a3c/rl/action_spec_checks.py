"""Distributions that a user names by class path: built like the one they replace, and tried before anything starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_a3c.rl.action_spec import ActionSpec, BinarySpec, BoxSpec, DiscreteSpec, JointSpec
from lightning_a3c.rl.networks import instantiate

_ROWS = 5
_METHODS = ("num_parameters", "num_outputs", "sample", "mode", "log_prob_and_entropy", "to_env")


def own_action_spec(named: dict[str, Any], replaced: ActionSpec) -> ActionSpec:
    """Build the spec that `{"class_path": …, "init_args": {…}}` names, and check it; see `ActionSpec`.

    Args:
        named: class and further arguments.
        replaced: the spec that the actions have without it; its fields are the first arguments.

    Raises:
        ValueError: the class cannot be imported or built, or what it makes is no distribution over these actions.
    """
    name, arguments = str(named["class_path"]), _first_arguments(replaced)
    try:
        spec: ActionSpec = instantiate(named, *arguments)
    except ValueError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            raise ValueError(f"action_spec {name!r} cannot be imported: {error.__cause__}") from error
        raise ValueError(f"action_spec: {error}") from error
    if missing := [method for method in _METHODS if not hasattr(type(spec), method)]:
        raise ValueError(f"action_spec {name} has no {', '.join(missing)}; derive it from lightning_a3c.ActionSpec")
    try:
        with torch.random.fork_rng(devices=[]):
            _check(spec, replaced)
    except _Wrong as error:
        raise ValueError(f"action_spec {name}: {error}") from error
    except Exception as error:  # whatever a user's class raises
        raise ValueError(
            f"action_spec {name}, made with {arguments} for these actions, raised {type(error).__name__} when tried: "
            f"{error}"
        ) from error
    return spec


class _Wrong(ValueError):
    """What is wrong with a spec."""


def _first_arguments(spec: ActionSpec) -> tuple[Any, ...]:
    if isinstance(spec, BoxSpec):
        return spec.low, spec.high
    if isinstance(spec, DiscreteSpec):
        return spec.n, spec.start
    if isinstance(spec, BinarySpec):
        return (spec.n,)
    assert isinstance(spec, JointSpec)
    return (spec.parts,)


def _check(spec: ActionSpec, replaced: ActionSpec) -> None:
    for name in ("num_parameters", "num_outputs"):
        number: object = getattr(spec, name)
        if type(number) is not int or number < 1:
            raise _Wrong(f"{name} must be a whole number >= 1, got {number!r}")
    size = spec.num_parameters
    if spec.num_outputs != size and not isinstance(spec, BoxSpec | JointSpec):  # which get log-stds
        raise _Wrong(f"num_outputs must be num_parameters ({size}), got {spec.num_outputs}")
    drawn = torch.randn(_ROWS - 1, size, generator=torch.Generator().manual_seed(0))
    parameters = torch.cat((torch.zeros(1, size), drawn)).requires_grad_()
    with torch.no_grad():
        first, second = (spec.sample(parameters, torch.Generator().manual_seed(1)) for _ in range(2))
        mode = spec.mode(parameters)
    for name, actions in (("sample", first), ("mode", mode)):
        _check_stored(name, actions, first)
        if name == "sample" and not torch.equal(first, second):
            raise _Wrong(
                "sample does not draw with the generator it gets: the same seed gave different actions, and "
                "synchronous runs would not be reproducible; draw within lightning_a3c.seeded_by(generator)"
            )
        _check_in_environment(spec.to_env(actions), replaced)
    _check_scores(spec, parameters, first)


def _check_stored(name: str, actions: Any, like: Tensor) -> None:
    kinds = {torch.int64: (1, 2), torch.float32: (2,)}
    if not isinstance(actions, Tensor) or actions.ndim not in kinds.get(actions.dtype, ()) or len(actions) != _ROWS:
        raise _Wrong(f"{name} must give actions int64 [B], int64 [B, L] or float32 [B, L], got {_kind(actions)}")
    if actions.shape != like.shape or actions.dtype != like.dtype:
        raise _Wrong(f"{name} gives {_kind(actions)}, but sample gives {_kind(like)}")


def _check_in_environment(actions: Any, replaced: ActionSpec) -> None:
    theirs = replaced.to_env(replaced.mode(torch.zeros(_ROWS, replaced.num_parameters)))
    is_tensor = isinstance(actions, Tensor)
    if not is_tensor or actions.shape != theirs.shape or actions.is_floating_point() != theirs.is_floating_point():
        raise _Wrong(f"to_env must give {_kind(theirs)}, got {_kind(actions)}")
    if (outside := _first_outside(replaced, actions)) is not None:
        raise _Wrong(f"to_env gives {outside.tolist()}, which is no action of the environment")


def _first_outside(replaced: ActionSpec, actions: Tensor) -> Tensor | None:
    """The first action in the environment's units that is out of range."""
    if isinstance(replaced, JointSpec):
        parts = zip(replaced.parts, replaced.split_actions(actions), strict=True)
        return next((found for part, piece in parts if (found := _first_outside(part, piece)) is not None), None)
    if isinstance(replaced, BoxSpec):
        low, high = torch.tensor(replaced.low), torch.tensor(replaced.high)
        is_within = ((actions >= low) & (actions <= high) & actions.isfinite()).all(dim=1)
    elif isinstance(replaced, DiscreteSpec):
        is_within = (actions >= replaced.start) & (actions < replaced.start + replaced.n)
    else:
        is_within = ((actions == 0) | (actions == 1)).all(dim=1)
    return None if is_within.all() else actions[~is_within][0]


def _check_scores(spec: ActionSpec, parameters: Tensor, actions: Tensor) -> None:
    scores: Any = spec.log_prob_and_entropy(parameters, actions)
    if not isinstance(scores, tuple) or len(scores) != 2:
        raise _Wrong("log_prob_and_entropy must give two tensors")
    for name, score in zip(("log-probability", "entropy"), scores, strict=True):
        if not isinstance(score, Tensor) or score.shape != (_ROWS,) or not score.is_floating_point():
            raise _Wrong(f"the {name} must be float32 [B], got {_kind(score)}")
        if not score.isfinite().all():
            raise _Wrong(f"the {name} of sampled actions is not finite: {score.tolist()}")
    if not scores[0].requires_grad:
        raise _Wrong("the log-probability does not depend on the parameters, so nothing can be learned")
    (gradient,) = torch.autograd.grad(sum(score.sum() for score in scores), parameters)
    if not gradient.isfinite().all():
        raise _Wrong("the gradient of log-probability and entropy is not finite")


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = ", ".join(map(str, ("B", *value.shape[1:]))) if len(value.shape) and len(value) == _ROWS else value.shape
    return f"{str(value.dtype).removeprefix('torch.')} [{shape}]"
