"""Logging the metrics of updates: only where someone reads them, and always those of the last update.

Knows no loss and no environment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from lightning_a3c.learning.lightning_internals import logger_step, loggers_are_due, logging_as
from lightning_a3c.learning.optimizers import monitor_of

Metrics = Mapping[str, float | Tensor]

OF_EPISODES = ("return", "return_100", "episode_length")
"""Metrics that have no value before the first episode ends."""

_ON_BAR = ("steps/s", "return_100")


class UpdateLog:
    """Logs the metrics of an update if anyone reads them. Otherwise keeps them, since the update may be the last.

    Twenty metrics cost a tenth of a small update, so metrics that nobody reads are not computed.
    """

    def __init__(self) -> None:
        self._found: dict[str, Callable[[], Metrics]] = {}  # of the last update, by source
        self._late: set[str] = set()  # sources that come after the rest was logged
        self._place = 0, 0  # step and epoch of the last update, as loggers count them
        self._is_logged = self._is_written = True  # whether callbacks and loggers have it
        self._logs_always = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_found": {}}  # copies of the module need no functions of old tensors

    def begin(self, trainer: pl.Trainer) -> None:
        """Training begins."""
        self._found = {}
        self._is_logged = self._is_written = True
        by_steps = (  # or by the clock
            checkpoint
            for checkpoint in trainer.checkpoint_callbacks
            if isinstance(checkpoint, ModelCheckpoint) and not checkpoint.every_n_epochs
        )
        self._logs_always = (
            trainer.val_check_batch is None  # validates by the clock
            or any(checkpoint.monitor or checkpoint.filename for checkpoint in by_steps)
            or any(config.interval == "step" and config.monitor for config in trainer.lr_scheduler_configs)
        )

    def is_seen(self, trainer: pl.Trainer) -> bool:
        """Whether anyone reads the metrics of this update, as far as that is known before it ends.

        Loggers read at their interval. Monitors read the first and last update of an epoch, the last before a
        validation and the last of training.
        """
        if trainer.barebones:
            return False
        if self._logs_always or loggers_are_due(trainer) or trainer.is_last_batch:
            return True
        loop = trainer.fit_loop.epoch_loop
        if loop.batch_idx == 0 or 0 < trainer.max_steps <= trainer.global_step + 1:
            return True
        assert trainer.val_check_batch is not None
        batches = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
        return (batches + 1) % trainer.val_check_batch == 0

    def keep(self, source: str, find: Callable[[], Metrics]) -> None:
        """Store the metrics of `source` for the current update."""
        self._found[source] = find

    def add(self, module: pl.LightningModule, source: str, find: Callable[[], Metrics]) -> None:
        """Store metrics that come after `log_if_seen`, and log them if the rest was logged."""
        self._found[source] = find
        self._late.add(source)
        if self._is_logged:
            _log(module, find())

    def log_if_seen(self, module: pl.LightningModule, is_seen: bool) -> None:
        """End the current update, except for what `add` brings later."""
        self._place = logger_step(module.trainer), module.current_epoch
        self._is_logged = False
        for source in self._late:  # of the update before
            self._found.pop(source, None)
        if is_seen:
            self._log_found(module)

    def end_batch(self, module: pl.LightningModule) -> None:
        """All callbacks have handled the update; one of them may have made it the last."""
        trainer = module.trainer
        self._is_written = loggers_are_due(trainer)
        if not self._is_logged and (self._is_written or trainer.received_sigterm):
            self._log_found(module)

    def end(self, module: pl.LightningModule) -> None:
        """Training ends: give callbacks and loggers the metrics of the last update that they lack."""
        trainer, (step, epoch) = module.trainer, self._place
        if trainer.barebones or not self._found:
            return
        if trainer.training:
            self._log_found(module)
            _ = trainer.callback_metrics  # once training is over, Lightning gives what was read last
        if not self._is_written and trainer.log_every_n_steps:  # type: ignore[attr-defined]
            metrics = {name: _number(value) for find in self._found.values() for name, value in find().items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics | {"epoch": epoch}, step)
                logger.save()
        self._is_written = True
        self._found = {}

    def _log_found(self, module: pl.LightningModule) -> None:
        for find in self._found.values():
            _log(module, find())
        self._is_logged = True


class EpisodeMetricGuard:
    """Lets checkpoints, early stopping and schedules monitor episode metrics before the first episode ends.

    Lightning raises if a monitored metric is missing, so it is NaN until then. Checkpoints treat NaN as the worst
    value; early stopping would end training, so it is held.
    """

    def __init__(self) -> None:
        self.awaited: frozenset[str] = frozenset()
        """The episode metrics that something monitors."""
        self._stoppers: list[tuple[EarlyStopping, bool]] = []  # each with its `check_finite`

    def begin(self, trainer: pl.Trainer) -> None:
        """Training begins."""
        stoppers = trainer.early_stopping_callbacks
        watchers = (*stoppers, *trainer.checkpoint_callbacks)
        monitors = {getattr(watcher, "monitor", None) for watcher in watchers}
        monitors |= {config.monitor or monitor_of(config.scheduler) for config in trainer.lr_scheduler_configs}
        self.awaited = frozenset(name for name in OF_EPISODES if name in monitors)
        self._stoppers = [(stopper, stopper.check_finite) for stopper in stoppers if stopper.monitor in OF_EPISODES]

    @property
    def placeholders(self) -> dict[str, float]:
        """Values to log while no episode has ended."""
        return dict.fromkeys(self.awaited, math.nan)

    def hold(self, until: bool) -> None:
        """Before early stopping checks: hold it until an episode has ended."""
        for stopper, check_finite in self._stoppers:
            stopper.check_finite = check_finite and until
            stopper.wait_count = max(0, stopper.wait_count) if until else -2  # the check adds one

    def end(self) -> None:
        """Training ends."""
        for stopper, check_finite in self._stoppers:
            stopper.check_finite, stopper.wait_count = check_finite, max(0, stopper.wait_count)
        self._stoppers = []


def _log(module: pl.LightningModule, metrics: Metrics) -> None:
    with logging_as(module, "training_step"):
        module.log_dict({name: value for name, value in metrics.items() if name not in _ON_BAR})
        module.log_dict({name: value for name, value in metrics.items() if name in _ON_BAR}, prog_bar=True)


def _number(value: float | Tensor) -> float:
    """As Lightning rounds what it logs."""
    return torch.as_tensor(value, dtype=torch.float32).item()
