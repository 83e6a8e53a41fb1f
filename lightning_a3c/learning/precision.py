"""The learner's precision, chosen for the machine: a plugin of Lightning's trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.plugins.precision import Precision
from torch import nn

from lightning_a3c.system.processor import computes_in_bf16


class AutoPrecision(Precision):
    """As `trainer.precision: bf16-mixed` for a learner on a CPU that computes in bfloat16, as 32-true for any other.

    Goes with `data.worker_precision: auto`, which decides likewise for the workers. Lightning refuses it together with
    `trainer.precision`.

    >>> trainer = pl.Trainer(plugins=[AutoPrecision()], max_steps=1)
    """

    def __repr__(self) -> str:
        return "AutoPrecision()"  # Lightning shows it in errors

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Decide, now that the learner's device is known."""
        assert isinstance(module, pl.LightningModule)
        is_on_cpu = module.trainer.strategy.root_device.type == "cpu"
        self.precision = "bf16-mixed" if is_on_cpu and computes_in_bf16() else "32-true"
        rank_zero_info(f"trainer precision auto: {self.precision}")
        return module

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            yield
