"""The policy lag of each source of experience over the last updates. Knows no loss and no environment."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_a3c.rl.types import Batch

_UPDATES = 50  # over which lags are averaged


class Sources(NamedTuple):
    """What experience comes from: on Ray actors, otherwise learners with their workers."""

    kind: str  # "actor" or "learner"
    collectors: int  # of each source
    per_learner: int


_ONE = Sources("learner", 1, 1)


class SourceLags:
    """Tells the mean lag of the collector whose messages are the oldest, and of each source if there are several.

    Sources are numbered through all learners.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=_UPDATES)  # collectors and lags, int64 [k] each
        self._sources = _ONE
        self._are_several = False

    def begin(self, trainer: pl.Trainer) -> None:
        """Training begins."""
        self._recent.clear()
        self._sources = getattr(getattr(trainer, "datamodule", None), "sources", _ONE)
        self._are_several = self._sources.per_learner * trainer.world_size > 1

    def update(self, batch: Batch) -> None:
        """Note the lags of an update."""
        self._recent.append((batch.stats.collector, batch.policy_lag))

    def metrics(self) -> dict[str, float]:
        """The values to log."""
        collectors, lags = (torch.cat(part).cpu().numpy() for part in zip(*self._recent, strict=True))
        metrics = {"policy_lag_worst": max(_means(collectors, lags).values())}
        if self._are_several:
            means = _means(collectors // self._sources.collectors, lags)
            metrics |= {f"policy_lag/{self._sources.kind}_{number}": mean for number, mean in means.items()}
        return metrics


def _means(groups: np.ndarray, values: np.ndarray) -> dict[int, float]:
    """The mean of the values of each group that has any."""
    counts, sums = np.bincount(groups), np.bincount(groups, weights=values)
    return {int(group): float(sums[group] / counts[group]) for group in np.flatnonzero(counts)}
