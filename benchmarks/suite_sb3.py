"""stable-baselines3's A2C with the values of RL Baselines3 Zoo (`hyperparams/a2c.yml`), for the suite."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import stable_baselines3
import torch
import yaml
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from lightning_a3c.system.machine import machine

_ROBOTS: dict[str, Any] = {
    "normalize": True,
    "n_steps": 8,
    "gae_lambda": 0.9,
    "vf_coef": 0.4,
    "ent_coef": 0.0,
    "learning_rate": "linear 7e-4",
    "use_sde": True,
    "policy_kwargs": {"log_std_init": -2, "ortho_init": False},
}
_NORMALIZED = {"normalize": True, "env_steps": 1_000_000}  # for MuJoCo, stable-baselines3's own defaults
_ATARI: dict[str, Any] = {
    "n_envs": 16,
    "env_steps": 10_000_000,
    "ent_coef": 0.01,
    "vf_coef": 0.25,
    "policy_kwargs": {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
}
VALUES: dict[str, dict[str, Any]] = {
    "discrete/cartpole": {"n_envs": 8, "env_steps": 500_000},
    "discrete/acrobot": {"n_envs": 16, "env_steps": 500_000, "normalize": True},
    "discrete/mountaincar": {"n_envs": 16, "env_steps": 1_000_000, "normalize": True},
    "discrete/lunarlander": {
        "n_envs": 8,
        "env_steps": 200_000,
        "gamma": 0.995,
        "learning_rate": "linear 8.3e-4",
        "ent_coef": 1e-5,
    },
    "continuous/pendulum": _ROBOTS | {"n_envs": 8, "env_steps": 1_000_000, "gamma": 0.9},
    "continuous/lunarlander_continuous": _ROBOTS | {"n_envs": 4, "env_steps": 5_000_000},
    "continuous/bipedalwalker": _ROBOTS | {"n_envs": 16, "env_steps": 5_000_000, "learning_rate": "linear 9.6e-4"},
    "continuous/inverted_double_pendulum": _NORMALIZED,
    "continuous/halfcheetah": _NORMALIZED,
    "continuous/hopper": _NORMALIZED,
    "continuous/walker2d": _NORMALIZED,
    **{f"atari/{game}": _ATARI for game in ("pong", "breakout", "space_invaders", "seaquest", "beam_rider", "qbert")},
}
"""By part; what is left out is stable-baselines3's default, and one environment."""


class _Log(BaseCallback):
    """Rows of env steps, seconds of training and the mean return of the last 100 episodes."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.rows: list[tuple[float, float, float | str]] = []

    def _on_training_start(self) -> None:
        self._begun = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.every * (len(self.rows) + 1):
            self._add()
        return True

    def _on_training_end(self) -> None:
        self._add()

    def _add(self) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean = sum(returns) / len(returns) if returns else ""
        self.rows.append((self.num_timesteps, time.perf_counter() - self._begun, mean))


def train_and_test(part: str, env_id: str, seed: int, runs: Path, episodes: int) -> tuple[Path, dict[str, Any]]:
    """Train with the zoo's values and play test episodes; returns a folder like a run's and what `about.json` says.

    Raises:
        ValueError: the zoo has no values for the part.
    """
    if part not in VALUES:
        raise ValueError(f"RL Baselines3 Zoo has no A2C for {part}; it has {', '.join(VALUES)}")
    values = dict(VALUES[part])
    is_atari = part.startswith("atari/")
    num_envs, env_steps = values.pop("n_envs", 1), values.pop("env_steps")
    normalizes, rate = values.pop("normalize", False), values.get("learning_rate")
    if rate is not None:
        values["learning_rate"] = _linear(float(rate.removeprefix("linear ")))
    gymnasium.register_envs(ale_py)
    env = _environments(env_id, num_envs, seed, is_atari)
    if normalizes:
        env = VecNormalize(env, gamma=values.get("gamma", 0.99))
    torch.manual_seed(seed)
    policy = "CnnPolicy" if is_atari else "MlpPolicy"
    model = A2C(policy, env, seed=seed, device="cpu", **values)
    log = _Log(max(1, env_steps // 200))
    model.learn(env_steps, callback=log)

    tests = _environments(env_id, 1, seed + 1000, is_atari)  # new ones: those of training are in the middle of games
    if normalizes:
        tests = VecNormalize(tests, training=False, norm_reward=False)
        assert isinstance(env, VecNormalize)
        tests.obs_rms = env.obs_rms
    returns, lengths = evaluate_policy(
        model, tests, episodes, deterministic=not is_atari, return_episode_rewards=True, warn=False
    )
    folder = runs / f"sb3_{part.replace('/', '_')}_seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "csv" / "version_0").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    with (folder / "csv" / "version_0" / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("env_steps", "train_seconds", "return_100"), *log.rows])
    settings = {"env": env_id, "seed": seed, **VALUES[part], "policy_kwargs": str(values.get("policy_kwargs"))}
    (folder / "csv" / "version_0" / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "csv" / "version_0" / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n")
    test = {"policy": "sample" if is_atari else "greedy", "returns": returns, "lengths": lengths}
    (folder / "checkpoints" / "last.test.json").write_text(json.dumps(test, indent=2) + "\n")
    command = f"python benchmarks/suite.py {part} --library sb3 --first-seed {seed} --seeds 1"
    about = {"command": command, "backend": f"stable-baselines3 {stable_baselines3.__version__}"}
    return folder, about


def _environments(env_id: str, number: int, seed: int, is_atari: bool) -> VecEnv:
    if is_atari:
        return VecFrameStack(make_atari_env(env_id, n_envs=number, seed=seed), n_stack=4)
    return make_vec_env(env_id, n_envs=number, seed=seed)


def _linear(rate: float) -> Callable[[float], float]:
    """Falls from `rate` to 0 with the share of training that is left."""
    return lambda left: left * rate
