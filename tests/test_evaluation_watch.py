"""SIGTERM ends evaluation and recording too, long episodes or not; environments here send it to their own process."""

import json
import os
import signal
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, ProgressLines, RecordVideo, SaveTestResults
from lightning_a3c.rl.networks import MLP
from tests.scripted import SeededLengthEnv

UNTRAINED = "plays untrained weights"


class Endless(gymnasium.Env):
    """Plays one step in training and never ends elsewhere; sends SIGTERM at step `at` of the first long episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    at = 20
    last = 1000  # so that a test that fails ends
    made = 0

    def __init__(self, first_long: int = 0, render_mode: str | None = None) -> None:
        Endless.made += 1
        self.is_long = Endless.made > first_long
        self.render_mode = render_mode
        self.t = 0

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        self.t += 1
        if self.is_long and self.t == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        assert self.t < self.last
        return np.zeros(1, np.float32), 1.0, not self.is_long, False, {}

    def render(self) -> np.ndarray:
        return np.zeros((64, 64, 3), np.uint8)


# by its name: by the class, all workers would import this module, and Lightning with it
gymnasium.register("Endless-v0", entry_point="tests.test_evaluation_watch:Endless")


@pytest.fixture(autouse=True)
def count_anew() -> None:
    Endless.made = 0


def trainer(folder: Path, *callbacks: pl.Callback, **changes: object) -> pl.Trainer:
    values = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    values |= {
        "default_root_dir": folder,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
    }
    return pl.Trainer(callbacks=list(callbacks), **(values | changes))


def data(short_environments: int, **changes: object) -> CollectorDataModule:
    """Its first environments play short episodes: the one that is looked at, and those that collect."""
    env = EnvConfig("Endless-v0", num_envs=1, kwargs={"first_long": short_environments})
    small = {"num_workers": 0, "micro_batch_size": 4, "batch_size": 4, "updates_per_epoch": 2, "seed": 0}
    return CollectorDataModule(env, **(small | {"eval_episodes": 2} | changes))


@pytest.mark.parametrize("command", ["test", "validate"])
def test_evaluation_ends_within_a_step_of_the_signal(command: str, tmp_path: Path) -> None:
    stream = data(short_environments=0)
    module = A3CModule.for_data(stream)
    with pytest.warns(match=UNTRAINED), pytest.raises(SIGTERMException):
        getattr(trainer(tmp_path, SaveTestResults()), command)(module, datamodule=stream)
    assert not list(tmp_path.iterdir())


def test_training_that_validates_ends_with_a_checkpoint_and_can_be_resumed(tmp_path: Path) -> None:
    saves = {"dirpath": tmp_path, "save_last": True, "save_on_exception": True}
    options = {"max_steps": 4, "num_sanity_val_steps": 0}
    stream = data(short_environments=2, validate_in_fit=True)
    module = A3CModule.for_data(stream)
    with pytest.raises(SIGTERMException):
        trainer(tmp_path, ModelCheckpoint(**saves), **options).fit(module, datamodule=stream)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    Endless.made = -100  # all episodes are short from here on
    stream = data(short_environments=2, validate_in_fit=True)
    module = A3CModule.for_data(stream)
    with pytest.warns(match="exists and is not empty"):
        trainer(tmp_path, ModelCheckpoint(**saves), **options).fit(
            module, datamodule=stream, ckpt_path=tmp_path / "last.ckpt"
        )
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    assert module.progress.env_steps > saved["progress"]["env_steps"]


def test_training_that_records_abandons_the_video_and_ends_with_a_checkpoint(tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path / "ck", save_last=True, save_on_exception=True)
    stream = data(short_environments=2)
    module = A3CModule.for_data(stream)
    video = RecordVideo(every_updates=1, folder=str(tmp_path / "videos"))
    with pytest.raises(SIGTERMException):
        trainer(tmp_path, saves, video, max_steps=4).fit(module, datamodule=stream)
    assert torch.load(tmp_path / "ck/last.ckpt", weights_only=True)["global_step"] == 1
    assert not list((tmp_path / "videos").iterdir())


def test_a_test_whose_video_is_abandoned_keeps_its_results(tmp_path: Path) -> None:
    stream = data(short_environments=2)
    module = A3CModule.for_data(stream)
    with pytest.warns(match=UNTRAINED), pytest.raises(SIGTERMException):
        trainer(tmp_path, RecordVideo(), SaveTestResults()).test(module, datamodule=stream, verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["untrained.test.json"]
    assert json.loads((tmp_path / "untrained.test.json").read_text())["episodes"] == 2


class Signalling(MLP):
    """Sends SIGTERM whenever it is called with a whole chunk."""

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if len(observations) > 100:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(observations)


def test_prediction_ends_between_two_chunks(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((1000, 1), np.float32))
    stream = data(short_environments=9, predict_observations=str(tmp_path / "o.npy"))
    module = A3CModule.for_data(stream, network=Signalling((1,), 2))
    with pytest.warns(match=UNTRAINED), pytest.raises(SIGTERMException):
        trainer(tmp_path).predict(module, datamodule=stream)


def test_a_line_tells_how_far_an_evaluation_is_before_its_first_episode_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert SeededLengthEnv  # registers SeededLength-v0: two steps in the first sub-environment, ten in the second
    stream = CollectorDataModule(EnvConfig("SeededLength-v0", num_envs=2), num_workers=0, eval_episodes=2, seed=0)
    with pytest.warns(match=UNTRAINED), caplog.at_level("INFO"):
        trainer(tmp_path, ProgressLines(1e-6)).test(A3CModule.for_data(stream), datamodule=stream, verbose=False)
    lines = [record.message for record in caplog.records if "episodes ended" in record.message]
    assert len(lines) == 10
    assert "test: 0 of 2 episodes ended  env steps 2  steps/s" in lines[0]
    assert "test: 2 of 2 episodes ended  env steps 20  steps/s" in lines[-1]


def test_a_short_evaluation_prints_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = CollectorDataModule(EnvConfig("SeededLength-v0", num_envs=2), num_workers=0, eval_episodes=2, seed=0)
    with pytest.warns(match=UNTRAINED), caplog.at_level("INFO"):
        trainer(tmp_path, ProgressLines()).test(A3CModule.for_data(stream), datamodule=stream, verbose=False)
    assert not [record for record in caplog.records if "episodes ended" in record.message]
