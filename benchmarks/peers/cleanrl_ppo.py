"""CleanRL's PPO with EnvPool: runs `cleanrl/ppo_atari_envpool.py` of a clone as it is, with its defaults.

The file is written for gym 0.23 and EnvPool 0.6. Where it asks for them it gets a stand-in for the one class and the
one name of gym that it uses, and today's EnvPool behind the interface of that time.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import envpool
import gymnasium
import numpy as np
import torch
from reporting import EPISODES, Run, parser

NUM_ENVS, NUM_STEPS = 8, 128  # the file's defaults
SCRIPT = Path("cleanrl/ppo_atari_envpool.py")


class Stop(Exception):
    """Ends the file's loop."""


class OldWrapper:
    """As much of gym's `Wrapper` as the file uses."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, **options: Any) -> Any:
        return self.env.reset(**options)

    def step(self, actions: Any) -> Any:
        return self.env.step(actions)


class OldEnvPool:
    """EnvPool as its version 0.6 was: `reset` gives observations alone and `step` four values."""

    def __init__(self, env: Any, run: Run) -> None:
        self._env, self._run = env, run
        self.action_space, self.observation_space = env.action_space, env.observation_space
        self._env_steps = 0
        self._scores = np.zeros(NUM_ENVS)
        self._returns: deque[float] = deque(maxlen=EPISODES)

    def reset(self) -> Any:
        return self._env.reset()[0]

    def step(self, actions: Any) -> Any:
        # at the start of each cycle, after the learning of the last one
        is_whole = self._env_steps % (NUM_ENVS * NUM_STEPS) == 0
        if is_whole and self._env_steps and self._run.tick(self._env_steps, lambda: list(self._returns)):
            raise Stop
        observations, rewards, terminated, truncated, info = self._env.step(actions)
        self._env_steps += NUM_ENVS
        done = terminated | truncated
        self._scores += info["reward"]  # not clipped
        self._returns.extend(self._scores[done])
        self._scores[done] = 0.0
        return observations, rewards, done, info | {"terminated": done}

    def close(self) -> None:
        self._env.close()


def main() -> None:
    """Train."""
    options = parser()
    options.add_argument("--clone", type=Path, required=True, help="of the repository vwxyzjn/cleanrl")
    given = options.parse_args()
    run = Run(given)
    make_now = envpool.make

    def make(task: str, env_type: str, **settings: Any) -> OldEnvPool:
        return OldEnvPool(make_now(task, env_type="gymnasium", **settings), run)

    gym: Any = ModuleType("gym")
    gym.Wrapper, gym.spaces = OldWrapper, gymnasium.spaces
    sys.modules["gym"] = gym
    envpool.make = make  # type: ignore[assignment]
    networks: list[Any] = []
    make_adam = torch.optim.Adam

    def adam(parameters: Any, **settings: Any) -> Any:
        networks.extend(parameters := list(parameters))
        return make_adam(parameters, **settings)

    torch.optim.Adam = adam  # type: ignore[assignment,misc]
    script = given.clone / SCRIPT
    sys.argv = [str(script), "--env-id", "Pong-v5", "--no-cuda"]
    with suppress(Stop):
        runpy.run_path(str(script), run_name="__main__")
    version = subprocess.run(
        ["git", "-C", given.clone, "log", "-1", "--format=%h"], capture_output=True, text=True, check=False
    ).stdout.strip()
    layout = f"1 process, {NUM_ENVS} environments × {NUM_STEPS} steps, 4 epochs of 4 minibatches"
    run.write(version=version or "unknown", parameters=sum(part.numel() for part in networks), layout=layout)


if __name__ == "__main__":
    main()
