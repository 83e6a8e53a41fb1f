"""Env steps a second on one core, with random actions, for everything that can step an environment.

    python benchmarks/env_backends.py --seconds 2
    python benchmarks/env_backends.py --seconds 2 --num-envs 32 --only CartPole-v1,Pendulum-v1

"Gymnasium" is its bare `SyncVectorEnv`; "checked", "ALE", "vector" and "EnvPool" are `env.backend` "gymnasium", "ale",
"vector" and "envpool" as collectors step them. Steps of "vector" that only reset, after an episode, do not count. All
are measured in turns, on one core, and the median of `--rounds` is printed. "-" is what does not exist, is not
installed or does not play the id.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from statistics import median

import gymnasium
import numpy as np
from arguments import count, duration
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lightning_a3c.environments.config import Backend, EnvConfig
from lightning_a3c.environments.envpool_tasks import require_playable_by_envpool
from lightning_a3c.environments.making import make_training_env
from lightning_a3c.environments.registry import spec_of

IDS = (
    "CartPole-v1,Pendulum-v1,Acrobot-v1,LunarLander-v3,BipedalWalker-v3,HalfCheetah-v5,Hopper-v5,"
    "PongNoFrameskip-v4,minigrid:MiniGrid-DoorKey-5x5-v0"
)
WAYS = ("Gymnasium", "checked", "ALE", "vector", "EnvPool")
_ACTIONS = 64  # drawn beforehand


def makers(env_id: str, num_envs: int) -> dict[str, Callable[[], VectorEnv]]:
    """How to make each vector environment that exists of an id."""

    def ours(backend: Backend) -> Callable[[], VectorEnv]:
        return lambda: make_training_env(EnvConfig(env_id, num_envs, backend=backend))

    is_game = "NoFrameskip" in env_id
    ways = {"checked": ours("gymnasium")}
    if is_game:
        ways["ALE"] = ours("ale")
    else:
        bare = [lambda: gymnasium.make(env_id)] * num_envs
        ways["Gymnasium"] = lambda: SyncVectorEnv(bare, autoreset_mode=AutoresetMode.SAME_STEP)
    if spec_of(env_id).vector_entry_point and not is_game:
        ways["vector"] = ours("vector")
    with suppress(ValueError):
        require_playable_by_envpool(EnvConfig(env_id), spec_of(env_id))
        ways["EnvPool"] = ours("envpool")
    return ways


def rate(make: Callable[[], VectorEnv], seconds: float) -> float:
    """Env steps a second."""
    env = make()
    env.single_action_space.seed(0)
    draw = env.single_action_space.sample
    actions = [np.stack([draw() for _ in range(env.num_envs)]) for _ in range(_ACTIONS)]
    resets_later = env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    try:
        env.reset(seed=0)
        steps = calls = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            _, _, terminated, truncated, _ = env.step(actions[calls % _ACTIONS])
            calls += 1
            steps += env.num_envs - (int((terminated | truncated).sum()) if resets_later else 0)
        return steps / (time.perf_counter() - start)
    finally:
        env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=1.0, help="for each number of each round")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--num-envs", type=count, default=8)
    parser.add_argument("--only", default=IDS, help="ids, separated by commas")
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    warnings.simplefilter("ignore")
    print(f"env steps/s on core {core}, {args.num_envs} environments\n")
    print(f"| environment | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for env_id in args.only.split(","):
        ways = makers(env_id, args.num_envs)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, make in ways.items():
                rates[way].append(rate(make, args.seconds))
        cells = [f"{median(rates[way]):,.0f}" if way in rates else "-" for way in WAYS]
        print(f"| `{env_id}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
