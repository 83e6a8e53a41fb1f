"""What a checkpoint and the module that takes its state must have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from lightning_a3c.learning.task_following import as_in_files, task_spaces
from lightning_a3c.learning.tasks import TaskDict


class CheckpointMismatch(ValueError):
    """The checkpoint belongs to another environment or network."""


def task_of(hparams: Mapping[str, Any]) -> TaskDict | None:
    """The task in a checkpoint's hyper-parameters, which earlier releases called `protocol`."""
    task: TaskDict | None = hparams.get("task", hparams.get("protocol"))
    return task


def require_same_agent(checkpoint: Mapping[str, Any], module: pl.LightningModule) -> None:
    """Raise CheckpointMismatch unless an `A3CModule` can take the checkpoint's state."""
    hparams: Mapping[str, Any] = module.hparams
    theirs = checkpoint.get("hyper_parameters", {})
    trained_on, played = task_of(theirs), hparams["task"]
    if trained_on and played and task_spaces(trained_on) != task_spaces(played):
        raise CheckpointMismatch(
            f"the checkpoint was trained on {trained_on['env_id']} with actions and observations "
            f"{task_spaces(trained_on)}, this run has {played['env_id']} with {task_spaces(played)}; use the config "
            "that made it"
        )
    for name in ("observation_shape", "num_actions", "action_spec"):
        if name in theirs and as_in_files(theirs[name]) != as_in_files(hparams[name]):
            raise CheckpointMismatch(
                f"the checkpoint was trained with {name} {theirs[name]}, this run has {hparams[name]}; use the config "
                "that made it, which the command line saves as config.yaml in the folder of the first logger"
            )
    saved, own = checkpoint["state_dict"], module.state_dict()
    if {name: value.shape for name, value in saved.items()} != {name: value.shape for name, value in own.items()}:
        raise CheckpointMismatch(
            f"the checkpoint holds another network than {type(module.net).__name__} as configured here "
            f"(network {hparams.get('network')}); use the config that made it"
        )
