"""Small data modules, datasets and trainers that several tests use."""

from pathlib import Path

import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, CollectorDataset, EnvConfig


def data(**changes: object) -> CollectorDataModule:
    values = {
        "env": EnvConfig("CartPole-v1", num_envs=4),
        "num_workers": 2,
        "micro_batch_size": 16,
        "batch_size": 32,
        "updates_per_epoch": 5,
        "seed": 3,
    }
    return CollectorDataModule(**(values | changes))


def dataset(**changes: object) -> CollectorDataset:
    module = data(**changes)
    return module.dataset(A3CModule.for_data(module).net)


def trainer(folder: Path, *callbacks: pl.Callback, **changes: object) -> pl.Trainer:
    values = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return pl.Trainer(callbacks=list(callbacks), **(values | changes))


def serial_data(env_id: str = "CartPole-v1", **changes: object) -> CollectorDataModule:
    return CollectorDataModule(env=EnvConfig(env_id, num_envs=2), num_workers=0, seed=3, **changes)
