"""The private names of Lightning that have no public counterpart, all in one place.

Tested with pytorch-lightning 2.6.6. When an upgrade changes one of them, tests/test_lightning_internals.py fails first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher


def starts_learner_elsewhere(trainer: pl.Trainer) -> bool:
    """Whether the strategy forks or spawns the learner, as `ddp_spawn` and `ddp_notebook` do."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def timeout_of(trainer: pl.Trainer) -> timedelta:
    """How long collectives of DDP wait, as its argument `timeout` says."""
    timeout: timedelta = trainer.strategy._timeout  # type: ignore[attr-defined]
    return timeout


def finds_unused_parameters(trainer: pl.Trainer) -> bool:
    """Whether DDP is to look for parameters that the loss does not depend on."""
    options: dict[str, Any] = trainer.strategy._ddp_kwargs  # type: ignore[attr-defined]
    return bool(options.get("find_unused_parameters")) or bool(options.get("static_graph"))


def receive_sigterm(trainer: pl.Trainer) -> None:
    """Let Lightning end training after this batch, as it does once its own handler has seen SIGTERM."""
    trainer._signal_connector.received_sigterm = True


def leave_out_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Spare each batch the collective by which the first learner tells the others of SIGTERM.

    On a GPU the learner would wait there until all that it has computed is done.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def loggers_are_due(trainer: pl.Trainer) -> bool:
    """Whether Lightning passes what this batch logs on to the loggers."""
    return bool(trainer._logger_connector.should_update_logs)


def logger_step(trainer: pl.Trainer) -> int:
    """The x-axis that Lightning gives loggers: batches of training, whatever the optimizer did."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


@contextmanager
def logging_as(module: pl.LightningModule, hook: str) -> Iterator[None]:
    """Log as if from `hook`: Lightning keeps a metric once per hook, and may take an older one for the newest."""
    before, module._current_fx_name = module._current_fx_name, hook
    try:
        yield
    finally:
        module._current_fx_name = before
