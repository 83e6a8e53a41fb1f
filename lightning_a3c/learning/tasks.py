"""Reading tasks as `Task.to_dict` gives them, the form that checkpoints keep. Knows no environment and no Lightning."""

from __future__ import annotations

import math
from typing import Any

from lightning_a3c.rl.networks import Bounds

TaskDict = dict[str, Any]

BOUNDS = ("observation_low", "observation_high")  # absent from checkpoints made before tasks had them


def observation_bounds(task: TaskDict | None) -> Bounds | None:
    """The bounds that all elements share: infinite if they share none, None if the task does not say."""
    if task is None or not all(name in task for name in BOUNDS):
        return None
    low, high = (task[name] for name in BOUNDS)
    return (-math.inf, math.inf) if low is None or high is None else (low, high)


def with_bounds_of(task: TaskDict, other: TaskDict | None) -> TaskDict:
    """`task` with the observation bounds of `other`, which may have none."""
    bounds = {name: value for name, value in (other or {}).items() if name in BOUNDS}
    return {name: value for name, value in task.items() if name not in BOUNDS} | bounds
