"""How a module follows the task that the data module plays: its spaces, and what counts as one run.

Knows no environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_a3c.learning.progress import Progress
from lightning_a3c.learning.tasks import BOUNDS, TaskDict


def task_spaces(task: TaskDict) -> dict[str, Any]:
    """What of a task the network and the action distribution are made for, beyond shape and number of actions."""
    names = ("action_family", "observation_parts", "mask_part")
    return {name: as_in_files(task[name]) for name in names if task.get(name) is not None}


def require_same_spaces(hparams: Mapping[str, Any], task: TaskDict) -> None:
    """Raise MisconfigurationException unless a module with these hyper-parameters can play `task`."""
    own = task_spaces(hparams["task"] or {})
    if own != task_spaces(task):
        raise MisconfigurationException(
            f"the module was made for spaces {own or 'of one array and discrete actions'}, but {task['env_id']} has "
            f"{task_spaces(task) or 'observations of one array and discrete actions'}; make it with "
            "A3CModule.for_data(data)"
        )
    ours = tuple(hparams["observation_shape"]), int(hparams["num_actions"])
    theirs = tuple(task["observation_shape"]), task["num_actions"]
    if ours != theirs:
        raise MisconfigurationException(
            f"the module was made for observations {ours[0]} and {ours[1]} actions, but {task['env_id']} has "
            f"observations {theirs[0]} and {theirs[1]} actions; make it with A3CModule.for_data(data)"
        )


def task_changes(before: TaskDict, now: TaskDict, with_bounds: bool = False) -> list[str]:
    """The names of the fields that both tasks have and in which they differ."""
    return [
        name
        for name in now
        if name in before
        and (with_bounds or name not in BOUNDS)
        and as_in_files(before[name]) != as_in_files(now[name])
    ]


def count_anew(progress: Progress, before: TaskDict, now: TaskDict) -> None:
    """Count only episodes of the task `now` towards the mean, if a run goes on that played another one before."""
    changed = task_changes(before, now, with_bounds=True)
    if not changed or not progress.env_steps:
        return
    progress.reset_window()
    rank_zero_warn(
        "training goes on with another task ("
        + ", ".join(f"{name} {before[name]} → {now[name]}" for name in changed)
        + "): weights and counts are kept, and the mean of the last episodes starts anew"
    )


def as_in_files(value: Any) -> Any:
    """A copy with lists for tuples, as files hold them."""
    if isinstance(value, list | tuple):
        return [as_in_files(item) for item in value]
    return {name: as_in_files(item) for name, item in value.items()} if isinstance(value, dict) else value
