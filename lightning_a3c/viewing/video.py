"""Episodes as MP4 files: the game in colour, with the agent's policy and value beside it. Needs no display."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.rl.network_checks import evaluating
from lightning_a3c.rl.policies import NetworkPolicy
from lightning_a3c.system.files import NotWritable, atomic_write
from lightning_a3c.viewing.playback import PlaybackStep, make_watched_env, play_episode

_PANEL_WIDTH = 180
_LINE = 11  # pixels
_MARGIN = 6
_BACKGROUND, _TEXT, _BAR, _CHOSEN = (24, 24, 28), (225, 225, 225), (88, 110, 150), (240, 160, 60)


class Recording(NamedTuple):
    """A finished recording."""

    path: Path
    episode_return: float  # unclipped, of the recorded steps
    steps: int  # env steps
    is_whole: bool  # the episode ended before the recording did

    def __str__(self) -> str:
        steps = f"{self.steps:,} env steps" if self.is_whole else f"the first {self.steps:,} env steps, then cut off"
        return f"{self.path}: return {self.episode_return:g} in {steps}"


class RecordingAbandoned(Exception):
    """The caller stopped the recording; no file was written."""


def require_encoder() -> str:
    """The path of the ffmpeg program, which encodes the videos.

    Raises:
        NotWritable: there is no ffmpeg.
    """
    try:
        imageio_ffmpeg.get_ffmpeg_version()  # runs it
    except (RuntimeError, OSError) as error:
        raise NotWritable(
            "videos need ffmpeg and none was found; `pip install --force-reinstall imageio-ffmpeg` brings one, "
            "and the variable IMAGEIO_FFMPEG_EXE names another"
        ) from error
    program: str = imageio_ffmpeg.get_ffmpeg_exe()
    return program


def record_episode(
    config: EnvConfig,
    net: nn.Module,
    path: str | Path,
    greedy: bool = False,
    seed: int = 0,
    max_steps: int = 10_000,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Recording:
    """Play one episode and write it to `path`, a video at the speed of the real game.

    Args:
        config: the environment.
        net: the policy's network, on any device; used in evaluation mode.
        path: an `.mp4` file, replaced if it exists.
        greedy: take the likeliest action instead of sampling.
        seed: seed of the environment and the sampling.
        max_steps: env steps after which the recording ends, even within an episode.
        is_interrupted: called before each step; True abandons the recording.

    Raises:
        NotWritable: ffmpeg is missing, or `path` cannot be written.
        RecordingAbandoned: `is_interrupted` returned True.
        ValueError: the environment cannot be rendered.
    """
    require_encoder()
    with evaluating(net), closing(make_watched_env(config)) as env:
        moments = play_episode(env, NetworkPolicy(net, seed=seed, greedy=greedy), seed)
        step = next(moments)
        first = draw(env.render(), step)  # type: ignore[arg-type]  # rgb_array gives an array
        with atomic_write(path) as partial, _encoder(partial, first, env.metadata.get("render_fps", 30)) as encoder:
            encoder.send(first)
            while step.steps < max_steps and not step.is_last:
                if is_interrupted():
                    raise RecordingAbandoned
                step = next(moments)
                encoder.send(draw(env.render(), step))  # type: ignore[arg-type]
    return Recording(Path(path), step.score, step.steps, step.is_last)


def draw(frame: np.ndarray, step: PlaybackStep) -> np.ndarray:
    """uint8 [H, W, 3] with a panel to its right: score, step, value, and a bar for each action.

    The frame keeps its pixels. Height and width of the result are even, as H.264 requires.
    """
    height = max(frame.shape[0], 2 * _MARGIN + (4 + len(step.bars)) * _LINE)
    image = Image.new("RGB", (_even(frame.shape[1] + _PANEL_WIDTH), _even(height)), _BACKGROUND)
    image.paste(Image.fromarray(frame), (0, 0))
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=10)
    left, top = frame.shape[1] + _MARGIN, _MARGIN
    for line in (f"score {step.score:g}", f"step {step.steps}", f"value {step.value:+.3f}"):
        canvas.text((left, top), line, _TEXT, font)
        top += _LINE
    top += _LINE // 2
    bar_left, bar_width = left + 86, 52
    for bar in step.bars:
        canvas.text((left, top), bar.name[:13], _CHOSEN if bar.is_chosen else _TEXT, font)
        box = (bar_left, top + 2, bar_left + round(bar_width * bar.share), top + _LINE - 2)
        canvas.rectangle(box, _CHOSEN if bar.is_chosen else _BAR)
        canvas.text((bar_left + bar_width + 4, top), bar.text, _TEXT, font)
        top += _LINE
    return np.asarray(image)


def preview(video: Path, frames_per_second: int = 5) -> bytes:
    """`video` as an animated GIF of fewer frames, which TensorBoard can show."""
    gif_filter = f"fps={frames_per_second},split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse"
    command = [require_encoder(), "-loglevel", "error", "-i", str(video), "-vf", gif_filter, "-f", "gif", "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True, start_new_session=True).stdout  # safe from Ctrl-C


@contextmanager
def _encoder(path: Path, example: np.ndarray, frames_per_second: float) -> Iterator[Generator[None, np.ndarray, None]]:
    """An encoder with a method `send` for frames of the size of `example`."""
    size = example.shape[1], example.shape[0]
    encoder = imageio_ffmpeg.write_frames(path, size, fps=frames_per_second, macro_block_size=2)
    encoder.send(None)  # starts ffmpeg
    try:
        yield encoder
    finally:
        encoder.close()


def _even(number: int) -> int:
    return number + number % 2
