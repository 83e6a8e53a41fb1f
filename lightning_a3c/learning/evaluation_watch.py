"""Signals, warnings and progress while Lightning evaluates. Knows no policy."""

from __future__ import annotations

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c.learning.evaluation import EvaluationProgress


class EvaluationWatch:
    """Called by an `EvaluationDataset` after each step; calls `on_evaluation_step(trainer, progress)` of callbacks.

    Args:
        trainer: runs the evaluation.
        max_steps: env steps after which an episode is cut off.
    """

    def __init__(self, trainer: pl.Trainer, max_steps: int) -> None:
        self._trainer = trainer
        self._max_steps = max_steps
        self._has_warned = False
        self._listeners = [
            callback.on_evaluation_step
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if hasattr(callback, "on_evaluation_step")
        ]

    def __call__(self, progress: EvaluationProgress) -> None:
        """Raise SIGTERMException once the trainer was told to end; Lightning itself checks only between episodes."""
        if self._trainer.received_sigterm:
            raise SIGTERMException
        if progress.cut and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"an episode did not end within data.eval_max_steps ({self._max_steps:,}) env steps: it is cut off and "
                "counts with its return so far, as will others; raise data.eval_max_steps to play longer"
            )
        for listener in self._listeners:
            listener(self._trainer, progress)
