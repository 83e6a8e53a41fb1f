"""Telling the process that started a run how it goes. Knows no process."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_a3c.learning.module import A3CModule
from lightning_a3c.learning.progress import WINDOW
from lightning_a3c.learning.stopping import StopWhenSolved


class RunFeed(pl.Callback):
    """Appends the run's progress to a file after each epoch and at the end, one JSON object a line.

    Args:
        path: an existing file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, **facts: Any) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell_progress(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell_progress(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._tell_progress(trainer, pl_module)

    def _tell_progress(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, A3CModule)
        bounds = [callback.bound for callback in _callbacks(trainer) if isinstance(callback, StopWhenSolved)]
        mean = module.progress.mean_return
        self.tell(
            env_steps=module.progress.env_steps,
            return_100=mean,
            minutes=module.progress.train_seconds / 60,
            is_solved=mean is not None
            and len(module.progress.returns) == WINDOW
            and mean > min(bounds, default=math.inf),
        )


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks
