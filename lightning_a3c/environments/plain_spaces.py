"""Gymnasium's spaces as plain values, which checkpoints can hold, and back, without their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

Space = spaces.Space[Any]


def plain_space(space: Space) -> dict[str, Any]:
    """What is needed to read and write values of `space`: structure, shapes, dtypes, sizes and starts.

    >>> plain_space(spaces.Dict(move=spaces.Discrete(3, start=-1)))
    {'kind': 'Dict', 'spaces': {'move': {'kind': 'Discrete', 'n': 3, 'start': -1}}}
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {name: plain_space(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [plain_space(part) for part in space.spaces]}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape)
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": start.tolist()} | _dtype(space)
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "shape": list(space.shape)} | _dtype(space)
    return {"kind": type(space).__name__}


def space_of(plain: dict[str, Any]) -> Space:
    """The space that `plain_space` described; a Box is unbounded, and what is no array has no shape."""
    kind = plain["kind"]
    if kind == "Dict":
        return spaces.Dict([(name, space_of(part)) for name, part in plain["spaces"].items()])  # keeps the order
    if kind == "Tuple":
        return spaces.Tuple([space_of(part) for part in plain["spaces"]])
    if kind == "Discrete":
        return spaces.Discrete(plain["n"], start=plain["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(plain["nvec"]), dtype=_integer(plain), start=np.array(plain["start"]))
    if kind == "MultiBinary":
        return spaces.MultiBinary(plain["shape"])
    if kind == "Box":
        return unbounded_box(plain["shape"], plain["dtype"])
    return spaces.Space()


def unbounded_box(shape: Any, dtype: str) -> spaces.Box:
    """A Box of all numbers of `dtype`."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return spaces.Box(-np.inf, np.inf, tuple(shape), kind.type)
    low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return spaces.Box(low, high, tuple(shape), kind.type)


def _dtype(space: Space) -> dict[str, str]:
    return {"dtype": np.dtype(space.dtype).name}


def _integer(plain: dict[str, Any]) -> Any:
    return np.dtype(plain["dtype"]).type
