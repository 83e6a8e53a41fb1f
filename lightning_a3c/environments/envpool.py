"""EnvPool's vector environments, made to look like Gymnasium's. Knows no wrappers, no rendering and no torch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lightning_a3c.environments.atari import is_atari
from lightning_a3c.environments.checks import BadEnvironment, name
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.envpool_tasks import (
    SEEDS,
    STACK,
    arguments_of,
    envpool_id,
    import_envpool,
    is_only_envpools,
    spaces_of,
    step_limit_of,
)
from lightning_a3c.environments.spaces import ObservationLayout


class EnvPoolEnv(VectorEnv):
    """An EnvPool that resets in the same step, takes seeds on reset, and truncates as Gymnasium does.

    EnvPool itself would reset in the next step, fix its seeds when it is made, and report an episode that terminates
    in its last allowed step as truncated. So `reset(seed=...)` makes a new pool, and this class counts steps: EnvPool's
    own limit lies beyond, except for tasks that Gymnasium lacks. Observations of Atari games begin with black frames,
    as ALE's do.

    Args:
        config: the environment; `require_playable_by_envpool` has passed it.
        spec: Gymnasium's spec of its id.
        num_envs: sub-environments.

    Raises:
        BadEnvironment: an observation or reward is not finite.
    """

    def __init__(self, config: EnvConfig, spec: Any, num_envs: int) -> None:
        self._arguments = arguments_of(config, spec)
        observation_space, action_space = spaces_of(envpool_id(spec), self._arguments)
        self.num_envs = num_envs
        self.spec = spec
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_action_space = action_space
        self.action_space = batch_space(action_space, num_envs)
        self._layout = ObservationLayout(observation_space)
        self.single_observation_space = self._layout.travelling_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._env_id = config.id
        self._task_id = envpool_id(spec)
        self._is_atari = is_atari(spec)
        self._truncates = is_only_envpools(spec)
        self._limit = step_limit_of(config, spec)
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
        observations, rewards, terminated, at_its_limit, info = self._pool.step(np.asarray(actions).reshape(-1, *shape))
        self._steps += 1
        truncated = self._steps >= self._limit
        if self._truncates:
            truncated |= at_its_limit
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
        self._pool = import_envpool().make_gymnasium(
            self._task_id,
            num_envs=self.num_envs,
            num_threads=self._threads,
            seed=[int(number) for number in seeds % SEEDS],
            **self._arguments,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ = self._pool.observation_space  # made now and kept; Gymnasium warns of float64 bounds

    def _as_gymnasium(self, observations: Any, steps: np.ndarray) -> np.ndarray:
        """`observations`, made `steps` after their episodes began, as Gymnasium's or ALE's environment gives them."""
        if self._layout.parts is not None:
            return _packed(observations, self._layout)
        if isinstance(self._layout.space, spaces.Discrete):
            return _one_hot(observations, self._layout.space, self.single_observation_space.dtype)
        arrays: np.ndarray = observations
        if self._is_atari and (steps < STACK - 1).any():  # EnvPool repeats the first frame
            arrays = arrays.copy()
            for index in np.flatnonzero(steps < STACK - 1):
                arrays[index, : STACK - 1 - steps[index]] = 0
        return arrays

    def _checked(self, observations: np.ndarray) -> np.ndarray:
        if observations.dtype.kind == "f" and not np.isfinite(observations).all():
            raise BadEnvironment(f"{name(self._env_id)}: an observation has NaN or infinite numbers")
        return observations

    def _kept(self, info: dict[str, Any]) -> dict[str, Any]:
        return {"lives": info["lives"]} if self._is_atari else {}


def _one_hot(numbers: np.ndarray, space: spaces.Discrete, dtype: Any) -> np.ndarray:
    """Integers [E] or [E, 1] → [E, n]."""
    rows: np.ndarray = np.eye(int(space.n), dtype=dtype)[numbers.reshape(-1)]
    return rows


def _packed(observations: dict[str, np.ndarray], layout: ObservationLayout) -> np.ndarray:
    """What travels of E Dict observations by name, uint8 [E, bytes]; see `ObservationLayout.encode`."""
    assert layout.parts is not None
    pieces = []
    for (part_name, leaf), part in zip(layout.arrays, layout.parts, strict=True):
        array = observations[part_name]
        if isinstance(leaf, spaces.Discrete):
            array = _one_hot(array, leaf, part.dtype)
        pieces.append(np.ascontiguousarray(array, dtype=part.dtype).reshape(len(array), -1).view(np.uint8))
    return np.concatenate(pieces, axis=1)
