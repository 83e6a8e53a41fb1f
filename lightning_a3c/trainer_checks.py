"""Refusing trainers that an `A3CModule` cannot learn with, in one line each."""

from __future__ import annotations

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

# true 16 bits would round what workers report too, the returns of episodes; 16-mixed scales losses, which workers in
# gradient mode never see and fused optimizers unscale only after gradients are clipped
_PRECISIONS = ("32-true", "bf16-mixed")

_NO_ACCUMULATION = "weights are published and versions counted once a batch: remove it, and raise data.batch_size"


def require_fitting_trainer(trainer: pl.Trainer) -> None:
    """Raise MisconfigurationException for an option or callback of `trainer` that does not go with collectors."""
    require_one_learner(trainer)
    if (trainer.gradient_clip_val or 0) < 0:
        raise MisconfigurationException(f"trainer.gradient_clip_val must be >= 0, got {trainer.gradient_clip_val}")
    precision = trainer.precision_plugin.precision
    if precision not in _PRECISIONS:
        raise MisconfigurationException(
            f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {precision}: weights are float32, "
            "and losses are not scaled"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise MisconfigurationException(
                f"{type(callback).__name__} tries batches of a data set; data.batch_size and optimizer.lr are part "
                "of how an agent learns here: remove it, and compare whole runs instead"
            )
        if isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches():
            raise MisconfigurationException(f"{type(callback).__name__} accumulates gradients; {_NO_ACCUMULATION}")
    if trainer.accumulate_grad_batches != 1:
        raise MisconfigurationException(
            f"trainer.accumulate_grad_batches must be 1, got {trainer.accumulate_grad_batches}; {_NO_ACCUMULATION}"
        )


def require_one_learner(trainer: pl.Trainer) -> None:
    """Raise MisconfigurationException where there would be several, and end those that Lightning has started already.

    Lightning starts them before any hook, and none has come as far as importing the script when the first hook runs.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher) and trainer.num_devices == 1:
        raise MisconfigurationException(
            "trainer.strategy starts the learner in a process of its own, from which no result comes back; use auto"
        )
    if trainer.world_size <= 1 and trainer.num_devices * trainer.num_nodes <= 1:
        return
    started = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        process.kill()
        process.wait()
    started.clear()  # or Lightning would end this process for what became of them
    raise MisconfigurationException(
        f"trainer.devices × trainer.num_nodes must be 1, got {trainer.num_devices} × {trainer.num_nodes}: "
        "there is one learner, on one device; data.num_workers uses more cores"
    )
