"""Videos that a run records, and what is refused before it starts."""

from pathlib import Path

import imageio_ffmpeg
import pytest
from lightning_fabric.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule, RecordVideo
from lightning_a3c.system.files import NotWritable
from tests.small_runs import serial_data, trainer


def test_training_records_every_so_many_updates_in_the_run_folder_and_in_tensorboard(cartpole_run: Path) -> None:
    videos = sorted(cartpole_run.glob("csv/version_0/videos/*"))
    assert [video.name for video in videos] == ["update=0000012.mp4", "update=0000024.mp4"]
    assert all(imageio_ffmpeg.count_frames_and_secs(video)[0] > 1 for video in videos)
    (events,) = cartpole_run.glob("tensorboard/version_0/events*")
    shown = {
        event.step: value.tensor.string_val or value.image.encoded_image_string
        for event in EventFileLoader(str(events)).Load()
        for value in event.summary.value
        if value.tag == "episode"
    }
    assert sorted(shown) == [12, 24]
    assert all(b"GIF89a" in b"".join(gif if not isinstance(gif, bytes) else [gif]) for gif in shown.values())


def test_videos_of_an_environment_without_pictures_are_refused_before_training(tmp_path: Path) -> None:
    stream = serial_data("SeededLength-v0")
    with pytest.raises(MisconfigurationException, match=r"RecordVideo .* 'SeededLength-v0' has no render mode"):
        trainer(tmp_path, RecordVideo(), max_steps=1).fit(A3CModule.for_data(stream), datamodule=stream)


def test_a_missing_ffmpeg_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-such-program"))
    stream = serial_data()
    module = A3CModule.for_data(stream)
    with pytest.raises(NotWritable, match="videos need ffmpeg"):
        trainer(tmp_path, RecordVideo(), max_steps=1).fit(module, datamodule=stream)
    assert module.progress.env_steps == 0


@pytest.mark.parametrize("name", ["every_updates", "max_steps"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"RecordVideo.{name} must be >= 1, got 0"):
        RecordVideo(**{name: 0})
