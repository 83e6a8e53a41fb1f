"""A Lightning callback that records episodes as videos."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c.learning.data_module import CollectorDataModule
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.system.files import NotWritable
from lightning_a3c.viewing.playback import require_rendering
from lightning_a3c.viewing.run_folders import is_dry_run, log_folder, result_file
from lightning_a3c.viewing.video import Recording, RecordingAbandoned, preview, record_episode, require_encoder


class RecordVideo(pl.Callback):
    """Record an episode at intervals during training, and one after `test`.

    The learner plays the episode while training waits, some seconds on Atari. Videos of training go to `folder` and, as
    GIFs of fewer frames, into TensorBoard; the video of a test goes beside the checkpoint, `last.ckpt` →
    `last.test.mp4`. Actions follow `data.eval_policy`.

    >>> callback = RecordVideo(every_updates=5000)

    Args:
        every_updates: updates between two recordings, >= 1.
        folder: folder of training's videos; None takes `videos` in the first logger's folder.
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
                f"RecordVideo needs an A3CModule and a CollectorDataModule, got {type(pl_module).__name__} and "
                f"{type(data).__name__}; remove it"
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
        if update % self.every_updates or update == self._recorded_at or not trainer.is_global_zero:
            return
        self._recorded_at = update
        folder = Path(self.folder) if self.folder else log_folder(trainer) / "videos"
        video = self._record(trainer, pl_module, folder / f"update={update:07d}.mp4", seed=update)
        if video is None:
            return  # Lightning ends training after this batch
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards:
            gif = preview(video.path)
        for board in boards:
            _add_gif(board, gif, update)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_dry_run(trainer) or not trainer.is_global_zero:
            return
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        video = self._record(trainer, pl_module, result_file(trainer, pl_module, "test.mp4"), seed=data.run_seed)
        self._was_interrupted = video is None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._was_interrupted:
            self._was_interrupted = False
            raise SIGTERMException  # raised only here, after Lightning has printed the test's results

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, path: Path, seed: int) -> Recording | None:
        """Record an episode; None if the run got a signal to end meanwhile."""
        data: CollectorDataModule = trainer.datamodule  # type: ignore[attr-defined]
        net = module.net
        assert isinstance(net, torch.nn.Module)
        is_greedy = data.eval_policy == "greedy"
        try:
            video = record_episode(
                data.env, net, path, is_greedy, seed, self.max_steps, lambda: trainer.received_sigterm
            )
        except (RecordingAbandoned, NotWritable):
            if not trainer.received_sigterm:  # the signal may have ended ffmpeg too
                raise
            rank_zero_info(f"Abandoned recording {path}: the run got a signal to end")
            return None
        rank_zero_info(f"Recorded {video}")
        return video


def _add_gif(board: TensorBoardLogger, gif: bytes, update: int) -> None:
    """Add an image to TensorBoard. Torch's `add_video` needs a moviepy that does not work with current pillow."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # slow to import, and needed only for videos

    summary = Summary(value=[Summary.Value(tag="episode", image=Summary.Image(encoded_image_string=gif, colorspace=3))])
    writer = board.experiment.file_writer
    if writer is not None:
        writer.add_summary(summary, update)
