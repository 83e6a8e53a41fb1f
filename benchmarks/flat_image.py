"""MiniGrid's image as a vector, for comparisons with libraries that have no network for small images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lightning_a3c.rl.networks import MLP

SCALE = 1 / 10  # of symbols, which are numbered


class FlatImage(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Keeps MiniGrid's direction and its image, the latter as a vector of floats."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        size = int(np.prod(env.observation_space["image"].shape or ()))
        self.observation_space = spaces.Dict(
            direction=env.observation_space["direction"], image=spaces.Box(0, 255 * SCALE, (size,), np.float32)
        )

    def observation(self, observation: Any) -> Any:
        image = observation["image"].reshape(-1).astype(np.float32) * np.float32(SCALE)
        return {"direction": observation["direction"], "image": image}


class FlatNetwork(MLP):
    """The network that `FlatImage` leads to, for environments that it cannot wrap."""

    def __init__(self, observation_shape: Mapping[str, Sequence[int]], num_actions: int) -> None:
        super().__init__((sum(map(math.prod, observation_shape.values())),), num_actions)

    def forward(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Direction one-hot and image as bytes → outputs [B, num_actions], values [B]."""
        image = observations["image"].flatten(1).float() * SCALE
        return super().forward(torch.cat((observations["direction"], image), dim=1))
