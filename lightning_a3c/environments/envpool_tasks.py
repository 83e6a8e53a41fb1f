"""What EnvPool has of Gymnasium's and ALE's environments, and how it is told to play them. Steps nothing.

EnvPool is optional, and importing it takes a second and 60 MiB, so it is imported where it is needed.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lightning_a3c.environments.atari import (
    beyond_native,
    frame_skip,
    full_action_space,
    is_atari,
    last_step,
    sticky_actions,
)
from lightning_a3c.environments.checks import in_one_line
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.spaces import ObservationLayout

STACK = 4
"""Frames of an Atari observation."""
SEEDS = 2**31
"""EnvPool takes smaller seeds."""
ENTRY_POINT = "lightning_a3c.environments.envpool_only:SingleEnvPoolEnv"
"""Of tasks that Gymnasium lacks; see `envpool_only`."""
_NO_LIMIT = 2**31 - 2  # EnvPool adds 1 to it
NOT_KWARGS = {  # what EnvPool takes for a pool, and not for an environment
    "base_path",
    "batch_size",
    "env_seed",
    "gym_reset_return_info",
    "max_episode_steps",
    "max_num_players",
    "num_envs",
    "num_threads",
    "reward_threshold",
    "seed",
    "thread_affinity_offset",
    "xml_file",  # EnvPool looks for it among its own files
}
_REGISTERED_KWARGS: dict[str, dict[str, Any]] = {  # Gymnasium's; EnvPool's ids of the same names play the same
    "BipedalWalkerHardcore-v3": {"hardcore": True},
    "CliffWalkingSlippery-v1": {"is_slippery": True},
    "FrozenLake-v1": {"map_name": "4x4"},
    "FrozenLake8x8-v1": {"map_name": "8x8"},
    "LunarLanderContinuous-v3": {"continuous": True},
}
_SAME = {  # compared with Gymnasium's step by step: they differ in seeds, and by the rounding of float32
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
}
_MINIGRID = "minigrid.envs"  # how entry points of MiniGrid begin
_TEXT = "mission"  # the part of its observations that is a text
_OR_GYMNASIUM = "set env.backend to 'auto' or 'gymnasium'"


def is_installed() -> bool:
    """Whether a release of EnvPool is installed that this package knows. Does not import it."""
    try:
        return (1, 2, 5) <= tuple(map(int, installed_version().split(".")[:3])) < (2,)
    except (PackageNotFoundError, ValueError):
        return False


def installed_version() -> str:
    return version("envpool")


def plays_the_same(config: EnvConfig, spec: Any) -> bool:
    """Whether EnvPool is installed and plays `config` as Gymnasium does but for seeds and rounding.

    Does not import EnvPool.
    """
    if spec.additional_wrappers or config.wrappers or config.observation_keys or config.action_mask:
        return False
    if is_only_envpools(spec):
        return True
    return (
        spec.id in _SAME
        and str(spec.entry_point).startswith("gymnasium.envs.classic_control")
        and not spec.kwargs
        and config.kwargs.keys() <= {"max_episode_steps"}
        and is_installed()
    )


def is_only_envpools(spec: Any) -> bool:
    """Whether Gymnasium lacks the task and `envpool_only` has registered it."""
    return bool(spec.entry_point == ENTRY_POINT)


def require_playable_by_envpool(config: EnvConfig, spec: Any) -> None:
    """Raise ValueError, with the way out, if EnvPool cannot play `config` as Gymnasium or ALE does.

    Args:
        config: the environment.
        spec: Gymnasium's spec of its id.
    """
    if not is_installed():
        raise ValueError("env.backend 'envpool' needs EnvPool: pip install 'lightning-a3c[envpool]'")
    for field in ("wrappers", "observation_keys", "action_mask"):
        if value := getattr(config, field):
            raise ValueError(f"env.{field} {value} needs environments in Python, EnvPool's are not; {_OR_GYMNASIUM}")
    task_id = envpool_id(spec)
    if task_id not in ids():
        both = [env_id for env_id in ids() if env_id in gymnasium.registry]
        near = difflib.get_close_matches(task_id, both, n=3, cutoff=0.7)
        hint = f"it has {' and '.join(near)}; " if near else ""
        raise ValueError(f"env.id {config.id!r} is not among EnvPool's environments; {hint}{_OR_GYMNASIUM}")
    if is_only_envpools(spec):
        return
    if is_atari(spec):
        if lacking := beyond_native(spec):
            raise ValueError(f"env.id {config.id!r} is registered with {lacking}, EnvPool lacks that; {_OR_GYMNASIUM}")
        if config.atari.noop_max < 1:
            raise ValueError(f"env.atari.noop_max must be >= 1 with EnvPool, got {config.atari.noop_max}")
        return
    if not str(spec.entry_point).startswith(("gymnasium.envs.", _MINIGRID)) or spec.additional_wrappers:
        raise ValueError(
            f"env.id {config.id!r} is registered as {spec.entry_point} with {len(spec.additional_wrappers)} wrappers, "
            f"but EnvPool has the original {task_id}; {_OR_GYMNASIUM}"
        )
    fields = make_spec(task_id).config._asdict()
    theirs = (
        {key: fields.get(key) for key in spec.kwargs} if _is_minigrid(spec) else _REGISTERED_KWARGS.get(task_id, {})
    )
    if spec.kwargs != theirs:
        raise ValueError(f"env.id {config.id!r} is registered with {spec.kwargs}, EnvPool lacks that; {_OR_GYMNASIUM}")
    taken = set() if _is_minigrid(spec) else fields.keys() - NOT_KWARGS  # MiniGrid derives more from its kwargs
    require_taken(config, task_id, taken, f"; {_OR_GYMNASIUM}")
    make_spec(task_id, **_own_kwargs(config))


def require_taken(config: EnvConfig, task_id: str, taken: Collection[str], way_out: str = "") -> None:
    """Raise ValueError, with `way_out` at its end, if `config.kwargs` has what is not `taken`."""
    for key in sorted(_own_kwargs(config).keys() - taken):
        raise ValueError(
            f"env.kwargs has {key!r}, which EnvPool's {task_id} does not take; it takes "
            f"{', '.join(['max_episode_steps', *sorted(taken)])}{way_out}"
        )


def require_same_spaces(config: EnvConfig, spec: Any, observation_space: Any, action_space: Any) -> None:
    """Raise ValueError unless EnvPool's observations and actions have the shapes and dtypes of Gymnasium's.

    Its bounds of observations may differ, which say little; and its floats, which become float32.
    """
    own_observations, own_actions = spaces_of(envpool_id(spec), arguments_of(config, spec))
    for field, theirs, ours in (
        ("observations", own_observations, observation_space),
        ("actions", own_actions, action_space),
    ):
        if _form(theirs, field) != _form(ours, field):
            raise ValueError(
                f"env.id {config.id!r} has the {field} {theirs} in EnvPool and {ours} in Gymnasium, so it cannot be "
                f"trained in one and tested in the other; {_OR_GYMNASIUM}"
            )


def import_envpool() -> Any:
    """The module; raises ValueError if it cannot be imported."""
    try:
        import envpool
    except Exception as error:  # a library that it needs may be missing
        raise ValueError(
            f"EnvPool {installed_version()} is installed but cannot be imported ({in_one_line(error)}); set "
            "env.backend to 'gymnasium'"
        ) from error
    return envpool


def _is_minigrid(spec: Any) -> bool:
    return str(spec.entry_point).startswith(_MINIGRID)


@cache
def ids() -> frozenset[str]:
    """Everything that EnvPool has."""
    return frozenset(import_envpool().list_all_envs())


def envpool_id(spec: Any) -> str:
    """EnvPool's id of an environment."""
    if is_atari(spec):
        return "".join(map(str.capitalize, spec.kwargs["game"].split("_"))) + "-v5"
    return str(spec.id)


def make_spec(task_id: str, **arguments: Any) -> Any:
    """EnvPool's own spec; raises ValueError if it refuses the arguments."""
    own = import_envpool()
    try:
        return own.make_spec(task_id, **arguments)
    except Exception as error:  # pybind11 and EnvPool raise several kinds
        reason = in_one_line(error).partition(" The following argument types")[0]  # pybind11 goes on for a page
        raise ValueError(f"EnvPool's {task_id} cannot be made with {arguments}: {reason}") from error


def spaces_of(task_id: str, arguments: dict[str, Any]) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """EnvPool's spaces of observations and actions."""
    own = make_spec(task_id, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns of float64 bounds
        observations, actions = own.gymnasium_observation_space, own.gymnasium_action_space
    if isinstance(observations, spaces.Dict):  # texts come as bytes, which Gymnasium's environments do not have
        kept = {name: part for name, part in observations.items() if name != _TEXT}
        observations = spaces.Dict(kept)
    return observations, actions


def _own_kwargs(config: EnvConfig) -> dict[str, Any]:
    return {key: value for key, value in config.kwargs.items() if key != "max_episode_steps"}


def step_limit_of(config: EnvConfig, spec: Any) -> int:
    """Env steps until truncation, as Gymnasium or ALE would truncate."""
    if is_atari(spec):
        limit = last_step(spec, config.atari)
    else:
        limit = config.kwargs.get("max_episode_steps") or spec.max_episode_steps
    if _is_minigrid(spec):  # it ends episodes by itself, earlier or later than a limit around it
        own = int(make_spec(str(spec.id)).config.max_episode_steps)
        return own if limit is None or limit < 1 else min(own, int(limit))
    return _NO_LIMIT if limit is None or limit < 1 else int(limit)  # Gymnasium takes -1 for no limit


def arguments_of(config: EnvConfig, spec: Any) -> dict[str, Any]:
    """What EnvPool's constructor is given, apart from seeds and numbers of environments and threads."""
    if _is_minigrid(spec):
        return {}  # its rewards depend on its own limit of steps
    if is_only_envpools(spec):  # Procgen ends episodes at EnvPool's limit by itself, and only EnvPool can tell why
        arguments = {key: value for key, value in spec.kwargs.items() if key != "task_id"} | config.kwargs
        if arguments.get("max_episode_steps") in (None, -1):  # to Gymnasium: no limit but the environment's own
            arguments.pop("max_episode_steps", None)
        return arguments
    arguments = _own_kwargs(config) | {"max_episode_steps": min(step_limit_of(config, spec) + 1, _NO_LIMIT)}
    if not is_atari(spec):
        return arguments
    return arguments | {
        "stack_num": STACK,
        "frame_skip": frame_skip(spec, config.atari),
        "noop_max": config.atari.noop_max,
        "use_fire_reset": config.atari.fire_on_reset,
        "repeat_action_probability": sticky_actions(spec, config.atari),
        "full_action_space": full_action_space(spec, config.atari),
        "episodic_life": False,  # `LifeLoss` tells of lost lives, and the game goes on
        "reward_clip": False,
    }


def _form(space: Any, field: str) -> tuple[Any, ...]:
    """What must agree between two spaces, in plain values."""
    if isinstance(space, spaces.Discrete):
        return "Discrete", int(space.n), int(space.start)
    if isinstance(space, spaces.Dict):
        return "Dict", *((name, _form(leaf, field)) for name, leaf in ObservationLayout(space).arrays)
    if not isinstance(space, spaces.Box):
        return type(space).__name__, repr(space)
    kind = "float" if np.issubdtype(space.dtype, np.floating) else np.dtype(space.dtype).name
    bounds = (space.low.tolist(), space.high.tolist()) if field == "actions" else ()
    return "Box", space.shape, kind, bounds
