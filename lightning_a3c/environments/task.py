"""The task that an `EnvConfig` defines, checked and described by trying one environment. Knows no network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import NormalizeReward

from lightning_a3c.environments.atari import (
    AtariConfig,
    beyond_native,
    frame_skip,
    full_action_space,
    is_atari,
    require_playable,
    sticky_actions,
)
from lightning_a3c.environments.checks import (
    BadEnvironment,
    CheckedEnv,
    in_one_line,
    name,
    running_statistics,
)
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.envpool_only import require_kwargs_of_task
from lightning_a3c.environments.envpool_tasks import (
    installed_version,
    is_only_envpools,
    require_playable_by_envpool,
    require_same_spaces,
)
from lightning_a3c.environments.making import (
    BadWrapper,
    clips_rewards,
    copy_containers,
    has_own_wrappers,
    is_native,
    make_vector_env,
)
from lightning_a3c.environments.plain_spaces import plain_space
from lightning_a3c.environments.registry import hint_at_extra, spec_of
from lightning_a3c.environments.spaces import UnsupportedSpace, action_family
from lightning_a3c.environments.vector_entry_point import require_vector_entry_point

NOT_KEPT = "not kept: "  # begins the text that replaces a value which checkpoints cannot hold
_SPACES = ("observation_space", "action_space")
"""Fields of a task that the others describe too, in shorter form; not printed."""
_OUTSIDE_ATARI = {  # what the fields of Atari games are elsewhere
    "frame_skip": 1,
    "sticky_actions": 0.0,
    "episodic_life": False,
    "full_action_space": False,
    "noop_max": 0,
    "fire_on_reset": False,
}
_WIDEST_BOUND = 65_535  # environments write wider bounds for "any value"


@dataclass(frozen=True)
class Task:
    """The environment with all defaults resolved, in plain values; kept in checkpoints and printed at start."""

    env_id: str
    observation_shape: tuple[int, ...]
    observation_dtype: str
    num_actions: int
    frame_skip: int
    sticky_actions: float
    clip_rewards: bool
    episodic_life: bool
    full_action_space: bool
    noop_max: int
    fire_on_reset: bool
    kwargs: dict[str, Any]
    observation_low: float | None = None  # see `observation_bounds`
    observation_high: float | None = None
    action_family: dict[str, Any] | None = None  # as `rl.action_spec.action_spec` takes it; None: num_actions discrete
    action_shape: tuple[int, ...] = ()  # of a Box action
    observation_parts: list[list[Any]] | None = None  # name, shape and dtype of each part of a packed observation
    mask_part: str | None = None  # the part that is the action mask
    left_out: list[str] = field(default_factory=list)  # parts of observations that are no arrays
    wrappers: list[dict[str, Any]] = field(default_factory=list)
    observation_keys: list[str] | None = None
    action_mask: str | None = None
    observation_space: dict[str, Any] | None = None  # of `plain_space`; None: observations are one array, as they are
    action_space: dict[str, Any] | None = None  # of `plain_space`; None: num_actions discrete ones from 0

    def __str__(self) -> str:
        return in_words({f.name: getattr(self, f.name) for f in fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """The fields for a file: lists instead of tuples, and text instead of values that are not plain."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "observation_shape": list(self.observation_shape),
            "action_shape": list(self.action_shape),
            "kwargs": _plain_values(self.kwargs),
            "wrappers": _plain_values(self.wrappers),
        }


def in_words(task: Mapping[str, Any]) -> str:
    """The fields of a task that say something; those of Atari games only where one is played."""
    is_game = any(task.get(name, value) != value for name, value in _OUTSIDE_ATARI.items())
    hidden = {*_SPACES, *(() if is_game else _OUTSIDE_ATARI)}
    return ", ".join(
        f"{name} {value}" for name, value in task.items() if name not in hidden and value not in (None, (), [], {})
    )


def describe_task(config: EnvConfig) -> Task:
    """Check `config` and describe its task: build one environment, try a step and close it.

    Warns of wrappers with running statistics, which environments do not share.

    Raises:
        ValueError: the id is unknown or needs a missing package, one of its spaces cannot be learned, a field is out of
            range, or the first reset or step fails.
    """
    spec = spec_of(config.id)
    _check_fields(config, spec)
    atari = is_atari(spec)
    try:
        env = make_vector_env(config, num_envs=1)
    except (BadWrapper, UnsupportedSpace) as error:
        raise ValueError(f"env.id {config.id!r}: {error}") from error
    except (ImportError, gymnasium.error.Error) as error:  # most often a package is missing
        raise ValueError(f"env.id {config.id!r} cannot be made: {error}{hint_at_extra(str(error))}") from error
    except Exception as error:  # a user's constructor may raise anything
        if isinstance(error, TypeError) and config.kwargs:
            raise ValueError(f"env.kwargs {config.kwargs} does not fit {config.id}: {error}") from error
        raise ValueError(f"env.id {config.id!r} cannot be made: {in_one_line(error)}") from error
    try:
        single = env.envs[0] if isinstance(env, SyncVectorEnv) else None
        checks = single if isinstance(single, CheckedEnv) else None
        action_space = checks.own_action_space if checks else env.single_action_space
        try:
            family = action_family(action_space)
        except ValueError as error:
            raise ValueError(f"env.id {config.id!r}: {error}") from error
        shape = env.single_observation_space.shape
        assert shape is not None
        if isinstance(env, SyncVectorEnv) and checks:  # ALE's own needs no trial, and a reset would load its game again
            _try(env, checks, config.id)
            _warn_of_statistics(env.envs[0], config.id)
        if config.backend == "envpool":
            own_space = checks.unwrapped.observation_space if checks else env.single_observation_space
            require_same_spaces(config, spec, own_space, action_space)
        elif config.backend == "vector":
            own_space = checks.unwrapped.observation_space if checks else env.single_observation_space
            require_vector_entry_point(config, spec, own_space, action_space)
        is_packed = checks is not None and checks.layout.parts is not None
        is_plain = checks is None or (not is_packed and isinstance(checks.layout.space, spaces.Box))
        is_from_zero = isinstance(action_space, spaces.Discrete) and action_space.start == 0
        low, high = (None, None) if is_packed else observation_bounds(env)
        return Task(
            env_id=config.id,
            observation_shape=tuple(shape),
            observation_dtype=observation_dtype(env),
            num_actions=_num_outputs(family),
            frame_skip=frame_skip(spec, config.atari) if atari else 1,
            sticky_actions=sticky_actions(spec, config.atari) if atari else 0.0,
            clip_rewards=clips_rewards(config),
            episodic_life=config.atari.episodic_life,
            full_action_space=full_action_space(spec, config.atari) if atari else False,
            noop_max=config.atari.noop_max if atari else 0,
            fire_on_reset=config.atari.fire_on_reset and atari,
            kwargs=copy_containers(config.kwargs),
            observation_low=low,
            observation_high=high,
            action_family=None if is_from_zero else family,
            action_shape=tuple(action_space.shape) if isinstance(action_space, spaces.Box) else (),
            observation_parts=[[name, list(shape), kind] for name, shape, kind in checks.layout.parts]
            if checks and checks.layout.parts
            else None,
            mask_part=checks.layout.mask if checks else None,
            left_out=checks.layout.left_out if checks else [],
            wrappers=copy_containers(config.wrappers),
            observation_keys=config.observation_keys,
            action_mask=config.action_mask,
            observation_space=plain_space(checks.layout.space) if checks and not is_plain else None,
            action_space=None if is_from_zero else plain_space(action_space),
        )
    finally:
        env.close()


def playing_notes(config: EnvConfig) -> list[str]:
    """Sentences on how `config` is run where that may surprise the user."""
    spec = spec_of(config.id)
    notes = []
    if has_own_wrappers(spec):
        wrappers = ", ".join(wrapper.name for wrapper in spec.additional_wrappers)
        notes.append(
            f"{config.id} is registered with wrappers ({wrappers}), so it is used as gymnasium.make builds it, "
            "without the preprocessing of env.atari"
        )
    if is_atari(spec) and (lacking := beyond_native(spec)):
        notes.append(
            f"{config.id} is registered with {lacking}, which ALE's vector environment does not support: its games "
            "are stepped one by one, with the same preprocessing but slower"
        )
    return notes


def backend_note(config: EnvConfig) -> str | None:
    """A sentence on what steps `config` in training, if validation and test use something else."""
    if config.backend == "envpool":
        stepping = f"EnvPool {installed_version()}"
    elif config.backend == "vector":
        stepping = "the vector environment that its id registers"
    else:
        return None
    other = "ALE" if is_atari(spec_of(config.id)) else "single environments"
    return f"Training steps {config.id} with {stepping}. Validation, test, play and videos use {other}."


def env_config_of(task: dict[str, Any]) -> EnvConfig:
    """The environment of a task, given as the plain values of `Task.to_dict`.

    Raises:
        ValueError: `Task.to_dict` could not keep one of the environment's arguments.
    """
    missing = _first_not_kept(task["kwargs"])
    if missing:
        raise ValueError(
            f"the checkpoint of {task['env_id']} lacks an argument of env.kwargs that no checkpoint can hold, "
            f"{missing}; load the checkpoint in a script that passes the argument again"
        )
    return EnvConfig(
        id=task["env_id"],
        clip_rewards=task["clip_rewards"],
        kwargs=task["kwargs"],
        wrappers=task.get("wrappers") or [],
        observation_keys=task.get("observation_keys"),
        action_mask=task.get("action_mask"),
        atari=AtariConfig(**{f.name: task[f.name] for f in fields(AtariConfig)})
        if is_atari(spec_of(task["env_id"]))
        else AtariConfig(),
    )


def observation_dtype(env: VectorEnv) -> str:
    """Name of the dtype of the network's inputs: the environment's own, but float32 for float64."""
    name = np.dtype(env.single_observation_space.dtype or np.float32).name
    return "float32" if name == "float64" else name


def observation_bounds(env: VectorEnv) -> tuple[float, float] | tuple[None, None]:
    """Lowest and highest value shared by all elements of an observation; None if they share none.

    Elements of uint8 take the bounds of all together. Bounds beyond 65,535 count as none: most environments write them
    for "any value".
    """
    space = env.single_observation_space
    assert isinstance(space, spaces.Box)
    low, high = float(space.low.min()), float(space.high.max())
    are_common = space.dtype == np.uint8 or bool((space.low == low).all() and (space.high == high).all())
    return (low, high) if are_common and max(abs(low), abs(high)) <= _WIDEST_BOUND else (None, None)


def _check_fields(config: EnvConfig, spec: Any) -> None:
    if config.num_envs < 1:
        raise ValueError(f"env.num_envs must be >= 1, got {config.num_envs}")
    if not 1 <= config.num_threads <= config.num_envs:
        raise ValueError(f"env.num_threads must be in 1 … env.num_envs ({config.num_envs}), got {config.num_threads}")
    if is_atari(spec):
        require_playable(spec, config.atari)
        if config.kwargs:
            raise ValueError(f"env.kwargs {config.kwargs} has no effect on Atari ids; use the fields of env.atari")
    elif config.atari != AtariConfig():
        changed = {k: v for k, v in asdict(config.atari).items() if v != getattr(AtariConfig(), k)}
        raise ValueError(f"env.atari {changed} has no effect on {config.id}, which {_why_not_native(spec)}; remove it")
    if is_only_envpools(spec):
        require_kwargs_of_task(config, spec)
    if config.backend == "envpool":
        require_playable_by_envpool(config, spec)
    elif config.backend == "ale" and not is_native(spec, config):
        raise ValueError(
            f"env.backend 'ale' cannot play {config.id}, which {_why_not_native(spec)}; set env.backend to 'auto'"
        )
    elif config.num_threads != 1 and not is_native(spec, config):
        raise ValueError(
            f"env.num_threads {config.num_threads} has no effect on {config.id}, which {_why_not_native(spec)}; "
            "remove it, or set env.backend to 'envpool'"
        )


def _why_not_native(spec: Any) -> str:
    if is_atari(spec) and not beyond_native(spec):
        return "is stepped in Python, as the fields of env say"
    if is_atari(spec):
        return "is registered with arguments that ALE's vector environment does not support"
    return "is registered with wrappers" if has_own_wrappers(spec) else "is not an Atari game"


def _plain_values(value: Any) -> Any:
    """A copy of `value`, with text in place of all but tensors, numbers, strings, lists, tuples and dicts."""
    if type(value) is dict:
        return {_plain_values(key): _plain_values(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain_values, value))
    if value is None or type(value) in (bool, int, float, str) or type(value).__module__ == "torch":
        return value
    return f"{NOT_KEPT}{value!r}"


def _first_not_kept(value: Any) -> str:
    """The first value that `_plain_values` replaced by text, as that text without the mark; empty if there is none."""
    if isinstance(value, str):
        return value.removeprefix(NOT_KEPT) if value.startswith(NOT_KEPT) else ""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, map(_first_not_kept, items)), "")


def _num_outputs(family: dict[str, Any]) -> int:
    """Outputs of a network with one mean per component of a Box: the number of actions where they are discrete."""
    if family["family"] == "joint":
        return sum(map(_num_outputs, family["parts"]))
    return len(family["low"]) if family["family"] == "box" else int(family["n"])


def _try(env: SyncVectorEnv, checks: CheckedEnv, env_id: str) -> None:
    """One reset and one step, as training makes them; raises ValueError if one fails."""
    call = "reset"
    try:
        observations, _ = env.reset(seed=0)
        if getattr(type(checks.unwrapped), "step", None) is gymnasium.Env.step:
            return  # an environment without a step, under construction: its spaces are known
        call = "step"
        action = checks.layout.allowed_action(observations[0], checks.own_action_space)
        env.step(np.asarray(action, dtype=env.action_space.dtype).reshape(env.action_space.shape))
    except BadEnvironment as error:
        message = str(error).removeprefix(f"{name(env_id, 0)}: ")
        raise ValueError(f"env.id {env_id!r}: {message}") from error
    except Exception as error:  # a user's environment may raise anything
        raise ValueError(f"env.id {env_id!r}: {call} raised {in_one_line(error)}") from error


def _warn_of_statistics(env: gymnasium.Env[Any, Any], env_id: str) -> None:
    layers = running_statistics(env)
    if not layers:
        return
    rewards = [type(layer).__name__ for layer in layers if isinstance(layer, NormalizeReward)]
    warnings.warn(
        f"env.id {env_id!r} keeps running statistics in {', '.join(type(layer).__name__ for layer in layers)}: each "
        "environment of each process has its own, and no checkpoint holds them, so validation, test and play scale by "
        "other numbers than training did, and the agent may do far worse there; set model.normalize_observations or "
        "model.normalize_rewards instead, or scale by fixed numbers, for example with "
        "gymnasium.wrappers.TransformObservation"
        + (f"; {', '.join(rewards)} also changes all reported returns" if rewards else ""),
        stacklevel=3,
    )
