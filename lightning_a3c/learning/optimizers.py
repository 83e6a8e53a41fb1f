"""Building optimizer and schedule from their specs, and resuming a checkpoint with changed specs.

Knows no trainer and no environment.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_a3c.rl.networks import instantiate

DEFAULT_OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "eps": 1e-3, "fused": True}}

_PLATEAU_MEMORY = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class Specs(NamedTuple):
    """Optimizer and schedule, each as `{"class_path": …, "init_args": {…}}`."""

    optimizer: dict[str, Any]
    lr_scheduler: dict[str, Any] | None

    def build(self, parameters: Iterable[nn.Parameter]) -> tuple[Optimizer, LRScheduler | None]:
        """The optimizer of `parameters` and its schedule, if it has one.

        Raises:
            ValueError: one of them cannot be built.
        """
        optimizer: Optimizer = instantiate(self.optimizer, list(parameters))
        return optimizer, None if self.lr_scheduler is None else instantiate(self.lr_scheduler, optimizer)


class Changes(NamedTuple):
    """How the current specs differ from those of a checkpoint."""

    differences: list[str]
    starts_afresh: bool
    """The optimizer cannot use the moments in the checkpoint."""


def specs_of(hyperparameters: Mapping[str, Any]) -> Specs:
    """The specs in the hyper-parameters of a module."""
    return Specs(hyperparameters["optimizer"] or DEFAULT_OPTIMIZER, hyperparameters.get("lr_scheduler"))


def monitor_of(scheduler: object) -> str | None:
    """The metric that a schedule watches; None if it counts updates."""
    monitor: str | None = getattr(scheduler, "monitor", None)
    return monitor


def follow(checkpoint: dict[str, Any], theirs: Specs, ours: Specs) -> Changes:
    """Change `checkpoint`, trained with the specs `theirs`, so that it resumes with the specs `ours`.

    The optimizer keeps its moments unless its class, or the state it keeps per parameter, changes. A schedule that
    counts updates is advanced to the checkpoint's update; a plateau schedule keeps its memory. A checkpoint stays as it
    is if nothing differs, or if its optimizers were not built from specs.

    Raises:
        ValueError: `ours` cannot be built, or its schedule is shorter than the checkpoint's run.
    """
    states = checkpoint["optimizer_states"]
    if len(states) != 1 or len(states[0]["param_groups"]) != 1:
        return Changes([], False)
    (saved_group,) = states[0]["param_groups"]
    old, _ = _try_build(theirs._replace(lr_scheduler=None))
    _, old_schedule = _try_build(ours._replace(lr_scheduler=theirs.lr_scheduler))
    new, schedule = ours.build(_one_parameter())
    differences = _optimizer_differences(theirs, old, new) + _schedule_differences(old_schedule, schedule)
    if not differences:
        return Changes([], False)

    starts_afresh = type(old) is not type(new) or not _kept(ours) <= _kept(theirs)
    if starts_afresh:
        states[0]["state"] = {}
    schedules = []
    if isinstance(schedule, ReduceLROnPlateau):
        schedules = [schedule.state_dict()]
        if old is not None and old.defaults["lr"] == new.defaults["lr"] and isinstance(old_schedule, type(schedule)):
            new.param_groups[0]["lr"] = saved_group["lr"]  # lowered so far
            schedules[0]["_last_lr"] = [saved_group["lr"]]
        if _watches(schedule) == _watches(old_schedule) and checkpoint["lr_schedulers"]:
            schedules[0] |= {name: checkpoint["lr_schedulers"][0][name] for name in _PLATEAU_MEMORY}
    elif schedule is not None:
        if monitor_of(schedule) is None:
            _fast_forward(new, schedule, checkpoint["global_step"])
        schedules = [schedule.state_dict()]
    checkpoint["lr_schedulers"] = schedules
    states[0]["param_groups"] = [new.param_groups[0] | {"params": saved_group["params"]}]
    return Changes(differences, starts_afresh)


def _one_parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def _try_build(specs: Specs) -> tuple[Optimizer | None, LRScheduler | None]:
    """Like `build`, but None if a class is gone or does not fit the others."""
    try:
        return specs.build(_one_parameter())
    except ValueError:
        return None, None


def _optimizer_differences(theirs: Specs, old: Optimizer | None, new: Optimizer) -> list[str]:
    if old is None or type(old) is not type(new):
        return [f"optimizer {theirs.optimizer['class_path'] if old is None else _name(old)} → {_name(new)}"]
    return _differences(f"{_name(new)} ", old.defaults, new.defaults)


def _schedule_differences(old: LRScheduler | None, new: LRScheduler | None) -> list[str]:
    if type(old) is not type(new):
        return [f"lr_scheduler {_name(old)} → {_name(new)}"]
    if old is None or new is None or (then := old.state_dict()) == (now := new.state_dict()):
        return []
    named = [{name: value for name, value in state.items() if name[0] != "_"} for state in (then, now)]
    return _differences(f"{_name(new)} ", *named) or [f"lr_scheduler {_name(new)} with other arguments"]


def _differences(prefix: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [f"{prefix}{name} {old.get(name)} → {new[name]}" for name in new if old.get(name) != new[name]]


def _name(thing: object) -> str:
    return "none" if thing is None else type(thing).__name__


def _watches(schedule: object) -> tuple[str | None, str | None]:
    return monitor_of(schedule), getattr(schedule, "mode", None)


def _kept(specs: Specs) -> set[str]:
    """Names of the state that the optimizer keeps per parameter."""
    optimizer, _ = specs._replace(lr_scheduler=None).build(parameters := _one_parameter())
    parameters[0].grad = torch.zeros(1)
    optimizer.step(lambda: 0.0)
    return set(optimizer.state[parameters[0]])


def _fast_forward(optimizer: Optimizer, schedule: LRScheduler, updates: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the optimizer, which is not stepped here, and about deprecated calls
        try:
            for _ in range(updates):
                schedule.step()
        except ValueError as error:
            raise ValueError(f"lr_scheduler {_name(schedule)} does not reach update {updates}: {error}") from error
