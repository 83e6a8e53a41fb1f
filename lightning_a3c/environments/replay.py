"""A vector environment that restores its state by replaying the actions of its current episodes.

Knows no policy and no processes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import VectorEnv, VectorWrapper
from torch import Tensor


class ReplayableEnv(VectorWrapper):
    """Resets each sub-environment in the step that ends its episode, with a separate seed per episode.

    The number of the episode and the actions since its start then determine the state of a sub-environment, if the
    environment is deterministic given seed and actions; `load_state_dict` tells whether it was.

    Args:
        env: a vector environment with same-step reset, which this class overrides.
        seed: seed of the run and worker; episode e of sub-environment i is seeded from (seed, i, e).
    """

    def __init__(self, env: VectorEnv, seed: int) -> None:
        super().__init__(env)
        self._seed = seed
        self._episodes = np.zeros(env.num_envs, dtype=np.int64)
        self._actions: list[list[int]] = [[] for _ in range(env.num_envs)]
        self._observations: np.ndarray = np.empty(0)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episode 0 everywhere; ignores `seed` in favour of the constructor's."""
        self._episodes[:] = 0
        return self._begin(np.ones(self.num_envs, dtype=bool))

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        for history, action in zip(self._actions, actions.tolist(), strict=True):
            history.append(action)
        self._observations = observations
        ended = terminated | truncated
        if ended.any():
            self._episodes[ended] += 1
            observations, _ = self._begin(ended)
        return observations, rewards, terminated, truncated, info

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every sub-environment.

        Returns:
            `seed`, int64 scalar; `episodes`, int64 [E]: number of each current episode; `lengths`, int64 [E], and
            `actions`, int64 [sum of lengths]: the actions of these episodes, concatenated; `observations`: the latest.
        """
        return {
            "seed": torch.tensor(self._seed),
            "episodes": torch.from_numpy(self._episodes.copy()),
            "lengths": torch.tensor([len(actions) for actions in self._actions]),
            "actions": torch.tensor([action for actions in self._actions for action in actions], dtype=torch.int64),
            "observations": torch.from_numpy(self._observations.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> tuple[np.ndarray, bool]:
        """Replay the current episodes; return the observations, and whether they equal those of `state`.

        Later episodes get the seeds that they would have had in the run that saved `state`.
        """
        self._seed = int(state["seed"])
        lengths = state["lengths"].tolist()
        histories = [part.tolist() for part in torch.split(state["actions"], lengths)]
        last = max(lengths)
        self._begin(np.ones(self.num_envs, dtype=bool))
        for t in range(last + 1):
            begins = np.array([t == last - length for length in lengths])
            if begins.any():
                self._episodes[begins] = state["episodes"].numpy()[begins]
                self._begin(begins)
            if t < last:  # shorter episodes start later, so that all end together; before that, any action will do
                steps = [t - (last - length) for length in lengths]
                self.step(np.array([h[step] if step >= 0 else 0 for h, step in zip(histories, steps, strict=True)]))
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
