"""The learner's precision, chosen for the machine: a plugin of Lightning's trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.plugins.precision import Precision

from lightning_a3c.processor import computes_in_bf16


class AutoPrecision(Precision):
    """As `trainer.precision: bf16-mixed` where the processor computes in bfloat16, as 32-true elsewhere and on a GPU.

    Goes with `data.worker_precision: auto`, which decides likewise for the workers. Lightning refuses it together with
    `trainer.precision`.

    >>> trainer = pl.Trainer(plugins=[AutoPrecision()], max_steps=1)
    """

    def __init__(self) -> None:
        self.precision = "bf16-mixed" if computes_in_bf16() else "32-true"
        rank_zero_info(f"trainer precision auto: {self.precision}")

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            yield
