"""Wrappers for tasks that need memory, to be named in `env.wrappers`. Know no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class ObserveElements(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Show some elements of a vector only, such as CartPole's positions without its velocities.

    >>> env = ObserveElements(gymnasium.make("CartPole-v1"), indices=[0, 2])
    >>> env.observation_space.shape
    (2,)

    Args:
        env: with observations that are one array of one axis.
        indices: of the elements to show, in order.

    Raises:
        ValueError: the observations are no vector, or there is no such element.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], indices: Sequence[int]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, indices=list(indices))
        gymnasium.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"ObserveElements needs observations that are a vector, got {space}")
        if not indices or not all(0 <= index < space.shape[0] for index in indices):
            raise ValueError(f"ObserveElements.indices must be in 0 … {space.shape[0] - 1}, got {list(indices)}")
        self.indices = list(indices)
        self.observation_space = spaces.Box(space.low[self.indices], space.high[self.indices], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The chosen elements."""
        return observation[self.indices]


class ObservePreviousStep(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Add the previous action and reward to the observation, as agents with memory often get them.

    The observation becomes a Dict: its own entries, or `observation` if it was none, and `previous_action` and
    `previous_reward`. In the first step of an episode they are a neutral action and 0.

    >>> env = ObservePreviousStep(gymnasium.make("CartPole-v1"))
    >>> sorted(env.observation_space)
    ['observation', 'previous_action', 'previous_reward']

    Args:
        env: any environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        self.observation_space = spaces.Dict(
            self._entries(env.observation_space)
            | {
                "previous_action": env.action_space,
                "previous_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation of an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with(observation, _neutral(self.env.action_space), 0.0), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, whose action and reward the observation tells."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with(observation, action, float(reward)), reward, terminated, truncated, info

    def _entries(self, observation: Any) -> dict[str, Any]:
        is_dict = isinstance(self.env.observation_space, spaces.Dict)
        return dict(observation.items()) if is_dict else {"observation": observation}

    def _with(self, observation: Any, action: Any, reward: float) -> dict[str, Any]:
        previous = {"previous_action": action, "previous_reward": np.array([reward], np.float32)}
        return self._entries(observation) | previous


def _neutral(space: spaces.Space[Any]) -> Any:
    """The action of `space` that is nearest to zero."""
    if isinstance(space, spaces.Dict):
        return {name: _neutral(part) for name, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_neutral(part) for part in space)
    if isinstance(space, spaces.Discrete):
        return space.start
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.copy()
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    return np.zeros(space.shape, space.dtype)
