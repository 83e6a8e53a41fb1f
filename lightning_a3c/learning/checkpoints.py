"""Writing checkpoints whole or not at all, and reading them without executing code."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_a3c.system.files import atomic_write


class NotACheckpoint(ValueError):
    """The file is readable but no checkpoint."""


def require_loadable(values: Mapping[str, Any]) -> None:
    """Raise MisconfigurationException for the first of `values` that a checkpoint could not restore."""
    for name, value in values.items():
        file = BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # whatever pickling meets
            raise MisconfigurationException(
                f"{name} {value!r} cannot be kept in a checkpoint; use numbers, strings, lists, dicts and tensors "
                "only, or set trainer.enable_checkpointing to False"
            ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own format; a process killed while saving leaves the previous file.

    Lightning also writes to a temporary file first, but in the system's temporary folder; moving it to another disk is
    a copy that can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if fsspec.utils.get_protocol(str(path)) != "file":
            return super().save_checkpoint(checkpoint, path, storage_options)
        with atomic_write(path) as partial, partial.open("wb") as file:  # given a path, torch hides why it cannot write
            try:
                torch.save(checkpoint, file)
            except (
                RuntimeError
            ) as error:  # torch finds the file too short while it tidies up after the file's own error
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = lambda storage, loc: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load tensors and plain values only, whatever `weights_only` says."""
        checkpoint: Any = super().load_checkpoint(path, map_location, weights_only=True)
        if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
            raise NotACheckpoint(f"ckpt_path {path} is not a checkpoint of this package, nor any of Lightning's")
        return checkpoint
