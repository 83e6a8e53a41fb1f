"""Training at Lapan's constants, both modes, through a real Lightning trainer without logger or checkpoints."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, Supervision
from lightning_a3c.learning.gradient_parallel import GradientParallel
from lightning_a3c.rl.types import Batch

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


Mode = Literal["data", "gradient", "synchronous"]  # the last: data mode with `data.synchronous`


def data_module(
    mode: Mode,
    env_id: str,
    *,
    supervision: Supervision | None = None,
    num_workers: int = 4,
    num_envs: int = 8,
    env_threads: int = 1,
    slots_per_worker: int | None = None,
    bf16: bool = False,
    worker_device: str = "cpu",
) -> CollectorDataModule:
    """128 transitions an update; raises ValueError, before a process is started, if that cannot be."""
    return CollectorDataModule(
        env=EnvConfig(id=env_id, num_envs=num_envs, num_threads=env_threads),
        num_workers=num_workers,
        n_steps=4,
        discount=0.99,
        micro_batch_size=64 if mode == "gradient" else 32,
        batch_size=128,
        slots_per_worker=slots_per_worker,
        seed=0,
        synchronous=mode == "synchronous",
        worker_precision="bf16-true" if bf16 else "32-true",
        worker_device=worker_device,
        supervision=supervision or Supervision(),
    )


def fit(
    mode: Mode,
    data: CollectorDataModule,
    after_update: Callable[[A3CModule, Batch], bool],
    *,
    bf16: bool = False,
    accelerator: str = "cpu",
    network: Any = None,
) -> None:
    """Train until `after_update` returns true; with `bf16` a learner that differentiates does so in bfloat16."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    workers_learn = mode == "gradient"
    callbacks: list[pl.Callback] = [AfterUpdate(after_update)]
    if workers_learn:
        callbacks.append(GradientParallel(max_norm=CLIP_NORM))
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision="bf16-mixed" if bf16 and not workers_learn else "32-true",
        max_epochs=-1,
        gradient_clip_val=None if workers_learn else CLIP_NORM,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = A3CModule.for_data(data, network=network, mode="gradient" if workers_learn else "data")
    trainer.fit(module, datamodule=data)
