"""Gymnasium's spaces as plain values and back, so that a file can hold them. Knows no file and no network."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

Space = spaces.Space[Any]

_OTHER = "other"


def space_to_dict(space: Space) -> dict[str, Any]:
    """`space` in numbers, strings, lists and dicts; a space without arrays, such as Text, leaves only its place."""
    if isinstance(space, spaces.Dict):
        return {"kind": "dict", "parts": {name: space_to_dict(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {"kind": "tuple", "parts": [space_to_dict(part) for part in space.spaces]}
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape)
        return {
            "kind": "multi_discrete",
            "nvec": space.nvec.tolist(),
            "start": start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "multi_binary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound(space.low), "high": _bound(space.high)}
        return {"kind": "box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    return {"kind": _OTHER}


def space_from_dict(values: dict[str, Any]) -> Space:
    """The space that `space_to_dict` described; `spaces.Text` stands for those without arrays.

    Raises:
        ValueError: these values describe no space.
    """
    try:
        return _space(**values)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{values!r} describes no space: {error}") from error


def _space(kind: str, **values: Any) -> Space:
    if kind == "dict":
        # pairs: Gymnasium would sort a dict, and the order is that in which parts are packed
        return spaces.Dict([(name, space_from_dict(part)) for name, part in values["parts"].items()])
    if kind == "tuple":
        return spaces.Tuple([space_from_dict(part) for part in values["parts"]])
    if kind == "discrete":
        return spaces.Discrete(values["n"], start=values["start"])
    if kind == "multi_discrete":
        dtype: Any = np.dtype(values["dtype"])
        return spaces.MultiDiscrete(np.array(values["nvec"]), dtype=dtype.type, start=np.array(values["start"]))
    if kind == "multi_binary":
        return spaces.MultiBinary(values["n"])
    if kind == "box":
        dtype, shape = np.dtype(values["dtype"]), tuple(values["shape"])
        low, high = (np.broadcast_to(np.array(values[name], dtype), shape) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == _OTHER:
        return spaces.Text(1)
    raise ValueError(f"{kind!r} is no kind of space")


def _bound(bound: np.ndarray) -> Any:
    """One number where all are equal, otherwise nested lists."""
    is_common = bound.size > 0 and bool((bound == bound.flat[0]).all())
    return bound.flat[0].item() if is_common else bound.tolist()
