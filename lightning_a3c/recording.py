"""Lightning callbacks that leave something to look at: videos, test results, predictions, the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c.data import CollectorDataModule
from lightning_a3c.earlier_runs import CheckpointFolders
from lightning_a3c.evaluation import Episode
from lightning_a3c.files import NotWritable, replacing, write_beside
from lightning_a3c.module import A3CModule
from lightning_a3c.playback import require_rendering
from lightning_a3c.types import Prediction
from lightning_a3c.version import __version__
from lightning_a3c.video import Recording, RecordingAbandoned, preview, record_episode, require_encoder


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
        self._was_interrupted = False

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
        video = self._record(trainer, pl_module, folder / f"update={update:07d}.mp4", seed=update)
        if video is None:
            return  # Lightning ends training after this batch
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards:
            gif = preview(video.path)
        for board in boards:
            _add_gif(board, gif, update)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if _is_only_tried_out(trainer):
            return
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        video = self._record(trainer, pl_module, _test_file(trainer, pl_module, "test.mp4"), seed=data.run_seed)
        self._was_interrupted = video is None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._was_interrupted:
            self._was_interrupted = False
            raise SIGTERMException  # not earlier: the results of the test are written and printed by now

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, path: Path, seed: int) -> Recording | None:
        """None if the run was told to end meanwhile."""
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        net = module.net
        assert isinstance(net, torch.nn.Module)
        is_greedy = data.eval_policy == "greedy"
        try:
            video = record_episode(
                data.env, net, path, is_greedy, seed, self.max_steps, lambda: trainer.received_sigterm
            )
        except (RecordingAbandoned, NotWritable):
            if not trainer.received_sigterm:  # which may have ended ffmpeg too
                raise
            rank_zero_info(f"Abandoned recording {path}: the run was told to end")
            return None
        rank_zero_info(f"Recorded {video}")
        return video


class SaveTestResults(pl.Callback):
    """Write what `test` found beside the checkpoint, `last.ckpt` → `last.test.json`.

    Without a checkpoint it goes to the first logger's folder, as `test.json`, or as `untrained.test.json` if the module
    has not been trained either. Holds every logged value, each episode's return and length, how many episodes were cut
    off, and what was played how. Writes nothing with `fast_dev_run`.
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
        if _is_only_tried_out(trainer):
            return
        results = {
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "is_untrained": pl_module.is_untrained,
            "env_steps_trained": pl_module.progress.env_steps,
            "protocol": pl_module.hparams["protocol"],
            "policy": data.eval_policy,
            "seed": data.run_seed,
            "episodes": len(self._episodes),
            "eval_max_steps": data.eval_max_steps,
            "cut_off": sum(bool(episode.is_cut) for episode in self._episodes),
            **{key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")},
            "returns": [float(episode.episode_return) for episode in self._episodes],
            "lengths": [int(episode.length) for episode in self._episodes],
        }
        path = _test_file(trainer, pl_module, "test.json")
        with replacing(path) as partial:
            partial.write_text(json.dumps(results, indent=2) + "\n")
        rank_zero_info(f"Results in {path}")


class WritePredictions(BasePredictionWriter):
    """Write what `predict` found beside the observations: `some.npy` → `some.predictions.npz`.

    The arrays are `probabilities`, float32 [n, A], and `values`, float32 [n], of the first n observations: of all,
    unless `limit_predict_batches` is set. Writes nothing with `fast_dev_run`.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, CollectorDataModule) or data.predict_observations is None:
            return
        if _is_only_tried_out(trainer):
            return
        path = Path(data.predict_observations).with_suffix(".predictions.npz")
        joined = Prediction(*(torch.cat(parts).cpu() for parts in zip(*predictions, strict=True)))
        with replacing(path) as partial:
            np.savez(partial, probabilities=joined.probabilities.numpy(), values=joined.values.numpy())
        rank_zero_info(f"Predictions for {len(joined.values):,} observations in {path}")
        if len(joined.values) < data.num_predict_observations:
            rank_zero_warn(
                f"{path} holds only the first {len(joined.values):,} of {data.num_predict_observations:,} predictions: "
                f"trainer.limit_predict_batches is {trainer.limit_predict_batches}"
            )


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


def log_folders(trainer: pl.Trainer) -> list[Path]:
    """The folder of each logger that writes files, each once, the first logger's first."""
    folders = [trainer.log_dir, *(getattr(logger, "log_dir", None) for logger in trainer.loggers)]
    return list(dict.fromkeys(Path(folder) for folder in folders if folder is not None))


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


def _is_only_tried_out(trainer: pl.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _log_folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir)


def _test_file(trainer: pl.Trainer, module: pl.LightningModule, name: str) -> Path:
    """Where something called `name` about the tested weights goes: beside their checkpoint if there is one."""
    if trainer.ckpt_path:
        checkpoint = Path(trainer.ckpt_path)
        return checkpoint.with_name(f"{checkpoint.name.removesuffix('.ckpt')}.{name}")
    assert isinstance(module, A3CModule)
    return _log_folder(trainer) / (f"untrained.{name}" if module.is_untrained else name)


def _add_gif(board: TensorBoardLogger, gif: bytes, update: int) -> None:
    """Torch's own `add_video` writes GIFs too, but only with a moviepy that current pillow rules out."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # heavy, and needed only when there is a video

    summary = Summary(value=[Summary.Value(tag="episode", image=Summary.Image(encoded_image_string=gif, colorspace=3))])
    writer = board.experiment.file_writer
    if writer is not None:
        writer.add_summary(summary, update)
