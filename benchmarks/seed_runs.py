"""Training at the seed's constants, both modes, through a real Lightning trainer without logger or checkpoints."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, Supervision
from lightning_a3c.callbacks import GradientParallel
from lightning_a3c.types import Batch

CLIP_NORM = 0.1


class AfterUpdate(pl.Callback):
    """Call `function(module, batch)` after every update, and stop as soon as it returns true."""

    def __init__(self, function: Callable[[A3CModule, Batch], bool]) -> None:
        self.function = function

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, A3CModule)
        if self.function(pl_module, batch):
            trainer.should_stop = True


def fit(
    mode: Literal["data", "gradient"],
    env_id: str,
    after_update: Callable[[A3CModule, Batch], bool],
    synchronous: bool = False,
    supervision: Supervision | None = None,
    num_workers: int = 4,
    num_envs: int = 8,
    env_threads: int = 1,
    slots_per_worker: int | None = None,
    bf16: bool = False,
    accelerator: str = "cpu",
    worker_device: str = "cpu",
) -> None:
    """Train, 128 transitions an update, until `after_update` returns true; all in bfloat16 or nothing."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    data = CollectorDataModule(
        env=EnvConfig(id=env_id, num_envs=num_envs, num_threads=env_threads),
        num_workers=num_workers,
        n_steps=4,
        discount=0.99,
        micro_batch_size=32 if mode == "data" or synchronous else 64,
        batch_size=128,
        slots_per_worker=slots_per_worker,
        seed=0,
        synchronous=synchronous,
        worker_precision="bf16-true" if bf16 else "32-true",
        worker_device=worker_device,
        supervision=supervision or Supervision(),
    )
    callbacks: list[pl.Callback] = [AfterUpdate(after_update)]
    if mode == "gradient":
        callbacks.append(GradientParallel(max_norm=CLIP_NORM))
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision="bf16-mixed" if bf16 and mode == "data" else "32-true",
        max_epochs=-1,
        gradient_clip_val=CLIP_NORM if mode == "data" else None,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(A3CModule.for_data(data, mode=mode), datamodule=data)
