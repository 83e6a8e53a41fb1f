"""Lightning callbacks, one concern each: stopping, and gradient parallelism."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_info

from lightning_a3c.module import A3CModule
from lightning_a3c.progress import WINDOW
from lightning_a3c.types import Batch


class StopWhenSolved(pl.Callback):
    """Stop when the mean return of the last 100 episodes exceeds `bound`, and save `solved.ckpt`.

    Only complete, unclipped episodes count, pooled over all workers, and only once there are 100.

    Args:
        bound: the mean must be above it.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        _require_a3c(self, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        progress = pl_module.progress
        if len(progress.returns) < WINDOW or progress.mean_return is None or progress.mean_return <= self.bound:
            return
        trainer.should_stop = True
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
        frames = progress.env_steps * pl_module.frame_skip
        rank_zero_info(
            f"Solved: mean return of {WINDOW} episodes {progress.mean_return:.2f} > {self.bound:g} after "
            f"{progress.env_steps:,} env steps, {frames:,} frames, {trainer.global_step:,} updates and "
            f"{timedelta(seconds=round(progress.train_seconds))} of training"
        )
        checkpoints = trainer.checkpoint_callback
        folder = getattr(checkpoints, "dirpath", None) or trainer.log_dir or trainer.default_root_dir
        trainer.save_checkpoint(Path(folder) / "solved.ckpt")


class StopAfterEnvSteps(pl.Callback):
    """Stop once `env_steps` environment steps have been taken, earlier runs of a resumed one included.

    Args:
        env_steps: all environments of all workers together, >= 1.
    """

    def __init__(self, env_steps: int) -> None:
        if env_steps < 1:
            raise ValueError(f"StopAfterEnvSteps.env_steps must be >= 1, got {env_steps}")
        self.env_steps = env_steps

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        _require_a3c(self, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        if pl_module.progress.env_steps >= self.env_steps:
            trainer.should_stop = True


def _require_a3c(callback: pl.Callback, module: pl.LightningModule) -> None:
    if not isinstance(module, A3CModule):
        raise MisconfigurationException(
            f"{type(callback).__name__} reads the progress of an A3CModule, got {type(module).__name__}; remove it"
        )
