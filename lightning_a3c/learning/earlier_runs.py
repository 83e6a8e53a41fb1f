"""Moving the checkpoints of an earlier run aside, so that a folder's own checkpoints are the newest run's."""

from __future__ import annotations

import fcntl
import os
import re
from itertools import count
from pathlib import Path

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_a3c.learning.peers import own_log_dir
from lightning_a3c.system.files import NotWritable

FOLDER = "earlier-"  # followed by a number, from 1
_VALUE = r"-?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|inf)"  # of a metric in a file name


class CheckpointFolders:
    """The folders that a run writes checkpoints to, claimed while it lives so that no other run moves its files.

    A claim is a lock on the folder, which the system releases when the process ends, however it ends.
    """

    def __init__(self) -> None:
        self._claims: list[int] = []

    def open(self, trainer: pl.Trainer) -> None:
        """Claim the folders and, unless this run was resumed, move aside what an earlier run left in them.

        Call it when training has begun and nothing has been saved yet.

        Raises:
            NotWritable: a folder cannot be made or changed.
        """
        for folder, names in _names(trainer).items():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                is_ours = self._claim(folder)
                place = set_aside(folder, names) if is_ours and not trainer.ckpt_path else None
            except OSError as error:
                raise NotWritable(f"cannot write checkpoints to {folder}: {error.strerror or error}") from error
            if not is_ours:
                rank_zero_warn(
                    f"another run is writing checkpoints to {folder}; Lightning adds versions to the names of this "
                    "run's (last-v1.ckpt); give it a dirpath of its own"
                )
            if place is not None:
                rank_zero_info(f"{folder} held the checkpoints of an earlier run; they are in {place} now")

    def close(self) -> None:
        """Release the claims; may be called twice."""
        while self._claims:
            os.close(self._claims.pop())

    def _claim(self, folder: Path) -> bool:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            pass
        self._claims.append(descriptor)
        return True


def set_aside(folder: Path, names: re.Pattern[str]) -> Path | None:
    """Move the files in `folder` with such names to a new folder `earlier-N` in it; None if there are none."""
    files = sorted(path for path in folder.iterdir() if names.fullmatch(path.name) and not path.is_dir())
    if not files:
        return None
    place = next(place for number in count(1) if not (place := folder / f"{FOLDER}{number}").exists())
    place.mkdir()
    for file in files:
        file.rename(place / file.name)
    return place


def file_names(callback: ModelCheckpoint | None) -> re.Pattern[str]:
    """A pattern for the checkpoints of `callback` and `StopWhenSolved`, and for what `test` writes beside them.

    Lightning's default names match too. All other files are the user's.
    """
    stems = ["solved", "last", _stem("{epoch}-{step}", are_named=True)]
    if callback is not None:
        own = [template for template in (callback.filename, callback.CHECKPOINT_NAME_LAST) if template]
        stems += [_stem(template, callback.auto_insert_metric_name) for template in own]
    return re.compile(rf"(?:{'|'.join(stems)})(?:-v\d+)?\.(?:ckpt|test\.json|test\.mp4)")


def _stem(template: str, are_named: bool) -> str:
    """A regular expression for what Lightning makes of a template such as "{step}-{return_100:.1f}".

    Args:
        template: with metrics in braces.
        are_named: each value has the metric's name before it.
    """
    literal, *groups = re.split(r"\{([^}:]*)[^}]*\}", Path(template).name)
    pattern = re.escape(literal)
    for metric, text in zip(groups[::2], groups[1::2], strict=True):
        name = re.escape(f"{metric}=") if are_named else ""
        pattern += f"{name}{_VALUE}{re.escape(text)}"
    return pattern


def _names(trainer: pl.Trainer) -> dict[Path, re.Pattern[str]]:
    """The names of checkpoints that a run may write, by folder; without those that are not on a disk."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    names: dict[Path, re.Pattern[str]] = {}
    for callback in callbacks:
        if callback.dirpath is None or "://" in str(callback.dirpath):
            continue
        folder, own = Path(callback.dirpath), file_names(callback)
        names[folder] = re.compile(f"{names[folder].pattern}|{own.pattern}") if folder in names else own
    if not callbacks:  # where StopWhenSolved puts its own
        folder = Path(own_log_dir(trainer) or trainer.default_root_dir)
        names[folder] = re.compile(r"solved\.(?:ckpt|test\.json|test\.mp4)")
    return names
