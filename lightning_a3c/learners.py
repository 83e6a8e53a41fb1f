"""Refusing trainers of more than one learner, or of one in a process of its own."""

from __future__ import annotations

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher


def require_one_learner(trainer: pl.Trainer) -> None:
    """Raise MisconfigurationException where there would be several, and end those that Lightning has started already.

    Lightning starts them before any hook, and none has come as far as importing the script when the first hook runs.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher) and trainer.num_devices == 1:
        raise MisconfigurationException(
            "trainer.strategy starts the learner in a process of its own, from which no result comes back; use auto"
        )
    if trainer.world_size <= 1 and trainer.num_devices * trainer.num_nodes <= 1:
        return
    started = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        process.kill()
        process.wait()
    started.clear()  # or Lightning would end this process for what became of them
    raise MisconfigurationException(
        f"trainer.devices × trainer.num_nodes must be 1, got {trainer.num_devices} × {trainer.num_nodes}: "
        "there is one learner, on one device; data.num_workers uses more cores"
    )
