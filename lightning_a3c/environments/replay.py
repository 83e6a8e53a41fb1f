"""A vector environment that restores its state by replaying the actions of its current episodes.

Knows no policy and no processes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from torch import Tensor


class ReplayableEnv(VectorWrapper):
    """Resets each sub-environment in the step that ends its episode, with a separate seed per episode.

    The number of the episode and the actions since its start then determine the state of a sub-environment, if the
    environment is deterministic given seed and actions; `load_state_dict` tells whether it was.

    Args:
        env: a vector environment with same-step reset, which this class overrides, or without reset.
        seed: seed of the run and worker; episode e of sub-environment i is seeded from (seed, i, e).
    """

    def __init__(self, env: VectorEnv, seed: int) -> None:
        super().__init__(env)
        self._seed = seed
        self._episodes = np.zeros(env.num_envs, dtype=np.int64)
        self._actions: list[list[np.ndarray]] = [[] for _ in range(env.num_envs)]
        self._observations: np.ndarray = np.empty(0)
        self._lacks_reset = env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episode 0 everywhere; ignores `seed` in favour of the constructor's."""
        self._episodes[:] = 0
        return self._begin(np.ones(self.num_envs, dtype=bool))

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        for taken, action in zip(self._actions, actions, strict=True):
            taken.append(action)
        self._observations = observations
        ended = terminated | truncated
        if ended.any():
            if self._lacks_reset:
                info = {**info, "final_obs": observations.copy()}
            self._episodes[ended] += 1
            observations, _ = self._begin(ended)
        return observations, rewards, terminated, truncated, info

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every sub-environment.

        Returns:
            `seed`, int64 scalar: the one in force; `episodes`, int64 [E]: the number of each one's episode;
            `lengths`, int64 [E], and `actions`, [sum of lengths, …]: the actions taken in them, one after the other;
            `observations`: what they show.
        """
        dtype = self.action_space.dtype or np.int64
        return {
            "seed": torch.tensor(self._seed),
            "episodes": torch.from_numpy(self._episodes.copy()),
            "lengths": torch.tensor([len(actions) for actions in self._actions]),
            "actions": torch.from_numpy(np.array([action for actions in self._actions for action in actions], dtype)),
            "observations": torch.from_numpy(self._observations.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> tuple[np.ndarray, bool]:
        """Replay the current episodes; return the observations, and whether they equal those of `state`.

        Later episodes get the seeds that they would have had in the run that saved `state`.
        """
        self._seed = int(state["seed"])
        lengths = state["lengths"].tolist()
        histories = [part.numpy() for part in torch.split(state["actions"], lengths)]
        idle = np.zeros(self.single_action_space.shape or (), self.single_action_space.dtype)
        last = max(lengths)
        self._begin(np.ones(self.num_envs, dtype=bool))
        for t in range(last + 1):
            begins = np.array([t == last - length for length in lengths])
            if begins.any():
                self._episodes[begins] = state["episodes"].numpy()[begins]
                self._begin(begins)
            if t < last:  # those not yet at their start play anything meanwhile
                places = [t - (last - length) for length in lengths]
                played = zip(histories, places, strict=True)
                self.step(np.stack([history[place] if place >= 0 else idle for history, place in played]))
        return self._observations, np.array_equal(self._observations, state["observations"].numpy())

    def _begin(self, which: np.ndarray) -> tuple[Any, dict[str, Any]]:
        indices = np.flatnonzero(which)
        seeds = np.zeros(self.num_envs, dtype=np.int64)
        for index in indices:
            self._actions[index] = []
            entropy = np.random.SeedSequence([self._seed, int(index), int(self._episodes[index])])
            seeds[index] = entropy.generate_state(1)[0] >> 1
        native = isinstance(self.env.unwrapped, AtariVectorEnv)
        seed: Any = seeds[indices] if native else seeds.tolist()
        self._observations, info = self.env.reset(seed=seed, options={"reset_mask": which})
        return self._observations, info
