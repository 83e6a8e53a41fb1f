"""EnvPool's vector environments, made to look like Gymnasium's. Knows no wrappers, no rendering and no torch.

EnvPool is optional, and importing it takes a second and 60 MiB, so it is imported where it is needed.
"""

from __future__ import annotations

import difflib
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lightning_a3c.environments.atari import (
    beyond_native,
    frame_skip,
    full_action_space,
    is_atari,
    last_step,
    sticky_actions,
)
from lightning_a3c.environments.checks import BadEnvironment, in_one_line, name
from lightning_a3c.environments.config import EnvConfig

_STACK = 4  # frames of an Atari observation
_NO_LIMIT = 2**31 - 2  # EnvPool adds 1 to it
_SEEDS = 2**31  # EnvPool takes smaller ones
_NOT_KWARGS = {  # what EnvPool takes for a pool, and not for an environment
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
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
}
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
    return (
        spec.id in _SAME
        and str(spec.entry_point).startswith("gymnasium.envs.classic_control")
        and not spec.kwargs
        and not spec.additional_wrappers
        and not (config.wrappers or config.observation_keys or config.action_mask)
        and config.kwargs.keys() <= {"max_episode_steps"}
        and is_installed()
    )


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
    task_id = _task_id(spec)
    if task_id not in _ids():
        both = [env_id for env_id in _ids() if env_id in gymnasium.registry]
        near = difflib.get_close_matches(task_id, both, n=3, cutoff=0.7)
        hint = f"it has {' and '.join(near)}; " if near else ""
        raise ValueError(f"env.id {config.id!r} is not among EnvPool's environments; {hint}{_OR_GYMNASIUM}")
    if is_atari(spec):
        if lacking := beyond_native(spec):
            raise ValueError(f"env.id {config.id!r} is registered with {lacking}, EnvPool lacks that; {_OR_GYMNASIUM}")
        if config.atari.noop_max < 1:
            raise ValueError(f"env.atari.noop_max must be >= 1 with EnvPool, got {config.atari.noop_max}")
        return
    if not str(spec.entry_point).startswith("gymnasium.envs.") or spec.additional_wrappers:
        raise ValueError(
            f"env.id {config.id!r} is registered as {spec.entry_point} with {len(spec.additional_wrappers)} wrappers, "
            f"but EnvPool has Gymnasium's own {task_id}; {_OR_GYMNASIUM}"
        )
    if spec.kwargs != _REGISTERED_KWARGS.get(task_id, {}):
        raise ValueError(f"env.id {config.id!r} is registered with {spec.kwargs}, EnvPool lacks that; {_OR_GYMNASIUM}")
    taken = sorted(set(_make_spec(task_id).config._fields) - _NOT_KWARGS)
    for key in sorted(_own_kwargs(config).keys() - taken):
        raise ValueError(
            f"env.kwargs has {key!r}, which EnvPool's {task_id} does not take; it takes "
            f"{', '.join(['max_episode_steps', *taken])}; {_OR_GYMNASIUM}"
        )
    _make_spec(task_id, **_own_kwargs(config))


def require_same_spaces(config: EnvConfig, spec: Any, observation_space: Any, action_space: Any) -> None:
    """Raise ValueError unless EnvPool's observations and actions have the shapes and dtypes of Gymnasium's.

    Its bounds of observations may differ, which say little; and its floats, which become float32.
    """
    own_observations, own_actions = _spaces(_task_id(spec), _arguments(config, spec))
    for field, theirs, ours in (
        ("observations", own_observations, observation_space),
        ("actions", own_actions, action_space),
    ):
        if _form(theirs, field) != _form(ours, field):
            raise ValueError(
                f"env.id {config.id!r} has the {field} {theirs} in EnvPool and {ours} in Gymnasium, so it cannot be "
                f"trained in one and tested in the other; {_OR_GYMNASIUM}"
            )


class EnvPoolEnv(VectorEnv):
    """An EnvPool that resets in the same step, takes seeds on reset, and truncates as Gymnasium does.

    EnvPool itself would reset in the next step, fix its seeds when it is made, and report an episode that terminates
    in its last allowed step as truncated. So `reset(seed=...)` makes a new pool, and this class counts steps: EnvPool's
    own limit lies beyond. Observations of Atari games begin with black frames, as ALE's do.

    Args:
        config: the environment; `require_playable_by_envpool` has passed it.
        spec: Gymnasium's spec of its id.
        num_envs: sub-environments.

    Raises:
        BadEnvironment: an observation or reward is not finite.
    """

    def __init__(self, config: EnvConfig, spec: Any, num_envs: int) -> None:
        self._arguments = _arguments(config, spec)
        observation_space, action_space = _spaces(_task_id(spec), self._arguments)
        self.num_envs = num_envs
        self.spec = spec
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_action_space = action_space
        self.action_space = batch_space(action_space, num_envs)
        self._choices = int(observation_space.n) if isinstance(observation_space, spaces.Discrete) else 0
        flat = spaces.flatten_space(observation_space) if self._choices else observation_space
        self.single_observation_space = flat
        self.observation_space = batch_space(flat, num_envs)
        self._env_id = config.id
        self._task_id = _task_id(spec)
        self._is_atari = is_atari(spec)
        self._limit = _limit(config, spec)
        self._threads = min(config.num_threads, num_envs)
        self._steps = np.zeros(num_envs, dtype=np.int64)  # of the current episodes
        self._pool: Any = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes everywhere; a seed, or none at the first call, makes a new pool.

        Raises:
            ValueError: `options`, which EnvPool does not have.
        """
        if options:
            raise ValueError(f"EnvPool takes no options on reset, got {options}")
        if seed is not None or self._pool is None:
            self._make_pool(np.random.SeedSequence().generate_state(1)[0] if seed is None else seed)
        self._steps[:] = 0
        observations, info = self._pool.reset()
        return self._checked(self._as_gymnasium(observations, self._steps)), self._kept(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        shape = self.single_action_space.shape or ()
        observations, rewards, terminated, _, info = self._pool.step(np.asarray(actions).reshape(-1, *shape))
        self._steps += 1
        truncated = self._steps >= self._limit
        observations, info = self._as_gymnasium(observations, self._steps), self._kept(info)
        ended = terminated | truncated
        if ended.any():
            which = np.flatnonzero(ended).astype(np.int32)
            self._steps[which] = 0
            begun, begun_info = self._pool.reset(which)
            info["final_obs"] = self._checked(observations)
            observations = observations.copy()
            observations[which] = self._as_gymnasium(begun, self._steps[which])
            for key, values in self._kept(begun_info).items():
                info[key] = info[key].copy()
                info[key][which] = values
        if not np.isfinite(rewards).all():
            raise BadEnvironment(f"{name(self._env_id)}: step returned a reward that is NaN or infinite")
        return self._checked(observations), rewards, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        self._pool = None  # its threads end with it

    def _make_pool(self, seed: Any) -> None:
        self._pool = None
        seeds = (int(seed) + np.arange(self.num_envs)) if np.ndim(seed) == 0 else np.asarray(seed)
        self._pool = _envpool().make_gymnasium(
            self._task_id,
            num_envs=self.num_envs,
            num_threads=self._threads,
            seed=[int(number) for number in seeds % _SEEDS],
            **self._arguments,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ = self._pool.observation_space  # made now and kept; Gymnasium warns of float64 bounds

    def _as_gymnasium(self, observations: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """`observations`, made `steps` after their episodes began, as Gymnasium's or ALE's environment gives them."""
        if self._choices:
            rows: np.ndarray = np.eye(self._choices, dtype=self.single_observation_space.dtype)[
                observations.reshape(-1)
            ]
            return rows
        if self._is_atari and (steps < _STACK - 1).any():  # EnvPool repeats the first frame
            observations = observations.copy()
            for index in np.flatnonzero(steps < _STACK - 1):
                observations[index, : _STACK - 1 - steps[index]] = 0
        return observations

    def _checked(self, observations: np.ndarray) -> np.ndarray:
        if observations.dtype.kind == "f" and not np.isfinite(observations).all():
            raise BadEnvironment(f"{name(self._env_id)}: an observation has NaN or infinite numbers")
        return observations

    def _kept(self, info: dict[str, Any]) -> dict[str, Any]:
        return {"lives": info["lives"]} if self._is_atari else {}


def _envpool() -> Any:
    try:
        import envpool
    except Exception as error:  # a library that it needs may be missing
        raise ValueError(
            f"EnvPool {installed_version()} is installed but cannot be imported ({in_one_line(error)}); set "
            "env.backend to 'gymnasium'"
        ) from error
    return envpool


@cache
def _ids() -> frozenset[str]:
    return frozenset(_envpool().list_all_envs())


def _task_id(spec: Any) -> str:
    """EnvPool's id of an environment."""
    if is_atari(spec):
        return "".join(map(str.capitalize, spec.kwargs["game"].split("_"))) + "-v5"
    return str(spec.id)


def _make_spec(task_id: str, **arguments: Any) -> Any:
    """EnvPool's own spec; raises ValueError if it refuses the arguments."""
    own = _envpool()
    try:
        return own.make_spec(task_id, **arguments)
    except Exception as error:  # pybind11 and EnvPool raise several kinds
        reason = in_one_line(error).partition(" The following argument types")[0]  # pybind11 goes on for a page
        raise ValueError(f"EnvPool's {task_id} cannot be made with {arguments}: {reason}") from error


def _spaces(task_id: str, arguments: dict[str, Any]) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """EnvPool's spaces of observations and actions."""
    own = _make_spec(task_id, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns of float64 bounds
        return own.gymnasium_observation_space, own.gymnasium_action_space


def _own_kwargs(config: EnvConfig) -> dict[str, Any]:
    return {key: value for key, value in config.kwargs.items() if key != "max_episode_steps"}


def _limit(config: EnvConfig, spec: Any) -> int:
    """Env steps until truncation, as Gymnasium or ALE would truncate."""
    if is_atari(spec):
        limit = last_step(spec, config.atari)
    else:
        limit = config.kwargs.get("max_episode_steps") or spec.max_episode_steps
    return _NO_LIMIT if limit is None or limit < 1 else int(limit)  # Gymnasium takes -1 for no limit


def _arguments(config: EnvConfig, spec: Any) -> dict[str, Any]:
    """What EnvPool's constructor is given, apart from seeds and numbers of environments and threads."""
    arguments = _own_kwargs(config) | {"max_episode_steps": min(_limit(config, spec) + 1, _NO_LIMIT)}
    if not is_atari(spec):
        return arguments
    return arguments | {
        "stack_num": _STACK,
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
    if not isinstance(space, spaces.Box):
        return type(space).__name__, repr(space)
    kind = "float" if np.issubdtype(space.dtype, np.floating) else np.dtype(space.dtype).name
    bounds = (space.low.tolist(), space.high.tolist()) if field == "actions" else ()
    return "Box", space.shape, kind, bounds
