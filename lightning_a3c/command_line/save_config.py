"""What a run of the command line keeps about itself: its configuration and its machine."""

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
    """Keeps what a run of the command line was: its configuration, and in `machine.json` where and when it ran.

    Lightning puts the configuration into the first logger's folder; here it goes into the others' too, of which
    `report` reads the CSV logger's. What is there under these names stays; the new files then get numbers. Give it
    `save_to_log_dir=False`, or Lightning writes the configuration too.

    Sets the checkpoints of an earlier run aside once training has begun: the first batch is there, so that nothing can
    be refused any more. Not for scripts, which hold paths of several runs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checkpoints = CheckpointFolders()
        self._has_begun = False

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" and not trainer.loggers:
            return
        # tells the folders of one run from those of others; without loggers, all runs share one folder
        when = {"started": datetime.now(UTC).isoformat(timespec="milliseconds")} if trainer.loggers else {}
        about = json.dumps(when | machine(), indent=2) + "\n"
        config = self.parser.dump(self.config, skip_none=False)
        for folder in log_folders(trainer):
            _keep(folder, {self.config_filename: config, "machine.json": about})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._has_begun:
            self._has_begun = True
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
            rank_zero_info(f"{folder / name} was there before and stays; this run's is {written}")
