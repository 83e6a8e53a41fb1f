"""Environments whose every reward, length and ending is written down, so that tests can count by hand.

Registered on import: `gymnasium.make("SeededLength-v0")`, `gymnasium.make("Scripted-v0", script=...)`.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from torch import Tensor

from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import Decision

Ending = Literal["terminated", "truncated", "both"]


class Episode(NamedTuple):
    """At most 9 rewards, how the last step ends the episode, and the steps that cost a life."""

    rewards: tuple[float, ...]
    ending: Ending = "terminated"
    lives_lost_at: tuple[int, ...] = ()


class ScriptedEnv(gymnasium.Env[np.ndarray, int]):
    """Plays the episodes of `script` in turn, over and over, whatever the actions.

    Observation t of episode e is the number `start + 10 * e + t`, the final one included: an episode
    of two rewards shows 0, 1 and last 2, its successor begins at 10.
    """

    observation_space = spaces.Box(0, 1_000_000, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, script: Sequence[Episode | Sequence[Any]], start: int = 0) -> None:
        self.script = [Episode(*episode) for episode in script]
        self.start = start
        self.episode = -1
        self.t = 0
        self.actions_taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        episode = self.script[self.episode % len(self.script)]
        assert self.t < len(episode.rewards), "stepped after its end"
        self.actions_taken.append(int(action))
        reward = float(episode.rewards[self.t])
        info: dict[str, Any] = {"life_lost": 1}  # its own, which tells us nothing
        if self.t in episode.lives_lost_at:
            info["lightning_a3c.life_lost"] = True
        self.t += 1
        over = self.t == len(episode.rewards)
        terminated = over and episode.ending in ("terminated", "both")
        truncated = over and episode.ending in ("truncated", "both")
        return self._observation(), reward, terminated, truncated, info

    def _observation(self) -> np.ndarray:
        return np.array([self.start + 10 * self.episode + self.t], dtype=np.float32)


class SeededLengthEnv(gymnasium.Env[np.ndarray, int]):
    """Episodes of 2 steps if its first seed is even, else of 10; the reward is the action.

    The observation is the number of steps taken.
    """

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.length = 2
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.length = 10 if seed % 2 else 2
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.array([self.t], dtype=np.float32), float(action), self.t == self.length, False, {}


class FailingEnv(SeededLengthEnv):
    """Raises an `error` at its 200th step."""

    steps = 0

    def __init__(self, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.error = error

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 200:
            raise self.error("the environment broke on purpose")
        return super().step(action)


class SlowEnv(SeededLengthEnv):
    """Takes its time for each of the `slow_steps`."""

    def __init__(self, seconds: float, slow_steps: range) -> None:
        super().__init__()
        self.seconds = seconds
        self.slow_steps = slow_steps
        self.steps = 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps in self.slow_steps:
            time.sleep(self.seconds)
        return super().step(action)


class SimulatorEnv(SeededLengthEnv):
    """Starts a program, leaves its process id in `folder`, and ends it with `close`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.program = subprocess.Popen(["sleep", "100"])
        (folder / str(self.program.pid)).touch()

    def close(self) -> None:
        self.program.terminate()
        self.program.wait()


class Misbehaving(SeededLengthEnv):
    """Does `what` at step `at` if its first seed is odd, as that of the second sub-environment is here."""

    def __init__(self, what: str, at: int = 3) -> None:
        super().__init__()
        self.what = what
        self.at = at
        self.steps = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if self.what == "slow reset" and self.steps > self.at:
            time.sleep(100)
        return super().reset(**kwargs)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, *rest = super().step(action)
        if self.steps == self.at and self.length == 10:
            if self.what == "raise":
                raise RuntimeError("broken on purpose")
            if self.what == "hang":
                time.sleep(100)
            reward = float("nan") if self.what == "reward" else reward
            changed = {"shape": np.zeros(2, np.float32), "dtype": np.zeros(1, np.int64), "nan": np.full(1, np.nan)}
            observation = changed.get(self.what, observation)
            observation = observation.astype(np.float32) if self.what == "nan" else observation
        return observation, reward, *rest


class ChaoticCartPole(CartPoleEnv):
    """CartPole that now and then breaks or takes its time."""

    def step(self, action: int) -> Any:
        chance = random.random()
        if chance < 1 / 4000:
            raise RuntimeError("the environment broke by chance")
        if chance < 1 / 500:
            time.sleep(0.05)
        return super().step(action)


class UnseededEnv(SeededLengthEnv):
    """Shows a random number that no seed determines."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, *rest = super().step(action)
        return np.array([random.random()], dtype=np.float32), *rest


class GlobalDrawsEnv(SeededLengthEnv):
    """Draws from, and seeds, the random numbers that belong to the whole process."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        return super().reset(**kwargs)


class GlobalRandomEnv(SeededLengthEnv):
    """Shows numbers of the generators that Python, NumPy and PyTorch have one of in a process."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**kwargs)
        return self._draw(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, *rest = super().step(action)
        return self._draw(), *rest

    def _draw(self) -> np.ndarray:
        return np.array([random.random(), np.random.random(), float(torch.rand(1))], dtype=np.float32)


class Masked(gymnasium.Env[np.ndarray, int]):
    """Of three actions two are allowed; to take the third is an error."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._show()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.mask[action], "a masked action was taken"
        self.steps += 1
        observation, info = self._show()
        return observation, float(action), self.steps >= 5, False, info

    def _show(self) -> tuple[Any, dict[str, Any]]:
        self.mask = np.ones(3, bool)
        self.mask[self.np_random.integers(3)] = False
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {"action_mask": self.mask}

    def action_masks(self) -> np.ndarray:
        return self.mask


class NumberPolicy:
    """Values a state at the number it shows, and acts with that number's parity."""

    state_size = 0

    def __call__(self, observations: Tensor, memory: Memory) -> Decision:
        actions = observations[:, 0].long() % 2
        return Decision(actions, self.values(observations, memory), observations[:, :1], memory.state)

    def values(self, observations: Tensor, memory: Memory) -> Tensor:
        return observations[:, 0].clone()

    def log_probs(self, parameters: Tensor, actions: Tensor) -> Tensor:
        return -parameters[:, 0]


for _id, _name in (
    ("Scripted-v0", "ScriptedEnv"),
    ("SeededLength-v0", "SeededLengthEnv"),
    ("Failing-v0", "FailingEnv"),
    ("Simulator-v0", "SimulatorEnv"),
    ("Slow-v0", "SlowEnv"),
    ("Misbehaving-v0", "Misbehaving"),
    ("Unseeded-v0", "UnseededEnv"),
    ("DrawsGlobally-v0", "GlobalDrawsEnv"),
    ("GlobalRandom-v0", "GlobalRandomEnv"),
    ("ChaoticCartPole-v0", "ChaoticCartPole"),
    ("Masked-v0", "Masked"),
):
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point=f"tests.scripted:{_name}",
            max_episode_steps=500,
            disable_env_checker=_name == "Misbehaving",  # or Gymnasium would be first to complain
        )
