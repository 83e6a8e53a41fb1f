"""Lightning callbacks that end training. Each has one concern."""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_a3c.learning.module import A3CModule, require_a3c
from lightning_a3c.learning.progress import WINDOW
from lightning_a3c.rl.types import Batch


class StopWhenSolved(pl.Callback):
    """Stop when the mean return of the last 100 episodes exceeds `bound`, and save `solved.ckpt`.

    Only complete, unclipped episodes count, pooled over all workers, and only once there are 100.

    Args:
        bound: the mean must be above it.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        require_a3c(self, pl_module)
        self._has_stopped = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        progress = pl_module.progress
        if len(progress.returns) < WINDOW or progress.mean_return is None or progress.mean_return <= self.bound:
            return
        if self._has_stopped:
            return  # training goes on until min_steps or min_epochs
        trainer.should_stop = self._has_stopped = True
        frames = progress.env_steps * pl_module.frame_skip
        rank_zero_info(
            f"Solved: mean return of {WINDOW} episodes {progress.mean_return:.2f} > {self.bound:g} after "
            f"{progress.env_steps:,} env steps, {frames:,} frames, {trainer.global_step:,} updates and "
            f"{timedelta(seconds=round(progress.train_seconds))} of training"
        )
        checkpoints = trainer.checkpoint_callback
        folder = getattr(checkpoints, "dirpath", None) or trainer.log_dir or trainer.default_root_dir
        trainer.save_checkpoint(Path(folder) / "solved.ckpt", weights_only=False)  # Lightning logs an unset value


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
        require_a3c(self, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        if pl_module.progress.env_steps >= self.env_steps and not trainer.should_stop:
            trainer.should_stop = True
            rank_zero_info(f"Stopped after {pl_module.progress.env_steps:,} env steps")


class StopOnSignal(pl.Callback):
    """End training orderly at SIGUSR1 too, by which SLURM announces a time limit; a second Ctrl-C ends it at once.

    Lightning itself stops at SIGTERM and Ctrl-C, after hooks such as that of `ModelCheckpoint(save_on_exception=True)`.
    It handles SIGUSR1 only where it requeues SLURM jobs.
    """

    def __init__(self) -> None:
        self.received = signal.SIGTERM
        """The signal that ended training."""
        self._previous: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning's handler logs before it notes SIGTERM. If it interrupts the writing of another log line, Python
        # raises, logging swallows the error, and the signal is lost.
        logging.getLogger("pytorch_lightning.trainer.connectors.signal_connector").setLevel(logging.WARNING)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            self._previous = signal.signal(signal.SIGUSR1, self._stop)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Lightning would ignore a second one

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGUSR1, self._previous)
            self._previous = None

    def _stop(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number)
        os.kill(os.getpid(), signal.SIGTERM)  # which Lightning handles
