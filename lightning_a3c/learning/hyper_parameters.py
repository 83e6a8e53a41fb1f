"""Hyper-parameters as loggers take them: plain values. Knows no logger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

INTERNAL = ("_class_path", "_instantiator")
"""Entries that Lightning's command line adds for itself."""


def plain(value: Any) -> Any:
    """A copy of numbers, texts, lists and dicts, which every logger takes and YAML writes without tags.

    >>> plain({"shape": (4, np.int64(2)), "path": PurePath("a/b"), "norm": np.float32(0.5)})
    {'shape': [4, 2], 'path': 'a/b', 'norm': 0.5}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, str | PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)
