"""TensorBoard with metrics in a handful of sections. The only place where a metric has another name than its key."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

SECTIONS = {
    "episode": ("return", "return_100", "episode_length", "episodes"),
    "collection": (
        *("env_steps", "frames", "train_seconds", "steps/s", "policy_lag", "policy_lag_worst"),
        *("queue_fill", "worker_restarts", "epoch"),
    ),
    "loss": ("loss_total", "loss_policy", "loss_value", "loss_entropy"),
    "policy": ("entropy", "policy_kl", "importance_ratio", "clipped_ratios"),
    "critic": ("advantage", "value", "batch_return", "explained_variance"),
    "optimizer": ("grad_norm", "worker_grad_norm", "skipped_updates", "dropped_gradients"),
}
"""The keys of docs/metrics.md by section. Keys with a prefix of their own, such as `val/return_mean`, stay."""

_SECTION_OF = {key: section for section, keys in SECTIONS.items() for key in keys}
_RATE = "lr-"  # begins what Lightning's LearningRateMonitor logs


def tag_of(key: str) -> str:
    """The tag in TensorBoard of a logged key; a key that is not this package's keeps its name.

    >>> tag_of("return_100"), tag_of("steps/s"), tag_of("val/return_mean")
    ('episode/return_100', 'collection/steps/s', 'val/return_mean')
    """
    section = "optimizer" if key.startswith(_RATE) else _SECTION_OF.get(key)
    return f"{section}/{key}" if section else key


class GroupedTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoardLogger with a section for each kind of metric, where that has one for almost each metric.

    Monitors, progress bars and other loggers keep the keys. TensorBoard's table of hyper-parameters shows `return_100`.
    Takes the arguments of Lightning's.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        tags = {tag_of(key): value for key, value in metrics.items()}
        # before the first episode ends, returns are NaN, which TensorBoard would draw
        super().log_metrics(
            {tag: value for tag, value in tags.items() if not (tag.startswith("episode/") and math.isnan(value))}, step
        )

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log hyper-parameters, by default beside the column `return_100`, which is filled while training goes on."""
        super().log_hyperparams(params, {tag_of("return_100"): math.nan} if metrics is None else metrics, step)
