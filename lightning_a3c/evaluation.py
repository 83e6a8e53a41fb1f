"""Playing whole episodes with a fixed policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from lightning_a3c.envs import EnvConfig, make_vector_env, reset_seed
from lightning_a3c.policies import SoftmaxPolicy
from lightning_a3c.rollout import to_tensor


class Episode(NamedTuple):
    """One finished episode."""

    episode_return: Tensor  # float32 scalar, unclipped
    length: Tensor  # int64 scalar, env steps


class EvaluationDataset(IterableDataset[Episode]):
    """`episodes` whole episodes, each yielded when it ends.

    Every sub-environment plays its own fixed share of the episodes. Taking the first `episodes`
    that end anywhere would prefer short ones, since long ones are still being played.

    Args:
        env: which environment; `num_envs` of it play side by side.
        net: the policy's network.
        episodes: how many, >= 1.
        greedy: take the likeliest action instead of sampling.
        seed: of environments and sampling: the same seed and network give the same episodes.
    """

    def __init__(self, env: EnvConfig, net: nn.Module, episodes: int, greedy: bool = False, seed: int = 0) -> None:
        self.env = env
        self.net = net
        self.episodes = episodes
        self.greedy = greedy
        self.seed = seed

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        num_envs = min(self.env.num_envs, self.episodes)
        policy = SoftmaxPolicy(self.net, seed=self.seed, greedy=self.greedy)
        remaining = np.full(num_envs, self.episodes // num_envs)
        remaining[: self.episodes % num_envs] += 1
        returns = np.zeros(num_envs)
        lengths = np.zeros(num_envs, dtype=np.int64)
        env = make_vector_env(self.env, num_envs)
        try:
            observations, _ = env.reset(seed=reset_seed(self.seed, num_envs))
            while remaining.any():
                actions, _ = policy(to_tensor(observations))
                observations, rewards, terminated, truncated, _ = env.step(actions.numpy())
                returns += rewards
                lengths += 1
                for index in np.flatnonzero(terminated | truncated):
                    if remaining[index]:
                        remaining[index] -= 1
                        yield Episode(torch.tensor(returns[index], dtype=torch.float32), torch.tensor(lengths[index]))
                    returns[index] = 0
                    lengths[index] = 0
        finally:
            env.close()
