"""stable-baselines3's A2C on Breakout for as long as `configs/breakout_data.yaml` was trained, and its score.

    python benchmarks/sb3_breakout.py --minutes 30 --output results/breakout/sb3_seed0

Its values are those that RL Baselines3 Zoo publishes for Atari; preprocessing is stable-baselines3's own. The folder
gets `progress.csv`, whose `rollout/ep_rew_mean` is the mean return of the last 100 games, and `test.json`, the returns
of 100 games of the trained policy with sampled actions. Returns are those of whole games, unclipped, as ours are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import ale_py
import gymnasium
import torch
from arguments import duration
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecFrameStack

from lightning_a3c.learning.summary import bootstrap_interval

NUM_EPISODES = 100


def make_env(seed: int) -> VecFrameStack:
    """16 environments in one process, preprocessed as in the Zoo."""
    return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=16, seed=seed), n_stack=4)


def main() -> None:
    """Train, then test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=duration, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    gymnasium.register_envs(ale_py)
    optimizer = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
    model = A2C(
        "CnnPolicy",
        make_env(args.seed),
        ent_coef=0.01,
        vf_coef=0.25,
        policy_kwargs=optimizer,
        seed=args.seed,
        device="cpu",
    )
    model.set_logger(configure(str(args.output), ["csv"]))
    end = time.monotonic() + 60 * args.minutes
    model.learn(10**9, callback=lambda _locals, _globals: time.monotonic() < end, log_interval=200)

    # new environments: those of training are in the middle of games
    env = make_env(args.seed + 1000)
    returns, _ = evaluate_policy(model, env, NUM_EPISODES, deterministic=False, return_episode_rewards=True)
    assert isinstance(returns, list)
    low, high = bootstrap_interval(torch.tensor(returns))
    result = {
        "env_steps": model.num_timesteps,
        "minutes": args.minutes,
        "num_episodes": len(returns),
        "mean": statistics.fmean(returns),
        "mean_low": low,
        "mean_high": high,
        "median": statistics.median(returns),
        "min": min(returns),
        "max": max(returns),
        "std": statistics.pstdev(returns),
        "returns": returns,
    }
    (args.output / "test.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['env_steps']} env steps, test {result['mean']:.1f}")


if __name__ == "__main__":
    main()
