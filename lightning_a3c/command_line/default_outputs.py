"""Default checkpoints and loggers of the command line, and finding checkpoints by name. Knows no model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_a3c.system.files import require_checkpoint
from lightning_a3c.viewing.grouped_tensorboard import GroupedTensorBoardLogger
from lightning_a3c.viewing.numbered_runs import (
    CHECKPOINTS,
    RunFolder,
    checkpoints_by_name,
    newest,
    newest_checkpoint,
    run_folder_of,
)

_OF_FIRST_LEARNER = "LIGHTNING_A3C_RUN_FOLDER"  # a variable, for the processes that Lightning starts


def open_run_folder(checkpoint: str | None, parent: Path, command: str) -> RunFolder | Path:
    """The folder of the run: that of the checkpoint, or a new one in `parent`.

    `fit` goes on in the folder of the checkpoint that it resumes, if that is a run in `parent` and no process is
    writing there. Of several learners the first one decides; the others write nothing.
    """
    if getattr(rank_zero_only, "rank", 0):
        return Path(os.environ.get(_OF_FIRST_LEARNER, parent))
    folder = _open_run_folder(checkpoint, parent, command)
    os.environ[_OF_FIRST_LEARNER] = str(folder.path if isinstance(folder, RunFolder) else folder)
    return folder


def _open_run_folder(checkpoint: str | None, parent: Path, command: str) -> RunFolder | Path:
    run = run_folder_of(Path(checkpoint)) if checkpoint and Path(checkpoint).exists() else None
    if run is not None and command != "fit":
        return run
    if run is not None and run.parent.resolve() == parent.resolve():
        try:
            return RunFolder(run)
        except BlockingIOError:
            folder = RunFolder.next_in(parent)
            rank_zero_info(f"Another process is still writing to {run}, so this run goes to {folder.path}")
            return folder
    return RunFolder.next_in(parent)


def default_outputs(trainer: Mapping[str, Any], run: Path, command: str) -> dict[str, Any]:
    """Trainer arguments that put what the user has placed nowhere into the run's folder.

    These are two checkpoints, the newest, also after an interruption, and the one with the best return. And two
    loggers, TensorBoard's and, for `plot` and `report`, a CSV logger. The latter also joins loggers of the user's that
    keep their values elsewhere, such as W&B's.

    Args:
        trainer: the user's arguments of the trainer.
        run: the run's folder.
        command: `fit`, `validate`, `test` or `predict`.
    """
    options: dict[str, Any] = {}
    own_loggers = [] if trainer["logger"] in (None, True, False) else _list(trainer["logger"])
    # then Lightning puts checkpoints beside them
    have_folders = any(isinstance(logger, CSVLogger | TensorBoardLogger) for logger in own_loggers)
    if trainer["enable_checkpointing"] is not False:
        callbacks = _list(trainer["callbacks"])
        checkpoints = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        own = [callback for callback in checkpoints if isinstance(callback, ModelCheckpoint)]
        if not checkpoints:
            newest_weights = ModelCheckpoint(save_last=True, save_on_exception=True)
            best_weights = ModelCheckpoint(
                monitor="return_100", mode="max", filename="best", enable_version_counter=False
            )
            own = [newest_weights, best_weights]
            options["callbacks"] = [*callbacks, *own]
        elif command == "fit" and len(own) == len(checkpoints) and not any(each.save_on_exception for each in own):
            rank_zero_info(
                "An interrupted run will leave no checkpoint: no ModelCheckpoint has save_on_exception: true"
            )
        for callback in own:
            if callback.dirpath is None and not have_folders:
                callback.dirpath = str(run.absolute() / CHECKPOINTS)
    if trainer["logger"] in (None, True) or (own_loggers and not have_folders):
        table = CSVLogger(run, name="csv")
        others = own_loggers or [GroupedTensorBoardLogger(run, name="tensorboard", version=table.version)]
        options["logger"] = [table, *others]
    elif not own_loggers and "SLURM_JOB_ID" not in os.environ:  # a requeued job looks where it began
        options["default_root_dir"] = run
    return options


def resolve_checkpoint(ckpt_path: str, trainer: Mapping[str, Any], parent: Path, command: str) -> str | None:
    """Replace "last" and "best" by the newest such checkpoint; other paths stay as they are.

    Lightning looks only in the folder of the new run; this function finds checkpoints of earlier runs.

    Args:
        ckpt_path: a path or a name.
        trainer: the user's arguments of the trainer.
        parent: the folder that holds the folders of this configuration's runs.
        command: `fit` starts from scratch where there is no "last", which gives None.

    Raises:
        ValueError: there is no such checkpoint.
    """
    root = Path(trainer["default_root_dir"] or ".")
    if ckpt_path == "hpc" and not any(root.glob("hpc_ckpt_*.ckpt")):
        raise ValueError(f"ckpt_path hpc: there is no hpc_ckpt_*.ckpt in {root}")
    if ckpt_path not in ("last", "best"):
        return ckpt_path
    places = _places(trainer, root)
    folders = [folder for place, pattern in places for folder in (place.glob(pattern) if place.is_dir() else ())]
    found = newest(filter(None, [newest_checkpoint(ckpt_path, parent), *checkpoints_by_name(ckpt_path, folders)]))
    if found is None and ckpt_path == "best":
        last = newest(filter(None, [newest_checkpoint("last", parent), *checkpoints_by_name("last", folders)]))
        found = _recorded_best(last) if last is not None else None
    if found is not None:
        require_checkpoint(found)
        rank_zero_info(f"ckpt_path {ckpt_path} is {found}")
        return str(found)
    searched = ", ".join(map(str, [parent / "*" / CHECKPOINTS, *(place / pattern for place, pattern in places)]))
    missing = f"ckpt_path {ckpt_path}: there is no {ckpt_path}.ckpt in {searched}"
    if command != "fit" or ckpt_path == "best":
        raise ValueError(f"{missing}; name a file")
    rank_zero_info(f"{missing}; training starts from scratch")
    return None


def _recorded_best(last: Path) -> Path | None:
    """The best checkpoint by the metric that a ModelCheckpoint monitored until it saved `last`."""
    states = torch.load(last, map_location="meta", weights_only=True).get("callbacks", {}).values()
    found = [state["best_model_path"] for state in states if isinstance(state, dict) and state.get("monitor")]
    paths = [last.with_name(Path(path).name) for path in found if path]  # the folder may have been moved
    return next((path for path in paths if path.exists()), None)


def _places(trainer: Mapping[str, Any], root: Path) -> list[tuple[Path, str]]:
    """Folders and patterns for the checkpoint folders in them, by the user's own callbacks and loggers.

    Generalises Lightning's rule to all versions of a logger.
    """
    loggers = _list(trainer["logger"]) if trainer["logger"] not in (None, True, False) else []
    places = []
    for callback in _list(trainer["callbacks"]):
        if not isinstance(callback, ModelCheckpoint):
            continue
        if callback.dirpath is not None:
            places.append((Path(callback.dirpath).parent, Path(callback.dirpath).name))
        elif loggers:
            places.append((Path(loggers[0].save_dir or root) / str(loggers[0].name), f"*/{CHECKPOINTS}"))
    return places


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
