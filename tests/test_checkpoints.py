"""Checkpoint files: whole whatever happens, and never executed."""

import multiprocessing
import os
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig
from lightning_a3c.learning.checkpoints import AtomicCheckpointIO
from tests.command_line import lightning_a3c, main

SIZE = 500_000


def save_again_and_again(path: Path) -> None:
    """In a forked process, where PyTorch's threads do not exist: NumPy fills the tensors."""
    number = 0
    while True:
        number += 1
        AtomicCheckpointIO().save_checkpoint({"weights": torch.from_numpy(np.full(SIZE, number))}, path)


def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint_fifty_times(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    chance = random.Random(0)
    context = multiprocessing.get_context("fork")  # one from a server would import Lightning, fifty times
    killed_while_saving = 0
    for _ in range(50):
        process = context.Process(target=save_again_and_again, args=(path,))
        started = path.stat().st_mtime_ns if path.exists() else 0
        process.start()
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_mtime_ns == started:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.join()
        weights = torch.load(path, weights_only=True)["weights"]
        assert len(weights) == SIZE
        assert (weights == weights[0]).all()
        partials = list(tmp_path.glob(".*partial*"))
        killed_while_saving += len(partials) > 0
        for partial in partials:
            partial.unlink()
    assert killed_while_saving > 5


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_malicious_checkpoint_is_refused_and_nothing_in_it_is_executed(tmp_path: Path) -> None:
    data = CollectorDataModule(EnvConfig("CartPole-v1", num_envs=2), num_workers=0)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    path = tmp_path / "stranger.ckpt"
    torch.save({"state_dict": Malicious(tmp_path / "executed")}, path)
    with pytest.raises(pickle.UnpicklingError):
        trainer.fit(A3CModule.for_data(data), datamodule=data, ckpt_path=path, weights_only=False)
    with pytest.raises(SystemExit, match=r"stranger.ckpt is not a checkpoint of this package"):
        main(["play", "--ckpt_path", str(path), "--video", str(tmp_path / "a.mp4")])
    assert [file.name for file in tmp_path.iterdir()] == ["stranger.ckpt"]


def test_the_command_line_refuses_a_malicious_checkpoint_too(tmp_path: Path) -> None:
    path = tmp_path / "stranger.ckpt"
    torch.save({"state_dict": Malicious(tmp_path / "executed")}, path)
    refused = lightning_a3c("fit", "--data.num_workers=0", f"--ckpt_path={path}", folder=tmp_path)
    assert refused.returncode == 1
    assert "Weights only load failed" in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["stranger.ckpt"]


def test_yaml_with_python_objects_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data: !!python/object/apply:os.system ['touch {tmp_path / 'executed'}']")
    refused = lightning_a3c("fit", f"--config={config}", folder=tmp_path)
    assert refused.returncode == 2
    assert str(config) in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_trainers_write_whole_checkpoints_unless_told_otherwise(tmp_path: Path) -> None:
    class Own(AtomicCheckpointIO):
        pass

    for plugins, kind in (([], AtomicCheckpointIO), ([Own()], Own)):
        data = CollectorDataModule(EnvConfig("CartPole-v1", num_envs=2), num_workers=0)
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_progress_bar=False, plugins=plugins,
            enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(A3CModule.for_data(data), datamodule=data)
        assert type(trainer.strategy.checkpoint_io) is kind


def test_what_numpy_counts_is_kept_in_checkpoints_as_plain_numbers(tmp_path: Path) -> None:
    module = A3CModule((np.int64(4),), np.int64(2))  # as `env.action_space.n` is
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]
    assert (loaded["observation_shape"], loaded["num_actions"]) == ((4,), 2)


def test_what_no_checkpoint_can_give_back_is_refused_before_training(tmp_path: Path) -> None:
    data = CollectorDataModule(EnvConfig("tests.scripted:Failing-v0", kwargs={"error": OSError}), num_workers=0)
    module = A3CModule.for_data(data)
    silent = {"accelerator": "cpu", "max_steps": 1, "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(**silent, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match=r"^env\.kwargs .*OSError.* cannot be kept in a checkpoint"):
        trainer.fit(module, datamodule=data)
    assert not list(tmp_path.iterdir())
    pl.Trainer(**silent, enable_checkpointing=False, enable_model_summary=False).fit(module, datamodule=data)


def test_a_function_among_an_environments_arguments_trains_and_is_kept_in_no_checkpoint(tmp_path: Path) -> None:
    kwargs = {"script": [((1.0, 1.0), "terminated")], "start": CallableNumber()}
    data = CollectorDataModule(EnvConfig("tests.scripted:Scripted-v0", num_envs=2, kwargs=kwargs), num_workers=0)
    module = A3CModule.for_data(data)
    silent = {"accelerator": "cpu", "max_steps": 2, "logger": False, "enable_progress_bar": False}
    with pytest.raises(
        MisconfigurationException, match=r"^env\.kwargs .*CallableNumber.* set trainer\.enable_checkpointing to False"
    ):
        pl.Trainer(**silent, default_root_dir=tmp_path).fit(module, datamodule=data)
    assert not list(tmp_path.iterdir())
    trainer = pl.Trainer(**silent, enable_checkpointing=False, enable_model_summary=False)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2


class CallableNumber:
    """Zero, but none that pickle takes."""

    def __init__(self) -> None:
        self.function = lambda: 0

    def __add__(self, other: float) -> float:
        return other + self.function()
