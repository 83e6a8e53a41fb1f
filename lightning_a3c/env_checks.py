"""Environments that misbehave are named where it happens, before it reaches the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class BadEnvironment(ValueError):
    """An environment gave what it must not give."""


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Names the environment and which sub-environment it is when something is wrong with it.

    Raises:
        BadEnvironment: a reward or observation is not finite, or an observation does not fit its space.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str, index: int) -> None:
        super().__init__(env)
        self._name = f"{env_id}, sub-environment {index}"

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with self._named():
            observation, info = self.env.reset(**kwargs)
        self._check("reset", observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._named():
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._check("step", observation)
        if not math.isfinite(reward):
            raise BadEnvironment(f"{self._name}: step gave the reward {reward}")
        return observation, reward, terminated, truncated, info

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            error.add_note(f"in {self._name}")
            raise

    def _check(self, method: str, observation: Any) -> None:
        space = self.env.observation_space
        if not isinstance(space, spaces.Box):
            return
        given = np.asarray(observation)
        if given.shape != space.shape or given.dtype != space.dtype:
            raise BadEnvironment(
                f"{self._name}: {method} gave an observation {given.dtype} {given.shape}, its space is "
                f"{space.dtype} {space.shape}"
            )
        if given.dtype.kind == "f" and not np.isfinite(given).all():
            raise BadEnvironment(f"{self._name}: {method} gave an observation with NaN or infinite numbers")
