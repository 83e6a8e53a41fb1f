"""Lightning callbacks that write the results of `test` and `predict` to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.callbacks import BasePredictionWriter

from lightning_a3c.learning.data_module import CollectorDataModule
from lightning_a3c.learning.evaluation import Episode
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.rl.types import Prediction
from lightning_a3c.system.files import atomic_write
from lightning_a3c.viewing.run_folders import is_dry_run, result_file


class SaveTestResults(pl.Callback):
    """Write the results of `test` beside the checkpoint, `last.ckpt` → `last.test.json`.

    Without a checkpoint the file goes to the first logger's folder, as `test.json`, or as `untrained.test.json` if the
    module has not been trained either. It holds all logged values, each episode's return and length, the number of
    episodes that were cut off, the task, policy and seed. Writes nothing with `fast_dev_run`.
    """

    def __init__(self) -> None:
        self._episodes: list[Episode] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._episodes = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._episodes.append(batch)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, A3CModule) or not isinstance(data, CollectorDataModule):
            return
        if is_dry_run(trainer) or not trainer.is_global_zero:
            return
        results = {
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "is_untrained": pl_module.is_untrained,
            "env_steps_trained": pl_module.progress.env_steps,
            "task": pl_module.hparams["task"],
            "policy": data.eval_policy,
            "seed": data.run_seed,
            "episodes": len(self._episodes),
            "eval_max_steps": data.eval_max_steps,
            "cut_off": sum(bool(episode.is_cut) for episode in self._episodes),
            **{key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")},
            "returns": [float(episode.episode_return) for episode in self._episodes],
            "lengths": [int(episode.length) for episode in self._episodes],
        }
        path = result_file(trainer, pl_module, "test.json")
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(results, indent=2) + "\n")
        rank_zero_info(f"Results in {path}")


class WritePredictions(BasePredictionWriter):
    """Write the results of `predict` beside the observations: `some.npy` → `some.predictions.npz`.

    The arrays are the fields of `rl.types.Prediction`, for all observations, or for the first n if
    `limit_predict_batches` is set. Writes nothing with `fast_dev_run`.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, CollectorDataModule) or data.predict_observations is None:
            return
        if is_dry_run(trainer):
            return
        path = Path(data.predict_observations).with_suffix(".predictions.npz")
        joined = Prediction(*(torch.cat(parts).cpu() for parts in zip(*predictions, strict=True)))
        with atomic_write(path) as partial:
            np.savez(partial, **{name: tensor.numpy() for name, tensor in joined._asdict().items()})
        rank_zero_info(f"Predictions for {len(joined.values):,} observations in {path}")
        if len(joined.values) < data.num_predict_observations:
            rank_zero_warn(
                f"{path} holds only the first {len(joined.values):,} of {data.num_predict_observations:,} predictions: "
                f"trainer.limit_predict_batches is {trainer.limit_predict_batches}"
            )
