"""The callback that `ours.py` adds to a run of the command line."""

from __future__ import annotations

from typing import Any, ClassVar

import pytorch_lightning as pl
from reporting import Run, num_parameters

from lightning_a3c import A3CModule


class Ticker(pl.Callback):
    """Tells `run` of every update; the command line makes the instance, so that what it needs belongs to the class."""

    run: ClassVar[Run]
    parameters: ClassVar[int]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Ticker.parameters = num_parameters(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        progress = pl_module.progress
        if self.run.tick(progress.env_steps, lambda: list(progress.returns)):
            trainer.should_stop = True
