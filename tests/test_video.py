"""Recorded episodes: files that play, with the game and the agent's mind in them."""

from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.rl.networks import MLP
from lightning_a3c.system.files import NotWritable
from lightning_a3c.viewing.playback import ActionBar, PlaybackStep
from lightning_a3c.viewing.video import RecordingAbandoned, draw, preview, record_episode

CARTPOLE = EnvConfig("CartPole-v1")


def step(*probabilities: float, action: int = 0, names: Sequence[str] = ("",) * 18) -> PlaybackStep:
    numbered = enumerate(zip(names, probabilities, strict=False))
    bars = [ActionBar(name, share, f"{share:.2f}", index == action) for index, (name, share) in numbered]
    return PlaybackStep(bars, 0.5, np.array(action), score=-3.0, steps=7)


def test_a_video_has_a_frame_for_each_step_at_the_games_own_speed(tmp_path: Path) -> None:
    video = record_episode(CARTPOLE, MLP((4,), 2), tmp_path / "new" / "a.mp4", seed=1)
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(video.path)
    assert video.episode_return == video.steps > 8
    assert frames == video.steps + 1
    assert seconds == pytest.approx(frames / 50, abs=0.05)


def test_a_recording_ends_at_its_limit(tmp_path: Path) -> None:
    video = record_episode(CARTPOLE, MLP((4,), 2), tmp_path / "a.mp4", max_steps=5)
    assert (video.steps, video.is_whole) == (5, False)
    assert str(video) == f"{tmp_path / 'a.mp4'}: return 5 in the first 5 env steps, then cut off"
    assert imageio_ffmpeg.count_frames_and_secs(video.path)[0] == 6


def test_a_whole_episode_is_called_so_even_if_it_ends_at_the_limit(tmp_path: Path) -> None:
    net = MLP((4,), 2)
    whole = record_episode(CARTPOLE, net, tmp_path / "a.mp4", seed=1)
    assert whole.is_whole
    assert record_episode(CARTPOLE, net, tmp_path / "a.mp4", seed=1, max_steps=whole.steps).is_whole


def test_an_interrupted_recording_is_abandoned_and_leaves_nothing(tmp_path: Path) -> None:
    answers = iter([False, False, True])
    with pytest.raises(RecordingAbandoned):
        record_episode(CARTPOLE, MLP((4,), 2), tmp_path / "a.mp4", is_interrupted=lambda: next(answers))
    assert not list(tmp_path.iterdir())


def test_the_game_keeps_its_pixels_and_both_sides_are_even() -> None:
    frame = np.random.default_rng(0).integers(256, size=(211, 161, 3), dtype=np.uint8)
    picture = draw(frame, step(0.5, 0.5, names=["LEFT", "RIGHT"]))
    np.testing.assert_array_equal(picture[:211, :161], frame)
    assert [side % 2 for side in picture.shape[:2]] == [0, 0]


def test_eighteen_actions_fit_beside_a_small_game() -> None:
    frame = np.zeros((64, 64, 3), dtype=np.uint8)
    bare = draw(frame, step(*[0.0] * 18))
    named = draw(frame, step(*[0.0] * 18, names=[*[""] * 17, "LAST"]))
    assert (bare != named).any()


def test_bars_are_as_long_as_the_probabilities_and_the_chosen_action_stands_out() -> None:
    frame = np.zeros((100, 10, 3), dtype=np.uint8)
    coloured = {action: draw(frame, step(0.75, 0.25, action=action))[..., 2].astype(int) for action in (0, 1)}
    plain, chosen = 150, 60  # blue of a plain bar and of the chosen one
    assert (coloured[0] == chosen).sum() == pytest.approx(3 * (coloured[0] == plain).sum(), rel=0.1)
    assert (coloured[1] == plain).sum() == pytest.approx(3 * (coloured[1] == chosen).sum(), rel=0.1)


def test_a_preview_is_an_animated_gif_of_fewer_frames(tmp_path: Path) -> None:
    video = record_episode(CARTPOLE, MLP((4,), 2), tmp_path / "a.mp4", max_steps=49)
    (tmp_path / "a.gif").write_bytes(preview(video.path))
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.format == "GIF"
        assert 1 < gif.n_frames < video.steps


def test_recording_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    net = nn.Sequential(MLP((4,), 2)).train()
    record_episode(CARTPOLE, net[0].train(), tmp_path / "a.mp4", max_steps=3)
    assert net[0].training


class BreaksDown(MLP):
    calls = 0

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("broken on purpose")
        return super().forward(observations)


def test_a_recording_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="broken on purpose"):
        record_episode(CARTPOLE, BreaksDown((4,), 2), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWritable, match=r"cannot write .*file/a.mp4: .*; choose another place"):
        record_episode(CARTPOLE, MLP((4,), 2), tmp_path / "file" / "a.mp4")


def test_a_missing_ffmpeg_is_named_before_anything_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-such-program"))
    with pytest.raises(NotWritable, match=r"videos need ffmpeg and none was found; .*IMAGEIO_FFMPEG_EXE"):
        record_episode(CARTPOLE, BreaksDown((4,), 2), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
