"""A script that trains CartPole with several learners, for tests that start it: `python -m tests.two_learners OPTIONS`.

OPTIONS is JSON: `folder`, `learners`, and what else `train` takes. Each learner leaves its process id in `rank-N.pid`
after a few updates, and its results in `rank-N.pt`.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytorch_lightning as pl
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from lightning_a3c import (
    A3CModule,
    CollectorDataModule,
    EnvConfig,
    GradientParallel,
    RayCollectors,
    RecordVideo,
    StopAfterEnvSteps,
    StopWhenSolved,
    Supervision,
)
from lightning_a3c.collection.payloads import SendGradients
from lightning_a3c.learning.stopping import StopOnSignal
from lightning_a3c.rl.types import Gradients, Payload, Transitions
from lightning_a3c.viewing.test_results import SaveTestResults

UPDATES_BEFORE_PID = 5
BROKEN_UPDATES = 20


class BreaksOnSecond(CartPoleEnv):
    """CartPole that raises at its 500th step, in the collectors of the second learner."""

    taken = 0

    def step(self, action: int) -> Any:
        self.taken += 1
        if self.taken == 500 and os.environ.get("LOCAL_RANK") == "1":
            raise RuntimeError("broken on purpose")
        return super().step(action)


class SlowCartPole(CartPoleEnv):
    """CartPole whose steps take a second after the first updates, so that the learner waits."""

    taken = 0

    def step(self, action: int) -> Any:
        self.taken += 1
        time.sleep(0.01 if self.taken < 30 else 1.0)
        return super().step(action)


class WideCartPole(SlowCartPole):
    """Shows so many numbers that messages lie in Ray's object store."""

    WIDTH = 1000

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        limits = self.observation_space
        assert isinstance(limits, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(
            np.tile(limits.low, self.WIDTH), np.tile(limits.high, self.WIDTH), dtype=np.float32
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        shown, info = super().reset(seed=seed, options=options)
        return np.tile(shown, self.WIDTH), info

    def step(self, action: int) -> Any:
        shown, *rest = super().step(action)
        return np.tile(shown, self.WIDTH), *rest


@dataclass(frozen=True)
class BrokenGradients:
    """Gradients that are NaN from collector 1 at first."""

    send: SendGradients

    def __call__(
        self, net: nn.Module, transitions: Transitions, rank: int, update: int, out: Payload | None = None
    ) -> Gradients:
        sent = self.send(net, transitions, rank, update, out)
        if rank == 1 and update < BROKEN_UPDATES:
            sent.gradient.fill_(torch.nan)
            sent.norm.fill_(torch.nan)
        return sent


class ApplyBroken(GradientParallel):
    def make_payload(self, module: pl.LightningModule) -> Any:
        return BrokenGradients(super().make_payload(module))


class Notes(pl.Callback):
    """Leaves the process id, and breaks learner `breaks` after 20 updates."""

    def __init__(self, folder: Path, breaks: int | None) -> None:
        self.folder = folder
        self.breaks = breaks

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == UPDATES_BEFORE_PID:
            (self.folder / f"rank-{trainer.global_rank}.pid").write_text(str(os.getpid()))
        if trainer.global_step == 20 and trainer.global_rank == self.breaks:
            raise RuntimeError("the callback broke on purpose")


def train(
    folder: Path,
    learners: int,
    mode: str = "data",
    updates: int = 200,
    env: str = "CartPole-v1",
    breaks: int | None = None,
    resume: str | None = None,
    env_steps: int | None = None,
    tests: bool = False,
    videos: int | None = None,
    broken_gradients: bool = False,
    module: dict[str, Any] | None = None,
    collectors: dict[str, Any] | None = None,
    solved: float | None = None,
    **changes: Any,
) -> None:
    torch.manual_seed(0)
    values = {
        "num_workers": 2 // learners,
        "micro_batch_size": 16,
        "batch_size": 32 // learners,
        "updates_per_epoch": 50,
        "seed": 5,
        "supervision": Supervision(max_restarts=0),
        "collectors": None if collectors is None else RayCollectors(**collectors),
    }
    data = CollectorDataModule(EnvConfig(env, num_envs=4, backend="gymnasium"), **(values | changes))
    agent = A3CModule.for_data(data, mode=mode, **(module or {}))
    callbacks = [Notes(folder, breaks), StopOnSignal(), SaveTestResults()]
    callbacks += [StopAfterEnvSteps(env_steps)] if env_steps else []
    callbacks += [StopWhenSolved(solved)] if solved else []
    callbacks += [RecordVideo(videos, str(folder / "videos"), max_steps=20)] if videos else []
    callbacks += [ApplyBroken()] if broken_gradients else []
    callbacks.append(ModelCheckpoint(folder / "checkpoints", save_last=True, save_on_exception=True))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=learners,
        strategy="ddp" if learners > 1 else "auto",
        max_steps=updates,
        max_epochs=-1,
        callbacks=callbacks,
        gradient_clip_val=0.5 if mode == "data" else None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(agent, datamodule=data, ckpt_path=resume)
    results = {
        "weights": {name: tensor.clone() for name, tensor in agent.state_dict().items()},
        "progress": agent.progress.state_dict(),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "updates": trainer.global_step,
    }
    if tests:
        results["tested"] = trainer.test(agent, datamodule=data, verbose=False)
    torch.save(results, folder / f"rank-{trainer.global_rank}.pt")


gymnasium.register("BreaksOnSecond-v0", "tests.two_learners:BreaksOnSecond", max_episode_steps=500)
gymnasium.register("SlowCartPole-v0", "tests.two_learners:SlowCartPole", max_episode_steps=500)
gymnasium.register("WideCartPole-v0", "tests.two_learners:WideCartPole", max_episode_steps=500)

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    train(Path(options.pop("folder")), **options)
