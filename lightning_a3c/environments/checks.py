"""Environments that misbehave are named where it happens, before it reaches the network."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

from lightning_a3c.environments.spaces import ObservationLayout, decode_action, trial_action

Call = Literal["nothing", "making", "reset", "step"]
_CALLS: tuple[Call, ...] = ("nothing", "making", "reset", "step")
ALL = -1  # sub-environments
LIFE_LOST = "lightning_a3c.life_lost"
"""The only key of `info` that is read: whether a step cost a life, though the game goes on."""
_LARGEST = float(np.finfo(np.float32).max)  # rewards are learned from and reported in float32


class BadEnvironment(ValueError):
    """An environment gave what it must not give."""


class CallTracker:
    """Which call of which sub-environment is under way, so that one that never returns can be named.

    Args:
        cell: int64 [3], the call's place in the list of calls, the sub-environment, and how many calls were begun. In
            shared memory, another process can ask.
    """

    def __init__(self, cell: np.ndarray | None = None) -> None:
        self._cell = np.zeros(3, dtype=np.int64) if cell is None else cell

    def calling(self, call: Call, env_id: str, index: int = ALL) -> _Calling:
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


def name(env_id: str, index: int = ALL) -> str:
    """An environment's id, with the sub-environment's index unless it is all of them."""
    return env_id if index == ALL else f"{env_id}, sub-environment {index}"


class CheckedVectorEnv(VectorWrapper):
    """Names an environment whose sub-environments are stepped all at once; what they give is not checked."""

    def __init__(self, env: VectorEnv, env_id: str, call_tracker: CallTracker) -> None:
        super().__init__(env)
        self._in_reset = call_tracker.calling("reset", env_id)
        self._in_step = call_tracker.calling("step", env_id)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with self._in_reset:
            return self.env.reset(**kwargs)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        with self._in_step:
            return self.env.step(actions)


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Names the environment and which sub-environment it is when something is wrong with it.

    What it gives out is its own: observations are copies, since environments may write all of theirs into one array,
    rewards and ends of episodes are plain numbers, and of `info` only what is read here is passed on. Vector
    environments would gather the rest into arrays, and fail where its shapes or types change.

    Raises:
        BadEnvironment: a reward is no finite number of float32, an observation is not finite or does not fit its
            space, or `reset` or `step` gives something else than it must.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        env_id: str,
        index: int,
        call_tracker: CallTracker,
        observation_keys: Sequence[str] | None = None,
        action_mask: str | None = None,
    ) -> None:
        super().__init__(env)
        self._name = name(env_id, index)
        self._in_reset = call_tracker.calling("reset", env_id, index)
        self._in_step = call_tracker.calling("step", env_id, index)
        self.layout = ObservationLayout(env.observation_space, observation_keys, action_mask, env.action_space)
        self.own_action_space = env.action_space
        self._space = self.layout.travelling_space
        self.observation_space = self._space
        if not isinstance(env.action_space, spaces.Discrete):  # rows of numbers; `step` gives them their structure
            row = trial_action(env.action_space)
            kind = np.int64 if row.dtype.kind == "i" else np.float32
            largest = np.inf if kind is np.float32 else np.iinfo(np.int64).max
            self.action_space = spaces.Box(-largest, largest, row.shape, kind)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with self._in_reset:
            given = self.env.reset(**kwargs)
        if not (isinstance(given, tuple | list) and len(given) == 2):
            raise BadEnvironment(f"{self._name}: reset must give (observation, info), it gave {_kind(given)}")
        return self._observation("reset", given[0], given[1]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action = decode_action(self.own_action_space, action)
        with self._in_step:
            given: Any = self.env.step(action)
        if not (isinstance(given, tuple | list) and len(given) == 5):
            raise BadEnvironment(
                f"{self._name}: step must give (observation, reward, terminated, truncated, info), it gave "
                f"{_kind(given)}"
            )
        observation, reward, terminated, truncated, info = given
        has_ended = self._flag("terminated", terminated), self._flag("truncated", truncated)
        return (
            self._observation("step", observation, info, any(has_ended)),
            self._reward(reward),
            *has_ended,
            self._info(info),
        )

    def _observation(self, method: str, observation: Any, info: Any, has_ended: bool = False) -> Any:
        layout = self.layout
        try:
            if not isinstance(layout.space, spaces.Box) and not _is_within(layout.space, observation):
                raise BadEnvironment(
                    f"{self._name}: {method} gave the observation {reprlib.repr(observation)}, its space is "
                    f"{layout.space}"
                )
            given = layout.encode(observation, self._mask(method, info, has_ended))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            if isinstance(error, BadEnvironment):
                raise
            raise BadEnvironment(
                f"{self._name}: {method} gave the observation {reprlib.repr(observation)}, which does not fit its "
                f"space {layout.space}: {error}"
            ) from error
        space = self._space
        if given.shape != space.shape or given.dtype != space.dtype:
            raise BadEnvironment(
                f"{self._name}: {method} gave an observation {given.dtype} {given.shape}, its space is "
                f"{space.dtype} {space.shape}"
            )
        if not all(np.isfinite(numbers).all() for numbers in layout.floats(given)):
            raise BadEnvironment(f"{self._name}: {method} gave an observation with NaN or infinite numbers")
        return given

    def _mask(self, method: str, info: Any, has_ended: bool) -> np.ndarray | None:
        """The action mask that does not come with the observation, uint8 [A]."""
        source, size = self.layout.mask_source, self.layout.mask_size
        if source is None:
            return None
        try:
            given = info["action_mask"] if source == "info" else getattr(self.env.unwrapped, source[:-2])()
        except (KeyError, TypeError, AttributeError) as error:
            where = 'info["action_mask"]' if source == "info" else f"the method {source}"
            raise BadEnvironment(f"{self._name}: {method} gave no action mask, {where} is missing") from error
        mask = np.asarray(given)
        if mask.shape != (size,):
            raise BadEnvironment(
                f"{self._name}: the action mask has the shape {mask.shape}, the actions need ({size},)"
            )
        mask = mask.astype(bool).astype(np.uint8)
        if not mask.any() and not has_ended:
            raise BadEnvironment(f"{self._name}: the action mask allows no action after {method}")
        return mask

    def _reward(self, given: Any) -> float:
        number = _number(given)
        if number is None or not abs(number) <= _LARGEST:  # nor is NaN
            raise BadEnvironment(
                f"{self._name}: step gave the reward {reprlib.repr(given)}, which is no finite number of float32"
            )
        return number

    def _flag(self, what: str, given: Any) -> bool:
        if given is True or given is False:
            return bool(given)
        number = _number(given)
        if number != 0 and number != 1:
            raise BadEnvironment(
                f"{self._name}: step gave {what} {reprlib.repr(given)}, which is neither true nor false"
            )
        return number == 1

    def _info(self, info: Any) -> dict[str, Any]:
        lost = info.get(LIFE_LOST) if isinstance(info, dict) else None
        return {} if lost is None else {LIFE_LOST: self._flag(f"info[{LIFE_LOST!r}]", lost)}


def _is_within(space: spaces.Space[Any], observation: Any) -> bool:
    """False for a number that one-hot coding would take for another one, counted from the end."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        place, places = np.asarray(observation) - space.start, getattr(space, "nvec", getattr(space, "n", 0))
        return bool(((place >= 0) & (place < places)).all())
    if isinstance(space, spaces.Tuple):
        return all(map(_is_within, space.spaces, observation))
    return not isinstance(space, spaces.Dict) or all(_is_within(part, observation[key]) for key, part in space.items())


def _number(given: Any) -> float | None:
    """A number, or an array of one, as a float; None for anything else, and for integers beyond all floats."""
    if type(given) is float:
        return given
    try:
        array = np.asarray(given)
    except Exception:  # whatever the conversion of someone's class meets
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else None


def _kind(given: Any) -> str:
    return f"{len(given)} values" if isinstance(given, tuple | list) else f"one {type(given).__name__}"


def running_statistics(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """`env` and what it is wrapped around, as far as it updates something like Gymnasium's `RunningMeanStd`."""
    layers: list[gymnasium.Env[Any, Any]] = []
    layer: Any = env
    while isinstance(layer, gymnasium.Env):
        layers.append(layer)
        layer = vars(layer).get("env")
    return [layer for layer in layers if _updates_statistics(layer)]


def _updates_statistics(layer: gymnasium.Env[Any, Any]) -> bool:
    own = vars(layer)
    is_fixed = own.get("_update_running_mean") is False  # as `update_running_mean = False` leaves Gymnasium's wrappers
    return not is_fixed and (_are_statistics(own) or any(_are_statistics(_fields_of(value)) for value in own.values()))


def _fields_of(value: Any) -> dict[str, Any]:
    return value.__dict__ if hasattr(value, "__dict__") else {}


def _are_statistics(own: dict[str, Any]) -> bool:
    return "mean" in own and bool(own.keys() & {"var", "std", "M2"}) and bool(own.keys() & {"count", "n"})


def in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
