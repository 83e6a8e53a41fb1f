"""Lightning callbacks that leave something to look at: videos, test results, predictions, the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_a3c.data import CollectorDataModule
from lightning_a3c.evaluation import Episode
from lightning_a3c.files import replacing, write_beside
from lightning_a3c.module import A3CModule
from lightning_a3c.playback import require_rendering
from lightning_a3c.types import Prediction
from lightning_a3c.version import __version__
from lightning_a3c.video import preview, record_episode, require_encoder


class RecordVideo(pl.Callback):
    """Record an episode every so many updates of training, and one after `test`.

    The learner plays it itself: training waits for as long as that takes, some seconds on Atari. Training's
    videos go to `folder` and into TensorBoard, as a GIF of fewer frames; the one of a test goes beside
    the checkpoint, `last.ckpt` → `last.test.mp4`. Acts as `data.eval_policy` says.

    >>> callback = RecordVideo(every_updates=5000)

    Args:
        every_updates: between two recordings, >= 1.
        folder: None takes `videos` in the first logger's folder.
        max_steps: env steps after which a recording ends, >= 1.
    """

    def __init__(self, every_updates: int = 5000, folder: str | None = None, max_steps: int = 10_000) -> None:
        for name, value in (("every_updates", every_updates), ("max_steps", max_steps)):
            if value < 1:
                raise ValueError(f"RecordVideo.{name} must be >= 1, got {value}")
        self.every_updates = every_updates
        self.folder = folder
        self.max_steps = max_steps
        self._recorded_at = 0  # the update of the last recording

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, A3CModule) or not isinstance(data, CollectorDataModule):
            raise MisconfigurationException(
                f"RecordVideo shows an A3CModule in a CollectorDataModule's environment, got "
                f"{type(pl_module).__name__} and {type(data).__name__}; remove it"
            )
        require_encoder()
        try:
            require_rendering(data.env)
        except ValueError as error:
            raise MisconfigurationException(f"RecordVideo cannot be used: {error}") from error

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        update = trainer.global_step
        if update % self.every_updates or update == self._recorded_at:
            return
        self._recorded_at = update
        folder = Path(self.folder) if self.folder else _log_folder(trainer) / "videos"
        path = self._record(trainer, pl_module, folder / f"update={update:07d}.mp4", seed=update)
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards:
            gif = preview(path)
        for board in boards:
            _add_gif(board, gif, update)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self._record(trainer, pl_module, _beside_checkpoint(trainer, "test.mp4"), seed=data.run_seed)

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, path: Path, seed: int) -> Path:
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        net = module.net
        assert isinstance(net, torch.nn.Module)
        video = record_episode(data.env, net, path, data.eval_policy == "greedy", seed, self.max_steps)
        rank_zero_info(f"Recorded {path}: return {video.episode_return:g} in {video.steps:,} env steps")
        return video.path


class SaveTestResults(pl.Callback):
    """Write what `test` found beside the checkpoint, `last.ckpt` → `last.test.json`.

    Without a checkpoint it goes to the first logger's folder. Holds every logged value, each episode's return
    and length, and what was played how.
    """

    def __init__(self) -> None:
        self._episodes: list[Episode] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._episodes = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._episodes.append(batch)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, A3CModule) or not isinstance(data, CollectorDataModule):
            return
        results = {
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "env_steps_trained": pl_module.progress.env_steps,
            "protocol": pl_module.hparams["protocol"],
            "policy": data.eval_policy,
            "seed": data.run_seed,
            "episodes": len(self._episodes),
            **{key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")},
            "returns": [float(episode.episode_return) for episode in self._episodes],
            "lengths": [int(episode.length) for episode in self._episodes],
        }
        path = _beside_checkpoint(trainer, "test.json")
        with replacing(path) as partial:
            partial.write_text(json.dumps(results, indent=2) + "\n")
        rank_zero_info(f"Results in {path}")


class WritePredictions(BasePredictionWriter):
    """Write what `predict` found beside the observations: `some.npy` → `some.predictions.npz`.

    The arrays are `probabilities`, float32 [n, A], and `values`, float32 [n].
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, CollectorDataModule) or data.predict_observations is None:
            return
        path = Path(data.predict_observations).with_suffix(".predictions.npz")
        joined = Prediction(*(torch.cat(parts).cpu() for parts in zip(*predictions, strict=True)))
        with replacing(path) as partial:
            np.savez(partial, probabilities=joined.probabilities.numpy(), values=joined.values.numpy())
        rank_zero_info(f"Predictions for {len(joined.values):,} observations in {path}")


class SaveConfigAndMachine(SaveConfigCallback):
    """Keeps the whole configuration in the log folder, as Lightning does, and in `machine.json` where it ran.

    What is there under these names stays; the new files then get numbers. Give it `save_to_log_dir=False`, or Lightning
    writes the configuration too.
    """

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.log_dir is None or (stage != "fit" and not trainer.loggers):
            return
        config = self.parser.dump(self.config, skip_none=False)
        _keep(
            Path(trainer.log_dir),
            {self.config_filename: config, "machine.json": json.dumps(machine(), indent=2) + "\n"},
        )


def _keep(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts into a folder that may hold other files of the same names."""
    for name, text in files.items():
        written = write_beside(folder / name, text)
        if written.name != name:
            rank_zero_info(f"{folder / name} was there before and stays; this run's is {written}")


def machine() -> dict[str, str | int | float]:
    """What this computer and its software are, as far as it matters for speed."""
    facts: dict[str, str | int | float] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "os": platform.platform(),
        "python": platform.python_version(),
    }
    packages = ("torch", "pytorch-lightning", "gymnasium", "ale-py")
    return facts | {"lightning-a3c": __version__} | {package: version(package) for package in packages}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _log_folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir)


def _beside_checkpoint(trainer: pl.Trainer, suffix: str) -> Path:
    if trainer.ckpt_path:
        return Path(trainer.ckpt_path).with_suffix(f".{suffix}")
    return _log_folder(trainer) / suffix


def _add_gif(board: TensorBoardLogger, gif: bytes, update: int) -> None:
    """Torch's own `add_video` writes GIFs too, but only with a moviepy that current pillow rules out."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # heavy, and needed only when there is a video

    summary = Summary(value=[Summary.Value(tag="episode", image=Summary.Image(encoded_image_string=gif, colorspace=3))])
    writer = board.experiment.file_writer
    if writer is not None:
        writer.add_summary(summary, update)
