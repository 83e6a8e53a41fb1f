"""Between Gymnasium's spaces and the arrays that travel: actions as rows of numbers, observations as one array.

An observation of several parts, from a Dict or Tuple, is packed into one row of bytes. Knows no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

Space = spaces.Space[Any]

MASK = "action_mask"
"""Name of the part that holds an action mask which does not come with the observation."""

LARGEST = float(np.finfo(np.float32).max)
"""Observations and rewards become float32."""

_ONE_HOT = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class UnsupportedSpace(ValueError):
    """Nothing can be learned from these observations, or these actions cannot be learned."""


class Part(NamedTuple):
    """One array of a packed observation."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as networks see it: float32 for float64

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def action_family(space: Space) -> dict[str, Any]:
    """The action space as `rl.action_spec.action_spec` takes it.

    Raises:
        UnsupportedSpace: actions of this space cannot be learned.
    """
    leaves = [_leaf_family(leaf) for _, leaf in _leaves(space)]
    families = [family for group in leaves for family in group]
    is_single = len(families) == 1 and not isinstance(space, spaces.MultiDiscrete)
    return families[0] if is_single else {"family": "joint", "parts": families}


def component_names(space: Space) -> list[str]:
    """A name for each choice of a discrete action and each component of others, in the order of a row's numbers."""
    leaves, names = list(_leaves(space)), []
    for prefix, leaf in leaves:
        start = f"{prefix}." if prefix else ""
        if isinstance(leaf, spaces.Discrete):
            names += [f"{start}{action + int(leaf.start)}" for action in range(int(leaf.n))]
        elif isinstance(leaf, spaces.MultiDiscrete):
            for index, n in enumerate(leaf.nvec.reshape(-1)):
                names += [f"{start}{index}={action}" for action in range(int(n))]
        else:
            names += [f"{start}{index}" for index in range(math.prod(leaf.shape or ()))]
    return names


def trial_action(space: Space) -> np.ndarray:
    """A row of numbers that is an action of `space`, in the environment's units: zeros, or what is nearest to them."""
    leaves = [leaf for _, leaf in _leaves(space)]
    rows = []
    for leaf in leaves:
        if isinstance(leaf, spaces.Box):
            rows.append(np.clip(0.0, leaf.low, leaf.high).reshape(-1))
        elif isinstance(leaf, spaces.MultiDiscrete):
            rows.append(np.broadcast_to(leaf.start, leaf.nvec.shape).reshape(-1))
        else:
            rows.append(np.full(math.prod(leaf.shape or ()), getattr(leaf, "start", 0)))
    return np.concatenate(rows)


def decode_action(space: Space, flat: Any) -> Any:
    """An action of `space` from its row of numbers, in the environment's units.

    Args:
        space: the environment's own.
        flat: a number for Discrete, otherwise [L].
    """
    if isinstance(space, spaces.Discrete):
        return int(flat) if isinstance(flat, np.integer) else int(np.asarray(flat).reshape(()))
    numbers = np.atleast_1d(np.asarray(flat))
    action, used = _decode(space, numbers)
    assert used == len(numbers)
    return action


class ObservationLayout:
    """How observations of `space` travel: as they are, one-hot coded, or packed.

    Args:
        space: the environment's own.
        keys: parts to keep, by name; None keeps all that are arrays.
        action_mask: where the action mask is: see `EnvConfig`.
        action_space: of the actions that are masked.

    Raises:
        UnsupportedSpace: nothing in the space is an array, a key is unknown, or the actions cannot be masked.
    """

    def __init__(
        self,
        space: Space,
        keys: Sequence[str] | None = None,
        action_mask: str | None = None,
        action_space: Space | None = None,
    ) -> None:
        self.space = space
        self._choices = [] if action_mask is None or action_space is None else _choices(action_space)
        self.mask_size = sum(self._choices)
        is_part = action_mask is not None and action_mask != "info" and not action_mask.endswith("()")
        self.mask_source = None if is_part else action_mask
        """"info" or "method()" where the mask does not come with the observation."""
        self.mask: str | None = action_mask if is_part else (MASK if action_mask else None)
        """The name of the part that is the mask."""
        self.left_out: list[str] = []
        """Names of parts that are no arrays, such as texts."""
        self.parts: list[Part] | None = None
        """The arrays of a packed observation, in order; None where observations are one array."""
        self._leaves: list[tuple[str, Space]] = []
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            if keys is not None:
                raise UnsupportedSpace(f"env.observation_keys {list(keys)} need a Dict observation space, got {space}")
            self._check_single(space)
            if is_part:
                raise UnsupportedSpace(f"env.action_mask {action_mask!r} is no observation part: {space} has none")
            if self.mask_source is not None:
                self._leaves = [("", space)]
                self.parts = [Part("", *_array_of(space)), Part(MASK, (self.mask_size,), "uint8")]
            return
        leaves = list(_leaves(space))
        names = [name for name, _ in leaves]
        unknown = [key for key in keys or () if not any(name == key or name.startswith(f"{key}.") for name in names)]
        if unknown:
            raise UnsupportedSpace(f"env.observation_keys has {unknown[0]!r}, which is none of {', '.join(names)}")
        if is_part and action_mask not in names:
            raise UnsupportedSpace(f"env.action_mask {action_mask!r} is none of {', '.join(names)}")
        for name, leaf in leaves:
            if name == action_mask:
                self._leaves.append((name, leaf))
                continue
            if keys is not None and not any(name == key or name.startswith(f"{key}.") for key in keys):
                continue
            if isinstance(leaf, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
                self._leaves.append((name, leaf))
            else:
                self.left_out.append(name)
        if not self._leaves and keys is not None:
            raise UnsupportedSpace(f"env.observation_keys {list(keys)} keep no array to learn from; add one of {names}")
        if not self._leaves:
            raise UnsupportedSpace(f"the observation space {space} has no arrays to learn from; add some by a wrapper")
        self.parts = [
            Part(name, (self.mask_size,), "uint8") if name == self.mask else Part(name, *_array_of(leaf))
            for name, leaf in self._leaves
        ]
        if self.mask_source is not None:
            self.parts.append(Part(MASK, (self.mask_size,), "uint8"))

    @property
    def arrays(self) -> list[tuple[str, Space]]:
        """The arrays that are read of an observation, by name; "" for an observation that is one array."""
        return self._leaves or [("", self.space)]

    @property
    def travelling_space(self) -> spaces.Box:
        """The space of what travels."""
        if self.parts is not None:
            return spaces.Box(0, 255, (sum(part.num_bytes for part in self.parts),), np.uint8)
        if isinstance(self.space, spaces.Box):
            return self.space
        flat = spaces.flatten_space(self.space)
        assert isinstance(flat, spaces.Box)
        return flat

    def encode(self, observation: Any, mask: np.ndarray | None = None) -> np.ndarray:
        """What travels of one observation; always a copy.

        Args:
            observation: of the environment.
            mask: uint8 [A], where it does not come with the observation.

        Raises:
            TypeError, ValueError, LookupError: the observation does not have the space's structure.
        """
        if self.parts is None:
            if isinstance(self.space, spaces.Box):
                return np.array(observation)
            return np.asarray(spaces.flatten(self.space, observation))
        arrays = []
        values = dict(values_of(self.space, observation))
        for (name, leaf), part in zip(self._leaves, self.parts, strict=False):
            value = values[name]
            if name == self.mask:
                array = np.asarray(value).reshape(-1).astype(bool)
            else:
                array = np.asarray(value if isinstance(leaf, spaces.Box) else spaces.flatten(leaf, value))
            if array.shape != part.shape:
                raise ValueError(f"{name} has the shape {array.shape}, its space is {leaf}")
            arrays.append(np.ascontiguousarray(array, dtype=part.dtype).reshape(-1).view(np.uint8))
        if mask is not None:
            arrays.append(mask)
        return np.concatenate(arrays)

    def is_finite(self, encoded: np.ndarray) -> bool:
        """Whether the floats in what travels are finite in float32, as networks see them."""
        if self.parts is None:
            return encoded.dtype.kind != "f" or _is_finite(encoded)
        start = 0
        for part in self.parts:
            piece = encoded[start : start + part.num_bytes]
            start += part.num_bytes
            if np.dtype(part.dtype).kind == "f" and not _is_finite(piece.copy().view(part.dtype)):
                return False
        return True

    def allowed_action(self, encoded: np.ndarray, action_space: Space) -> np.ndarray:
        """A row of numbers that is an action, and one that the mask in `encoded` allows."""
        row = trial_action(action_space)
        if self.mask is None or self.parts is None:
            return row
        allowed: np.ndarray = row + np.array([choice.argmax() for choice in self._masked_choices(encoded)])
        return allowed

    def allows_action(self, encoded: np.ndarray) -> bool:
        """Whether the mask in `encoded`, if there is one, leaves something to choose everywhere."""
        return self.mask is None or all(choice.any() for choice in self._masked_choices(encoded))

    def _masked_choices(self, encoded: np.ndarray) -> list[np.ndarray]:
        """For each choice that an action makes, which of its options are allowed, bool [n]."""
        assert self.parts is not None
        place = [part.name for part in self.parts].index(str(self.mask))
        start = sum(part.num_bytes for part in self.parts[:place])
        mask = encoded[start : start + self.mask_size].astype(bool)
        return np.split(mask, np.cumsum(self._choices)[:-1])

    @staticmethod
    def _check_single(space: Space) -> None:
        if isinstance(space, spaces.Box):
            if not space.shape:
                raise UnsupportedSpace(f"the observation space {space} has no axis; wrap it to give it one")
        elif not isinstance(space, _ONE_HOT):
            raise UnsupportedSpace(
                f"the observation space {space} cannot be learned from: observations must be Box, Discrete, "
                "MultiDiscrete, MultiBinary, or a Dict or Tuple of these; make them so with a wrapper, such as "
                "gymnasium.wrappers.TransformObservation"
            )


def _is_finite(array: np.ndarray) -> bool:
    return float(np.maximum.reduce(np.abs(array), axis=None, initial=0)) <= LARGEST  # false for NaN


def _leaves(space: Space, prefix: str = "") -> Iterator[tuple[str, Space]]:
    """The spaces in Dicts and Tuples, with names such as "arm.0.angle"."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _leaves(part, f"{prefix}{name}.")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, f"{prefix}{index}.")
    else:
        yield prefix.removesuffix("."), space


def values_of(space: Space, value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What `value` holds for each of `_leaves`."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from values_of(part, value[name], f"{prefix}{name}.")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from values_of(part, value[index], f"{prefix}{index}.")
    else:
        yield prefix.removesuffix("."), value


def _array_of(leaf: Space) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a leaf as networks see it."""
    box = leaf if isinstance(leaf, spaces.Box) else spaces.flatten_space(leaf)
    assert isinstance(box, spaces.Box)
    is_bytes = box.dtype == np.uint8 and isinstance(leaf, spaces.Box)
    return tuple(box.shape) or (1,), "uint8" if is_bytes else "float32"


def _choices(space: Space) -> list[int]:
    """Options of each choice that an action makes."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.reshape(-1)]
    raise UnsupportedSpace(f"env.action_mask needs Discrete or MultiDiscrete actions, got {space}")


def _leaf_family(leaf: Space) -> list[dict[str, Any]]:
    if isinstance(leaf, spaces.Discrete):
        return [{"family": "discrete", "n": int(leaf.n), "start": int(leaf.start)}]
    if isinstance(leaf, spaces.MultiDiscrete):
        starts = np.broadcast_to(leaf.start, leaf.nvec.shape).reshape(-1)
        sizes = zip(leaf.nvec.reshape(-1), starts, strict=True)
        return [{"family": "discrete", "n": int(n), "start": int(start)} for n, start in sizes]
    if isinstance(leaf, spaces.MultiBinary):
        return [{"family": "binary", "n": math.prod(leaf.shape)}]
    if isinstance(leaf, spaces.Box):
        low, high = leaf.low.reshape(-1).astype(float), leaf.high.reshape(-1).astype(float)
        if not len(low):
            raise UnsupportedSpace(f"the action space {leaf} has no components")
        if np.isnan(low).any() or np.isnan(high).any() or (low >= high).any():
            raise UnsupportedSpace(f"the action space {leaf} has NaN or equal bounds; give each component room to move")
        return [{"family": "box", "low": low.tolist(), "high": high.tolist()}]
    raise UnsupportedSpace(
        f"the action space {leaf} cannot be learned: actions must be Discrete, MultiDiscrete, MultiBinary, Box, or a "
        "Tuple or Dict of these; make them so with a wrapper, such as gymnasium.wrappers.TransformAction"
    )


def _decode(space: Space, numbers: np.ndarray) -> tuple[Any, int]:
    """The first action in `numbers`, and how many of them it takes."""
    if isinstance(space, spaces.Dict):
        used, action = 0, {}
        for name, part in space.spaces.items():
            action[name], size = _decode(part, numbers[used:])
            used += size
        return action, used
    if isinstance(space, spaces.Tuple):
        used, values = 0, []
        for part in space.spaces:
            value, size = _decode(part, numbers[used:])
            values.append(value)
            used += size
        return tuple(values), used
    if isinstance(space, spaces.Discrete):
        return int(numbers[0]), 1
    assert isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary)
    size = math.prod(space.shape)
    array = numbers[:size].reshape(space.shape)
    if isinstance(space, spaces.MultiDiscrete):
        return array.astype(space.dtype), size
    if np.issubdtype(space.dtype, np.integer):
        array = np.rint(array)
    return array.astype(space.dtype), size
