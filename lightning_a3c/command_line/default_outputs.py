"""Default checkpoints and loggers of the command line, and finding the last checkpoint. Knows no model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger


def default_outputs(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Trainer arguments for `fit` that add a ModelCheckpoint and loggers where the user has configured none.

    The default loggers are TensorBoard's and, for `plot` and `report`, a CSV logger. Both log to
    `lightning_logs/version_N`, where the checkpoints then go too. An interrupted run also saves a checkpoint.

    Args:
        trainer: the user's arguments of the trainer.
    """
    options: dict[str, Any] = {}
    chosen = trainer["callbacks"] or []
    callbacks = chosen if isinstance(chosen, list) else [chosen]
    checkpoints = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    if trainer["enable_checkpointing"] is not False and not trainer["fast_dev_run"]:
        if not checkpoints:
            options["callbacks"] = [*callbacks, ModelCheckpoint(save_last=True, save_on_exception=True)]
        elif all(isinstance(each, ModelCheckpoint) and not each.save_on_exception for each in checkpoints):
            rank_zero_info(
                "An interrupted run will leave no checkpoint: no ModelCheckpoint has save_on_exception: true"
            )
    if trainer["logger"] in (None, True) and not trainer["fast_dev_run"]:
        folder = trainer["default_root_dir"] or "."
        table = CSVLogger(folder)
        options["logger"] = [table, TensorBoardLogger(folder, version=table.version)]
    return options


def resolve_checkpoint(ckpt_path: str, trainer: pl.Trainer, command: str) -> str | None:
    """Replace "last" by the newest last.ckpt, or by None if `fit` has none to resume; other paths stay as they are.

    Lightning looks only in the folder of the new version; this function also finds checkpoints of earlier versions.

    Raises:
        ValueError: there is no such checkpoint.
    """
    if ckpt_path == "best":
        raise ValueError(
            "ckpt_path best is known only to the process that trained; name a file, or last for the newest last.ckpt"
        )
    if ckpt_path == "hpc" and not any(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")):
        raise ValueError(f"ckpt_path hpc: there is no hpc_ckpt_*.ckpt in {trainer.default_root_dir}")
    if ckpt_path != "last":
        return ckpt_path
    last = _last_checkpoint(trainer)
    if last is not None:
        return str(last)
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    places = ", ".join(str(folder / pattern) for folder, pattern in (_pattern(trainer, each) for each in callbacks))
    missing = f"ckpt_path last: there is no last.ckpt in {places or 'any folder, as no ModelCheckpoint is configured'}"
    if command != "fit":
        raise ValueError(f"{missing}; name a file")
    rank_zero_info(f"{missing}; training starts from scratch")
    return None


def _last_checkpoint(trainer: pl.Trainer) -> Path | None:
    """The newest last.ckpt of all versions."""
    found: list[Path] = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            last = re.compile(
                rf"{re.escape(callback.CHECKPOINT_NAME_LAST)}(-v?\d+)?{re.escape(callback.FILE_EXTENSION)}"
            )
            found += [
                path for folder in _folders(trainer, callback) for path in folder.glob("*") if last.fullmatch(path.name)
            ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _folders(trainer: pl.Trainer, callback: ModelCheckpoint) -> list[Path]:
    parent, pattern = _pattern(trainer, callback)
    return [*parent.glob(pattern)] if parent.is_dir() else []


def _pattern(trainer: pl.Trainer, callback: ModelCheckpoint) -> tuple[Path, str]:
    """A folder, and a pattern for the checkpoint folders in it; generalises Lightning's rule to all versions."""
    if callback.dirpath is not None:
        path = Path(callback.dirpath)
        return path.parent, path.name
    if not trainer.loggers:
        return Path(trainer.default_root_dir), "checkpoints"
    logger = trainer.loggers[0]
    return Path(logger.save_dir or trainer.default_root_dir) / str(logger.name), "*/checkpoints"
