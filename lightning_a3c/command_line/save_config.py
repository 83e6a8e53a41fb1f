"""Saving a run's configuration and machine beside its logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.cli import SaveConfigCallback

from lightning_a3c.learning.earlier_runs import CheckpointFolders
from lightning_a3c.system.files import write_beside
from lightning_a3c.system.machine import machine
from lightning_a3c.viewing.run_folders import log_folders


class SaveConfigAndMachine(SaveConfigCallback):
    """Saves a run's configuration, and in `machine.json` its machine, start and the configuration's name, for every
    logger in its folder.

    Lightning saves the configuration to the first logger's folder only, but `report` reads the CSV logger's. Existing
    files stay: new ones then get numbers. Needs `save_to_log_dir=False`, or Lightning saves the configuration too.

    Also moves the checkpoints of an earlier run aside, at the first training batch: no check can refuse the run after
    that. Not for scripts, which may hold paths of several runs.
    """

    def __init__(self, *args: Any, name_of_config: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._name_of_config = name_of_config
        self._checkpoints = CheckpointFolders()
        self._has_begun = False

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" and not trainer.loggers:
            return
        # the start time tells the folders of one run from another's; without loggers, all runs share one folder
        start = {"started": datetime.now(UTC).isoformat(timespec="milliseconds")} if trainer.loggers else {}
        of_config = {"configuration": self._name_of_config} if self._name_of_config else {}
        about = json.dumps(start | of_config | machine(), indent=2) + "\n"
        config = self.parser.dump(self.config, skip_none=False)
        for folder in log_folders(trainer):
            _keep(folder, {self.config_filename: config, "machine.json": about})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._has_begun:
            self._has_begun = True
            if trainer.is_global_zero:
                self._checkpoints.open(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._checkpoints.close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._checkpoints.close()


def _keep(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts into a folder that may hold other files of the same names."""
    for name, text in files.items():
        written = write_beside(folder / name, text)
        if written.name != name:
            rank_zero_info(f"{folder / name} already exists and stays; this run's is {written}")
