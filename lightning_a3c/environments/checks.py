"""Checks on what environments return, and error messages that name the environment at fault. Knows no network."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

from lightning_a3c.environments.spaces import LARGEST, ObservationLayout, decode_action, trial_action

Call = Literal["nothing", "making", "reset", "step"]
_CALLS: tuple[Call, ...] = ("nothing", "making", "reset", "step")
ALL = -1
"""Stands for all sub-environments where an index is expected."""
LIFE_LOST = "lightning_a3c.life_lost"
"""The key of `info` that says whether a step cost a life while the game goes on."""


class BadEnvironment(ValueError):
    """An environment returned an invalid value."""


class CallTracker:
    """Records which call of which sub-environment is running, so that an error can name one that hangs.

    Args:
        cell: int64 [3]: index of the call in `_CALLS`, sub-environment, calls begun so far. Another process can read
            it in shared memory.
    """

    def __init__(self, cell: np.ndarray | None = None) -> None:
        self._cell = np.zeros(3, dtype=np.int64) if cell is None else cell

    def calling(self, call: Call, env_id: str, index: int = ALL) -> _Calling:
        """A reusable context manager for a call; adds the environment's name to exceptions as a note."""
        return _Calling(self._cell, _CALLS.index(call), env_id, index)

    @property
    def calls(self) -> int:
        """Calls begun so far."""
        return int(self._cell[2])

    def describe(self, env_id: str) -> str:
        """The running call in words."""
        call, index = _CALLS[int(self._cell[0])], int(self._cell[1])
        return f"outside {env_id}" if call == "nothing" else f"in {call} of {name(env_id, index)}"


class _Calling:
    """A class instead of `contextlib.contextmanager`, whose generator would take longer than a short step."""

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
    """An environment's id, with the index of the sub-environment unless that is `ALL`."""
    return env_id if index == ALL else f"{env_id}, sub-environment {index}"


class CheckedVectorEnv(VectorWrapper):
    """Names the environment in errors of a native vector environment; does not check its values."""

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
    """Checks what one environment returns, and names it and its sub-environment in errors.

    Observations are copies, since environments may reuse one array; rewards and flags are plain numbers. `info` keeps
    only `LIFE_LOST`: vector environments would gather the rest into arrays, and fail where its shapes or types change.

    Raises:
        BadEnvironment: a reward is not finite in float32, an observation is not finite or does not fit its space, or
            `reset` or `step` returns anything but the tuple of Gymnasium's API.
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
            result = self.env.reset(**kwargs)
        if not (isinstance(result, tuple | list) and len(result) == 2):
            raise BadEnvironment(f"{self._name}: reset must return (observation, info), got {_kind(result)}")
        return self._observation("reset", result[0], result[1]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action = decode_action(self.own_action_space, action)
        with self._in_step:
            result: Any = self.env.step(action)
        if not (isinstance(result, tuple | list) and len(result) == 5):
            raise BadEnvironment(
                f"{self._name}: step must return (observation, reward, terminated, truncated, info), got "
                f"{_kind(result)}"
            )
        observation, reward, terminated, truncated, info = result
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
            if not isinstance(layout.space, spaces.Box) and not is_within(layout.space, observation):
                raise BadEnvironment(
                    f"{self._name}: {method} returned the observation {reprlib.repr(observation)}, its space is "
                    f"{layout.space}"
                )
            array = layout.encode(observation, self._mask(method, info))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            if isinstance(error, BadEnvironment):
                raise
            raise BadEnvironment(
                f"{self._name}: {method} returned the observation {reprlib.repr(observation)}, which does not fit its "
                f"space {layout.space}: {error}"
            ) from error
        space = self._space
        if array.shape != space.shape or array.dtype != space.dtype:
            raise BadEnvironment(
                f"{self._name}: {method} returned an observation {array.dtype} {array.shape}, its space is "
                f"{space.dtype} {space.shape}"
            )
        if not has_ended and not layout.allows_action(array):
            raise BadEnvironment(f"{self._name}: the action mask allows no action after {method}")
        if not layout.is_finite(array):
            raise BadEnvironment(f"{self._name}: {method} returned an observation with NaN or infinite numbers")
        return array

    def _mask(self, method: str, info: Any) -> np.ndarray | None:
        """The action mask that does not come with the observation, uint8 [A]."""
        source, size = self.layout.mask_source, self.layout.mask_size
        if source is None:
            return None
        try:
            given = info["action_mask"] if source == "info" else self.env.get_wrapper_attr(source[:-2])
        except (KeyError, TypeError, AttributeError) as error:
            where = 'info["action_mask"]' if source == "info" else f"method {source}"
            raise BadEnvironment(f"{self._name}: the action mask is missing, {method} gave no {where}") from error
        mask = np.asarray(given if source == "info" else self._call_mask(given, source))
        if mask.shape != (size,):
            raise BadEnvironment(
                f"{self._name}: the action mask has the shape {mask.shape}, the actions need ({size},)"
            )
        return mask.astype(bool).astype(np.uint8)

    def _call_mask(self, find_mask: Any, source: str) -> Any:
        try:
            return find_mask()
        except Exception as error:  # whatever someone's environment raises
            raise BadEnvironment(f"{self._name}: {source} raised {in_one_line(error)}") from error

    def _reward(self, reward: Any) -> float:
        number = _number(reward)
        if number is None or not abs(number) <= LARGEST:  # also refuses NaN
            raise BadEnvironment(
                f"{self._name}: step returned the reward {reprlib.repr(reward)}, which is no finite float32 number"
            )
        return number

    def _flag(self, flag_name: str, flag: Any) -> bool:
        if flag is True or flag is False or isinstance(flag, np.bool_):
            return bool(flag)
        number = _number(flag)
        if number != 0 and number != 1:
            raise BadEnvironment(
                f"{self._name}: step returned {flag_name} {reprlib.repr(flag)}, which is neither true nor false"
            )
        return number == 1

    def _info(self, info: Any) -> dict[str, Any]:
        lost = info.get(LIFE_LOST) if isinstance(info, dict) else None
        return {} if lost is None else {LIFE_LOST: self._flag(f"info[{LIFE_LOST!r}]", lost)}


def is_within(space: spaces.Space[Any], observation: Any) -> bool:
    """Whether all discrete parts are in range; one-hot coding would count a negative number from the end."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        index, size = np.asarray(observation) - space.start, getattr(space, "nvec", getattr(space, "n", 0))
        return bool(((index >= 0) & (index < size)).all())
    if isinstance(space, spaces.Tuple):
        return all(map(is_within, space.spaces, observation))
    return not isinstance(space, spaces.Dict) or all(is_within(part, observation[key]) for key, part in space.items())


def _number(value: Any) -> float | None:
    """A number, or an array of one number, as a float; None for anything else, including integers too large for it."""
    if isinstance(value, float):  # NumPy's float64 is one
        return float(value)
    try:
        array = np.asarray(value)
    except Exception:  # the conversion of a user's class may raise anything
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else None


def _kind(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple | list) else f"one {type(result).__name__}"


def running_statistics(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """The layers of `env`, from the outermost, that update statistics like Gymnasium's `RunningMeanStd`."""
    layers: list[gymnasium.Env[Any, Any]] = []
    layer: Any = env
    while isinstance(layer, gymnasium.Env):
        layers.append(layer)
        layer = vars(layer).get("env")
    return [layer for layer in layers if _updates_statistics(layer)]


def _updates_statistics(layer: gymnasium.Env[Any, Any]) -> bool:
    attributes = vars(layer)
    is_fixed = attributes.get("_update_running_mean") is False  # `update_running_mean = False` of Gymnasium's wrappers
    return not is_fixed and any(map(_are_statistics, (attributes, *map(_fields_of, attributes.values()))))


def _fields_of(value: Any) -> dict[str, Any]:
    return value.__dict__ if hasattr(value, "__dict__") else {}


def _are_statistics(fields: dict[str, Any]) -> bool:
    return "mean" in fields and bool(fields.keys() & {"var", "std", "M2"}) and bool(fields.keys() & {"count", "n"})


def in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
