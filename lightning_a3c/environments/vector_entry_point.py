"""Vector environments that ids register for `gymnasium.make_vec`, such as CartPole's in NumPy. Knows no wrappers."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from lightning_a3c.environments.checks import BadEnvironment, in_one_line, name
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.spaces import trial_action

_CARTPOLE = "gymnasium.envs.classic_control.cartpole:"
_SAME = (f"{_CARTPOLE}CartPoleEnv", f"{_CARTPOLE}CartPoleVectorEnv")  # compared step by step
_TRIED = 2  # sub-environments
_OR_GYMNASIUM = "set env.backend to 'auto' or 'gymnasium'"


def plays_the_same_in_numpy(config: EnvConfig, spec: Any) -> bool:
    """Whether the id's vector environment is known to play `config` as its single environment does."""
    is_plain = not (config.wrappers or config.observation_keys or config.action_mask or spec.additional_wrappers)
    return (spec.entry_point, spec.vector_entry_point) == _SAME and is_plain


def require_vector_entry_point(config: EnvConfig, spec: Any, observation_space: Any, action_space: Any) -> None:
    """Raise ValueError, with the way out, unless the id has a vector environment that plays `config`.

    Args:
        config: the environment.
        spec: Gymnasium's spec of its id.
        observation_space: of the single environment.
        action_space: of the single environment.
    """
    if spec.vector_entry_point is None:
        raise ValueError(
            f"env.backend 'vector' needs an id that registers a vector environment, {config.id} does not; "
            f"{_OR_GYMNASIUM}"
        )
    for field in ("wrappers", "observation_keys", "action_mask"):
        if value := getattr(config, field):
            raise ValueError(
                f"env.{field} {value} needs single environments, not the backend 'vector'; {_OR_GYMNASIUM}"
            )
    if not isinstance(observation_space, spaces.Box) or not isinstance(action_space, spaces.Box | spaces.Discrete):
        raise ValueError(
            f"env.backend 'vector' takes Box observations and Box or Discrete actions, {config.id} has "
            f"{observation_space} and {action_space}; {_OR_GYMNASIUM}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns of what is refused below
            env = make_entry_point(config, spec, num_envs=_TRIED)
    except Exception as error:  # whatever someone's constructor raises
        raise ValueError(
            f"env.backend 'vector' cannot make {config.id} with env.kwargs {config.kwargs}: {in_one_line(error)}"
        ) from error
    try:
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise ValueError(
                f"env.id {config.id!r}: its vector environment must reset in the same or the next step, its "
                f"autoreset_mode is {mode}; {_OR_GYMNASIUM}"
            )
        theirs = env.single_observation_space, env.single_action_space
        if theirs != (observation_space, action_space):
            raise ValueError(
                f"env.id {config.id!r} has the spaces {theirs} in its vector environment and "
                f"{(observation_space, action_space)} in the single one, so it cannot be trained in one and tested in "
                f"the other; {_OR_GYMNASIUM}"
            )
        _try(env, config)
    finally:
        env.close()


def _try(env: VectorEnv, config: EnvConfig) -> None:
    """One reset and one step, as training makes them; raises ValueError if one fails."""
    expected = (_TRIED, *(env.single_observation_space.shape or ()))
    call = "reset"
    try:
        observations, _ = env.reset(seed=0)
        if observations.shape == expected:
            call = "step"
            observations, *_ = env.step(np.stack([trial_action(env.single_action_space)] * _TRIED))
    except Exception as error:  # a user's environment may raise anything
        reason = str(error) if isinstance(error, BadEnvironment) else f"{call} raised {in_one_line(error)}"
        raise ValueError(f"env.id {config.id!r}: its vector environment: {reason}") from error
    if observations.shape != expected:
        raise ValueError(
            f"env.id {config.id!r}: {call} of its vector environment of {_TRIED} returned observations "
            f"{observations.shape} instead of {expected}"
        )


def make_entry_point(config: EnvConfig, spec: Any, num_envs: int) -> VectorEnv:
    """The vector environment that the id registers."""
    made = gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **config.kwargs)
    return FiniteVectorEnv(made, config.id)


class FiniteVectorEnv(VectorWrapper):
    """Takes actions as collectors give them, and refuses numbers that are not finite.

    Raises:
        BadEnvironment: an observation or reward is NaN or infinite.
    """

    def __init__(self, env: VectorEnv, env_id: str) -> None:
        super().__init__(env)
        self._name = name(env_id)
        self._shape, self._dtype = env.action_space.shape, env.action_space.dtype

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observations, info = self.env.reset(**kwargs)
        return self._checked(observations, "reset returned an observation"), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        shaped = np.asarray(actions, dtype=self._dtype).reshape(self._shape)
        observations, rewards, terminated, truncated, info = self.env.step(shaped)
        observations = self._checked(observations, "step returned an observation")
        rewards = self._checked(rewards, "step returned a reward")
        return observations, rewards, np.asarray(terminated), np.asarray(truncated), info

    def _checked(self, numbers: Any, what: str) -> np.ndarray:
        array = np.asarray(numbers)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadEnvironment(f"{self._name}: {what} that is NaN or infinite")
        return array
