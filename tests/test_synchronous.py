"""Synchronous training: one seed gives the same run, bit by bit, and a resumed run equals an uninterrupted one."""

import os
import random
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

import tests.scripted  # noqa: F401  registers Failing-v0
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.environments.making import make_vector_env
from lightning_a3c.environments.replay import ReplayableEnv
from lightning_a3c.viewing.runs import read_run

pytestmark = pytest.mark.timeout(600)

MODES = ["data", pytest.param("gradient", marks=pytest.mark.slow)]
CLOCKS = {"steps/s", "train_seconds"}  # all that may differ between two runs


ENTROPY_UPDATES = 40  # the entropy weight falls in all of a short run below, across the place where it is resumed


def data(env_id: str, **changes: object) -> CollectorDataModule:
    num_envs = 4 if env_id == "CartPole-v1" else 2  # enough of the slower ones
    sizes = {"micro_batch_size": 4 * num_envs, "batch_size": 8 * num_envs}
    values = {"num_workers": 2, "updates_per_epoch": 12, "seed": 5}
    return CollectorDataModule(EnvConfig(env_id, num_envs=num_envs), synchronous=True, **(sizes | values | changes))


def train(
    mode: str,
    env_id: str,
    updates: int,
    folder: Path,
    *callbacks: pl.Callback,
    resume: Path | None = None,
    num_workers: int = 2,
    **options: bool,
) -> tuple[A3CModule, dict[str, list[float]], Path]:
    """The trained module, what it logged, and a checkpoint."""
    torch.manual_seed(0)
    stream = data(env_id, num_workers=num_workers)
    module = A3CModule.for_data(
        stream, mode=mode, entropy_weight=0.5, final_entropy_weight=0.1, entropy_updates=ENTROPY_UPDATES, **options
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=updates,
        max_epochs=-1,
        callbacks=[*([GradientParallel()] if mode == "gradient" else []), *callbacks],
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=stream, ckpt_path=resume)
    trainer.save_checkpoint(folder / "end.ckpt")
    logged = {key: values.tolist() for key, values in read_run(folder).columns.items() if key not in CLOCKS}
    return module, logged, folder / "end.ckpt"


def assert_same_weights(one: A3CModule, other: A3CModule) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


class Delays(pl.Callback):
    """Stops a worker for a step, again and again, at random."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.training = True
        self.stopped = 0
        self.thread = threading.Thread(target=self._disturb, args=(trainer,))
        self.thread.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.training = False
        self.thread.join()

    def _disturb(self, trainer: pl.Trainer) -> None:
        chance = random.Random(0)
        while self.training:
            pool = trainer.datamodule._dataset._backend
            if isinstance(pool, WorkerPool) and pool.pids:
                pid = chance.choice(pool.pids)
                os.kill(pid, signal.SIGSTOP)
                time.sleep(chance.uniform(0, 0.05))
                os.kill(pid, signal.SIGCONT)
                self.stopped += 1
            time.sleep(chance.uniform(0, 0.03))


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_both_modes_lower_the_entropy_weight_with_the_updates(mode: str, tmp_path: Path) -> None:
    module, logged, _ = train(mode, "CartPole-v1", 20, tmp_path, num_workers=0)
    weights = [-term / entropy for term, entropy in zip(logged["loss_entropy"], logged["entropy"], strict=True)]
    assert logged["step"] == [4, 9, 14, 19]
    assert weights == pytest.approx([module.loss.entropy_weight_at(update) for update in (4, 9, 14, 19)], rel=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["CartPole-v1", pytest.param("PongNoFrameskip-v4", marks=pytest.mark.slow)])
def test_two_runs_are_bit_identical_however_their_workers_are_delayed(mode: str, env_id: str, tmp_path: Path) -> None:
    updates = 50 if env_id == "CartPole-v1" else 200
    first, logged, _ = train(mode, env_id, updates, tmp_path / "first")
    delays = Delays()
    second, logged_again, _ = train(mode, env_id, updates, tmp_path / "second", delays)
    assert delays.stopped > 3
    assert_same_weights(first, second)
    assert str(logged) == str(logged_again)  # as text, where NaN equals NaN
    assert set(logged["policy_lag"]) == {0.0}


@pytest.mark.parametrize(
    ("mode", "env_id", "episodes"),
    [
        ("data", "CartPole-v1", 25),
        pytest.param("gradient", "CartPole-v1", 25, marks=pytest.mark.slow),
        pytest.param("data", "BreakoutNoFrameskip-v4", 4, marks=pytest.mark.slow),
        pytest.param("gradient", "PongNoFrameskip-v4", 0, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    mode: str, env_id: str, episodes: int, tmp_path: Path
) -> None:
    half, updates = (19, 36) if env_id == "CartPole-v1" else (75, 140)
    whole, _, _ = train(mode, env_id, updates, tmp_path / "whole")
    _, _, checkpoint = train(mode, env_id, half, tmp_path / "half")  # in the middle of an epoch and of episodes
    resumed, _, _ = train(mode, env_id, updates, tmp_path / "resumed", resume=checkpoint)
    assert_same_weights(whole, resumed)
    clock = "train_seconds"
    states = [{k: v for k, v in m.progress.state_dict().items() if k != clock} for m in (whole, resumed)]
    assert states[0] == states[1]
    assert states[0]["episodes"] >= episodes


def test_a_resumed_run_scales_rewards_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_workers": 0, "normalize_rewards": True, "normalize_observations": True}
    whole, _, _ = train("data", "CartPole-v1", 36, tmp_path / "whole", **options)
    _, _, checkpoint = train("data", "CartPole-v1", 19, tmp_path / "half", **options)
    resumed, _, _ = train("data", "CartPole-v1", 36, tmp_path / "resumed", resume=checkpoint, **options)
    assert_same_weights(whole, resumed)


def test_states_taken_in_the_middle_of_a_batch_are_refused_instead_of_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_a3c.collection.processes.pool._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("lightning_a3c.collection.processes.pool._STOP_SECONDS", 0.1)
    stream = data("CartPole-v1")
    dataset = stream.dataset(A3CModule.for_data(stream).net)
    batches = iter(dataset)
    next(batches)
    pool = dataset._backend
    assert isinstance(pool, WorkerPool)
    os.kill(pool.pids[1], signal.SIGSTOP)

    def interrupt() -> None:
        raise SIGTERMException

    dataset.check_interrupt = interrupt
    with pytest.raises(SIGTERMException):
        next(batches)
    with pytest.warns(UserWarning, match=r"interrupted in a batch.*begins all episodes anew"):
        assert dataset.state_dict()["collectors"] is None
    dataset.close()


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_are_whole_steps_of_the_newest_policy(num_workers: int) -> None:
    stream = data("CartPole-v1", num_workers=num_workers, updates_per_epoch=4)
    dataset = stream.dataset(A3CModule.for_data(stream).net)
    for batch in dataset:
        assert batch.policy_lag.tolist() == [0, 0]
        assert int(batch.stats.env_steps.sum()) == 32
    dataset.close()


def test_a_failing_worker_ends_the_run_and_says_why_it_is_not_replaced() -> None:
    stream = CollectorDataModule(
        EnvConfig("tests.scripted:Failing-v0", num_envs=1),
        num_workers=1,
        micro_batch_size=8,
        batch_size=8,
        synchronous=True,
    )
    dataset = stream.dataset(A3CModule.for_data(stream).net)
    with pytest.raises(
        WorkerError, match=r"(?s)broke on purpose.*With data.synchronous a replacement would change the result"
    ):
        list(dataset)
    dataset.close()


def test_a_checkpoint_for_another_number_of_environments_begins_all_episodes_anew() -> None:
    stream = data("CartPole-v1", num_workers=0)
    dataset = stream.dataset(A3CModule.for_data(stream).net)
    next(iter(dataset))
    state = dataset.state_dict()
    dataset.close()
    other = data("CartPole-v1", num_workers=2)
    resumed = other.dataset(A3CModule.for_data(other).net)
    with pytest.warns(UserWarning, match=r"1 collectors × 4 environments, this run 2 × 4: all episodes begin anew"):
        resumed.load_state_dict(state)
    assert len(next(iter(resumed)).payload.returns) == 32
    resumed.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_workers": 3},
            r"batch_size must be a multiple of data.micro_batch_size × data.num_workers, got 32, 16 and 3",
        ),
        ({"micro_batch_size": 2}, r"micro_batch_size must be a multiple of env.num_envs, got 2 and 4"),
    ],
)
def test_batches_that_workers_cannot_share_evenly_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data("CartPole-v1", **changes)


for _id, _more in (
    ("CutBreakout-v0", {}),
    ("CutBreakoutHard-v0", {"difficulty": 1}),
):  # in ALE's vector environment, and not
    _game = {"game": "breakout", "repeat_action_probability": 0.25} | _more
    gymnasium.register(_id, "ale_py.env:AtariEnv", max_episode_steps=17, kwargs=_game)


@pytest.mark.parametrize(
    ("env_id", "steps"),
    [("CartPole-v1", 150), ("BreakoutNoFrameskip-v4", 200), ("CutBreakout-v0", 40), ("CutBreakoutHard-v0", 40)],
)
def test_playing_again_brings_every_sub_environment_back(env_id: str, steps: int) -> None:
    num_envs = 2 if env_id.startswith("Cut") else 3  # many resets, which take long
    config = EnvConfig(env_id, num_envs=num_envs)
    played, again = (ReplayableEnv(make_vector_env(config), seed=1) for _ in range(2))
    played.reset()
    ends = 0
    for t in range(steps):
        _, _, terminated, truncated, _ = played.step((torch.arange(num_envs) * t // 3 % 2).numpy())
        ends += int((terminated | truncated).sum())
    assert ends > 1
    observations, is_same = again.load_state_dict(played.state_dict())
    assert is_same
    for t in range(steps):
        action = (torch.arange(num_envs) + t).numpy() % 2
        one, other = played.step(action), again.step(action)
        for mine, theirs in zip(one[:4], other[:4], strict=True):
            assert (mine == theirs).all()
    played.close()
    again.close()
    assert observations.shape[0] == num_envs


def test_an_environment_that_its_seed_does_not_determine_is_noticed_when_played_again() -> None:
    config = EnvConfig("Unseeded-v0", num_envs=2)
    played, again = (ReplayableEnv(make_vector_env(config), seed=1) for _ in range(2))
    played.reset()
    played.step(np.array([0, 1]))
    assert not again.load_state_dict(played.state_dict())[1]
    played.close()
    again.close()


class CountsResets(gymnasium.Env[np.ndarray, int]):
    """Three steps; shows how often it was reset."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.resets, self.steps = self.resets + 1, 0
        return self._show(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._show(), 0.0, False, self.steps == 3, {}

    def _show(self) -> np.ndarray:
        return np.array([self.resets], np.float32)


def test_an_environment_is_reset_once_an_episode() -> None:
    gymnasium.register("CountsResets-v0", entry_point=CountsResets)
    env = EnvConfig("CountsResets-v0", num_envs=1)
    stream = CollectorDataModule(env, num_workers=0, micro_batch_size=9, batch_size=9, synchronous=True, n_steps=1)
    with closing(stream.dataset(A3CModule.for_data(stream).net)) as dataset:
        batch = next(iter(dataset))
    del gymnasium.registry["CountsResets-v0"]
    shown = batch.payload.observations.flatten()
    assert (shown - shown[0]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
