"""The folders and names of a run's files. Writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from lightning_a3c.learning.module import A3CModule
from lightning_a3c.learning.peers import own_log_dir


def log_folders(trainer: pl.Trainer) -> list[Path]:
    """The folders of the loggers that write files, in order and without duplicates."""
    folders = [own_log_dir(trainer), *(getattr(logger, "log_dir", None) for logger in trainer.loggers)]
    return list(dict.fromkeys(Path(folder) for folder in folders if folder is not None))


def is_dry_run(trainer: pl.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def log_folder(trainer: pl.Trainer) -> Path:
    return Path(own_log_dir(trainer) or trainer.default_root_dir)


def result_file(trainer: pl.Trainer, module: pl.LightningModule, name: str) -> Path:
    """The path for a result of `test`: beside the tested checkpoint, or in the log folder if there is none."""
    if trainer.ckpt_path:
        checkpoint = Path(trainer.ckpt_path)
        return checkpoint.with_name(f"{checkpoint.name.removesuffix('.ckpt')}.{name}")
    assert isinstance(module, A3CModule)
    return log_folder(trainer) / (f"untrained.{name}" if module.is_untrained else name)
