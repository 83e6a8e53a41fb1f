"""Lightning callbacks that steer training, one concern each: when it stops, how gradients are applied."""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from lightning_a3c.data import CollectorDataModule
from lightning_a3c.module import A3CModule, NonFiniteLoss
from lightning_a3c.payloads import SendGradients, clip_scale, differentiable
from lightning_a3c.progress import WINDOW
from lightning_a3c.types import Batch, Gradients


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
        self._has_stopped = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        progress = pl_module.progress
        if len(progress.returns) < WINDOW or progress.mean_return is None or progress.mean_return <= self.bound:
            return
        if self._has_stopped:
            return  # training goes on until it has had its min_steps or min_epochs
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
        _require_a3c(self, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        if pl_module.progress.env_steps >= self.env_steps:
            trainer.should_stop = True


class StopOnSignal(pl.Callback):
    """End training orderly at SIGUSR1 too, which SLURM and others announce an end with, and at a second Ctrl-C at once.

    Lightning itself stops at SIGTERM and at Ctrl-C, after `on_exception` hooks such as that of
    `ModelCheckpoint(save_on_exception=True)`; at SIGUSR1 only where it requeues SLURM jobs by itself.
    """

    def __init__(self) -> None:
        self.received = signal.SIGTERM
        """The signal that ended training."""
        self._previous: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning's handler logs before it takes note of SIGTERM. Where that interrupts the writing of another log
        # line, Python raises, logging swallows the error, and the signal would be lost.
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
        os.kill(os.getpid(), signal.SIGTERM)  # Lightning's way out


class GradientParallel(pl.Callback):
    """Gradient parallelism: workers differentiate, this sums, clips and hands over their gradients.

    For an `A3CModule(mode="gradient")` trained on a `CollectorDataModule`. Each worker computes the
    combined loss's gradient on `micro_batch_size` transitions and clips it to `worker_max_norm`;
    `batch_size / micro_batch_size` of them are summed, the sum is clipped to `max_norm` and put into
    `.grad`; the module's `training_step` then steps the optimizer, where Lightning counts it.

    The sum of k means over m transitions is k times the mean over k·m transitions that data mode
    uses. The seed sums too; where the clip binds, as it nearly always does at 0.1, the factor is gone.

    A gradient with NaN or infinite entries is dropped and counted. The sum is made in the batch's own memory.

    Parameters may be frozen and unfrozen between updates, as `BaseFinetuning` does: workers differentiate those that
    are trained at their weights' version, and a parameter gets its gradient if it is trained when that arrives.

    >>> callback = GradientParallel(max_norm=0.1)

    Args:
        max_norm: L2 norm the sum is clipped to, > 0.
        worker_max_norm: L2 norm each worker clips its gradient to, > 0.
        max_dropped_in_a_row: this many dropped gradients with no good one between them end training.
    """

    def __init__(self, max_norm: float = 0.1, worker_max_norm: float = 0.1, max_dropped_in_a_row: int = 10) -> None:
        for name, value in (("max_norm", max_norm), ("worker_max_norm", worker_max_norm)):
            if not value > 0:
                raise ValueError(f"GradientParallel.{name} must be > 0, got {value}")
        if max_dropped_in_a_row < 1:
            raise ValueError(f"GradientParallel.max_dropped_in_a_row must be >= 1, got {max_dropped_in_a_row}")
        self.max_norm = max_norm
        self.worker_max_norm = worker_max_norm
        self.max_dropped_in_a_row = max_dropped_in_a_row
        self.dropped_gradients = 0
        self._dropped_in_a_row = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if stage == "fit" and not isinstance(data, CollectorDataModule):
            raise MisconfigurationException(
                f"GradientParallel tells a CollectorDataModule what its workers send, got {type(data).__name__}; "
                "call trainer.fit(module, datamodule=CollectorDataModule(...))"
            )

    def payload_maker(self, trainer: pl.Trainer) -> SendGradients:
        """What the workers of `trainer` send; refuses a trainer or module that cannot make use of it."""
        module = trainer.lightning_module
        _require_a3c(self, module)
        assert isinstance(module, A3CModule)
        if module.automatic_optimization:
            raise MisconfigurationException(
                'GradientParallel needs A3CModule(mode="gradient"), got a module that optimizes automatically; '
                "set model.mode to gradient or remove the callback"
            )
        complex_ones = [name for name, parameter in module.net.named_parameters() if parameter.is_complex()]
        if complex_ones:
            raise MisconfigurationException(
                f'gradients of complex parameters ({", ".join(complex_ones)}) cannot be sent; use mode="data"'
            )
        return SendGradients(module.loss, self.worker_max_norm)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        gradients = batch.payload
        assert isinstance(gradients, Gradients)
        parameters = differentiable(pl_module.net)
        self._require_trained(parameters, gradients)
        finite = gradients.norm.isfinite()  # as the gradients themselves are
        total = _sum_in_place(gradients.gradient, finite)
        pieces = torch.split(total, [parameter.numel() for parameter in parameters])
        used = gradients.used[finite].any(dim=0).tolist()
        for parameter, piece, is_used in zip(parameters, pieces, used, strict=True):
            if is_used and not parameter.requires_grad:
                piece.zero_()  # frozen after a worker differentiated it
        norm = torch.linalg.vector_norm(total)
        finite &= norm.isfinite().cpu()
        self._count_dropped(gradients, finite)
        if not finite.any():
            pl_module.update_log.keep("gradients", lambda: {"dropped_gradients": float(self.dropped_gradients)})
            for parameter in parameters:
                parameter.grad = None
            return
        total.mul_(clip_scale(norm, self.max_norm))
        for parameter, piece, is_used in zip(parameters, pieces, used, strict=True):
            is_trained = is_used and parameter.requires_grad
            parameter.grad = piece.view_as(parameter).to(parameter.dtype) if is_trained else None
        worker_norms = gradients.norm  # by itself: the sum's memory is free before the next batch

        def find() -> dict[str, float | Tensor]:
            return {
                "dropped_gradients": float(self.dropped_gradients),
                "grad_norm": norm,
                "worker_grad_norm": worker_norms[finite].mean(),
            }

        pl_module.update_log.keep("gradients", find)

    def state_dict(self) -> dict[str, Any]:
        return {"dropped_gradients": self.dropped_gradients}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.dropped_gradients = state_dict["dropped_gradients"]

    def _require_trained(self, parameters: list[torch.nn.Parameter], gradients: Gradients) -> None:
        if gradients.used.shape[1] != len(parameters):
            raise MisconfigurationException(
                f"the network has {len(parameters)} parameters, and had {gradients.used.shape[1]} when training began; "
                "freeze and unfreeze them instead, and add or replace them between two fits"
            )
        if not any(parameter.requires_grad for parameter in parameters):
            raise MisconfigurationException("all parameters of the network are frozen, so there is nothing to train")

    def _count_dropped(self, gradients: Gradients, finite: Tensor) -> None:
        for is_finite, worker in zip(finite.tolist(), gradients.worker.tolist(), strict=True):
            if is_finite:
                self._dropped_in_a_row = 0
                continue
            self.dropped_gradients += 1
            self._dropped_in_a_row += 1
            if self._dropped_in_a_row >= self.max_dropped_in_a_row:
                raise NonFiniteLoss(
                    f"{self._dropped_in_a_row} gradients in a row had NaN or infinite entries, the last from worker "
                    f"{worker}; lower the learning rate or check the environment's rewards and observations"
                )


def _sum_in_place(gradients: Tensor, finite: Tensor) -> Tensor:
    """The sum of the `finite` rows of [k, P], or of all if none is; it lies where one of them lay."""
    total: Tensor
    total, *others = [row for row, is_finite in zip(gradients, finite.tolist(), strict=True) if is_finite] or gradients
    for row in others:
        total += row
    return total


def _require_a3c(callback: pl.Callback, module: pl.LightningModule) -> None:
    if not isinstance(module, A3CModule):
        raise MisconfigurationException(
            f"{type(callback).__name__} reads the progress of an A3CModule, got {type(module).__name__}; remove it"
        )
