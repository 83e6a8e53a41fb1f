"""Playing whole episodes with a fixed policy. Knows nothing of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from lightning_a3c.collection.rollout import to_tensor
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_vector_env, reset_seed
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import NetworkPolicy


class Episode(NamedTuple):
    """One episode: finished, or cut off at `max_steps`."""

    episode_return: Tensor  # float32 scalar, unclipped; up to the cut
    length: Tensor  # int64 scalar, env steps
    is_cut: Tensor  # bool scalar


class EvaluationProgress(NamedTuple):
    """How far an evaluation has come."""

    ended: int  # episodes that count, including those cut off
    episodes: int  # in all
    cut: int  # cut off so far
    env_steps: int  # of all sub-environments together


class EvaluationDataset(IterableDataset[Episode]):
    """`episodes` whole episodes in a fixed order: the first one of each sub-environment, then the second ones.

    Each sub-environment plays a fixed share of the episodes. Taking the first `episodes` that end anywhere would favour
    short ones. For the same reason an episode is held back until those before it have ended, so that the first few are
    a fair sample too.

    Args:
        env: which environment; `num_envs` of them play side by side.
        net: the policy's network.
        episodes: number of episodes, >= 1.
        greedy: take the likeliest action instead of sampling.
        seed: of environments and sampling; the same seed and network give the same episodes.
        max_steps: env steps after which an episode is cut off and counts with its return so far, >= 1; None: never.
        watch: called after each step of the vector environment; may raise.
    """

    def __init__(
        self,
        env: EnvConfig,
        net: nn.Module,
        episodes: int,
        greedy: bool = False,
        seed: int = 0,
        max_steps: int | None = None,
        watch: Callable[[EvaluationProgress], None] | None = None,
    ) -> None:
        self.env = env
        self.net = net
        self.episodes = episodes
        self.greedy = greedy
        self.seed = seed
        self.max_steps = max_steps
        self.watch = watch

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        num_envs = min(self.env.num_envs, self.episodes)
        policy = NetworkPolicy(self.net, seed=self.seed, greedy=self.greedy)
        remaining = np.full(num_envs, self.episodes // num_envs)
        remaining[: self.episodes % num_envs] += 1
        returns = np.zeros(num_envs)
        lengths = np.zeros(num_envs, dtype=np.int64)
        held_back: list[deque[Episode]] = [deque() for _ in range(num_envs)]
        given_out = cut_off = env_steps = 0
        memory = policy.memory(num_envs)
        env = make_vector_env(self.env, num_envs)
        try:
            observations, _ = env.reset(seed=reset_seed(self.seed, num_envs))
            while given_out < self.episodes:
                decision = policy(to_tensor(observations), memory)
                actions = policy.to_env(decision.actions).numpy()
                observations, rewards, terminated, truncated, _ = env.step(actions)
                returns += rewards
                lengths += 1
                env_steps += num_envs
                ended = terminated | truncated
                cut = (remaining > 0) & ~ended & (lengths >= (self.max_steps or np.inf))
                for index in np.flatnonzero(ended | cut):
                    if remaining[index]:
                        remaining[index] -= 1
                        episode_return = torch.tensor(returns[index], dtype=torch.float32)
                        held_back[index].append(
                            Episode(episode_return, torch.tensor(lengths[index]), torch.tensor(cut[index]))
                        )
                    returns[index] = 0
                    lengths[index] = 0
                memory = Memory(decision.state, torch.from_numpy(ended | cut))
                if cut.any():
                    cut_off += int(cut.sum())
                    observations, _ = env.reset(options={"reset_mask": cut})
                if self.watch is not None:
                    ended_so_far = self.episodes - int(remaining.sum())
                    self.watch(EvaluationProgress(ended_so_far, self.episodes, cut_off, env_steps))
                while given_out < self.episodes and held_back[given_out % num_envs]:
                    yield held_back[given_out % num_envs].popleft()
                    given_out += 1
        finally:
            env.close()
