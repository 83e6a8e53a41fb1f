"""Environments that misbehave are named where it happens, before it reaches the network."""

from __future__ import annotations

import math
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

Call = Literal["nothing", "making", "reset", "step"]
_CALLS: tuple[Call, ...] = ("nothing", "making", "reset", "step")
_ALL = -1  # sub-environments


class BadEnvironment(ValueError):
    """An environment gave what it must not give."""


class Whereabouts:
    """Which call of which sub-environment is under way, so that one that never returns can be named.

    Args:
        cell: int64 [3], the call's place in the list of calls, the sub-environment, and how many calls were begun. In
            shared memory, another process can ask.
    """

    def __init__(self, cell: np.ndarray | None = None) -> None:
        self._cell = np.zeros(3, dtype=np.int64) if cell is None else cell

    def calling(self, call: Call, env_id: str, index: int = _ALL) -> _Calling:
        """To be around a call, as often as it is made; an exception gets the environment's name as a note."""
        return _Calling(self._cell, _CALLS.index(call), env_id, index)

    @property
    def calls(self) -> int:
        """How many calls were begun so far."""
        return int(self._cell[2])

    def describe(self, env_id: str) -> str:
        """In words."""
        call, index = _CALLS[int(self._cell[0])], int(self._cell[1])
        return f"outside {env_id}" if call == "nothing" else f"in {call} of {name(env_id, index)}"


class _Calling:
    """A context manager; a class, because a generator for each step of an environment would take longer than it."""

    def __init__(self, cell: np.ndarray, call: int, env_id: str, index: int) -> None:
        self._cell = cell
        self._call = call
        self._env_id = env_id
        self._index = index

    def __enter__(self) -> None:
        self._cell[2] += 1
        self._cell[1] = self._index
        self._cell[0] = self._call

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._cell[0] = 0
        if isinstance(error, Exception):
            error.add_note(f"in {name(self._env_id, self._index)}")


def name(env_id: str, index: int = _ALL) -> str:
    """An environment's id, with the sub-environment's index unless it is all of them."""
    return env_id if index == _ALL else f"{env_id}, sub-environment {index}"


class CheckedVectorEnv(VectorWrapper):
    """Names an environment whose sub-environments are stepped all at once; what they give is not checked."""

    def __init__(self, env: VectorEnv, env_id: str, whereabouts: Whereabouts) -> None:
        super().__init__(env)
        self._in_reset = whereabouts.calling("reset", env_id)
        self._in_step = whereabouts.calling("step", env_id)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with self._in_reset:
            return self.env.reset(**kwargs)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        with self._in_step:
            return self.env.step(actions)


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Names the environment and which sub-environment it is when something is wrong with it.

    Raises:
        BadEnvironment: a reward or observation is not finite, or an observation does not fit its space.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str, index: int, whereabouts: Whereabouts) -> None:
        super().__init__(env)
        self._name = name(env_id, index)
        self._in_reset = whereabouts.calling("reset", env_id, index)
        self._in_step = whereabouts.calling("step", env_id, index)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with self._in_reset:
            observation, info = self.env.reset(**kwargs)
        self._check("reset", observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._in_step:
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._check("step", observation)
        if not math.isfinite(reward):
            raise BadEnvironment(f"{self._name}: step gave the reward {reward}")
        return observation, reward, terminated, truncated, info

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
