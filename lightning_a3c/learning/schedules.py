"""Learning-rate schedules: those that count updates, and those that watch a metric at the end of an epoch.

Lightning steps the schedules of automatic optimization. It steps none in gradient mode, and skips a metric's schedule
at the epoch in which a run resumes; those steps are made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_a3c.learning.optimizers import monitor_of

StepSchedule = Callable[[Any, Tensor | None], None]
"""The hook `lr_scheduler_step`: a schedule, and the metric that it watches or None."""


def schedule_config(schedule: LRScheduler, is_automatic: bool) -> LRSchedulerConfigType:
    """When `schedule` is stepped, for `configure_optimizers`.

    Raises:
        ValueError: it needs a metric and names none.
    """
    monitor = monitor_of(schedule)
    if monitor is None and isinstance(schedule, ReduceLROnPlateau):
        raise ValueError(
            "lr_scheduler ReduceLROnPlateau has no monitor; use the class path "
            "pytorch_lightning.cli.ReduceLROnPlateau with monitor among its init_args"
        )
    config: LRSchedulerConfigType = {"scheduler": schedule, "interval": "step" if monitor is None else "epoch"}
    if monitor is not None and is_automatic:
        config["reduce_on_plateau"] = False  # so that Lightning leaves it to `EpochSchedules`
    return config


def step_schedule(schedule: Any, metric: Any | None, update: int, has_episodes: bool) -> None:
    """Step a schedule that counts updates if `metric` is None, and one that watches a metric otherwise.

    Raises:
        MisconfigurationException: the schedule has come to its end.
    """
    try:
        if metric is None:
            if monitor_of(schedule) is None:
                schedule.step()
        elif has_episodes or math.isfinite(metric):  # before the first episode ends, no epoch is bad
            schedule.step(metric)
    except ValueError as error:  # OneCycleLR that has come to its end, say
        raise MisconfigurationException(
            f"lr_scheduler {type(schedule).__name__} cannot be stepped at update {update}: {error}"
        ) from error


def step_counting_schedules(trainer: pl.Trainer, step: StepSchedule, interval: str, index: int) -> None:
    """Step the schedules whose interval ended with `index`, as Lightning does in automatic optimization."""
    for config in trainer.lr_scheduler_configs:
        if config.interval != interval or (index + 1) % config.frequency:
            continue
        if not isinstance(config.scheduler, ReduceLROnPlateau):  # those need a metric
            step(config.scheduler, None)


class EpochSchedules:
    """Steps schedules at the end of each epoch exactly once, however often a run is saved and resumed there.

    Resuming from the last update of an epoch, Lightning may repeat or skip the end of that epoch.
    """

    def __init__(self) -> None:
        self._ended_at = -1  # the batch after which the last epoch ended

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Whether this batch ends an epoch that has not been ended yet."""
        return trainer.is_last_batch and trainer.fit_loop.total_batch_idx != self._ended_at

    def end_epoch(self, trainer: pl.Trainer, step: StepSchedule) -> None:
        """Step what Lightning leaves out.

        Raises:
            MisconfigurationException: a schedule watches a metric that is not logged.
        """
        self._ended_at = trainer.fit_loop.total_batch_idx
        if not trainer.lightning_module.automatic_optimization:
            step_counting_schedules(trainer, step, "epoch", trainer.current_epoch)
        for config in trainer.lr_scheduler_configs:
            monitor, metrics = monitor_of(config.scheduler), trainer.callback_metrics
            if monitor is None or config.reduce_on_plateau:  # Lightning steps those
                continue
            if monitor not in metrics:
                raise MisconfigurationException(
                    f"lr_scheduler.monitor {monitor} is not logged; take one of {', '.join(metrics)}"
                )
            step(config.scheduler, metrics[monitor])

    def state_dict(self, trainer: pl.Trainer) -> dict[str, Any]:
        return {"ended_at": self._ended_at, "is_epoch_end_due": self.is_due(trainer)}

    def resume(self, state: dict[str, Any], trainer: pl.Trainer, step: StepSchedule) -> None:
        """Go on from the `state_dict` in a checkpoint, {} for none, and end the epoch if that is due."""
        self._ended_at = state.get("ended_at", -1)
        if state.get("is_epoch_end_due"):
            self.end_epoch(trainer, step)
