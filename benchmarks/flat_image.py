"""A wrapper for comparisons with libraries that have no network for small images."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class FlatImage(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Keeps MiniGrid's direction and its image, the latter as a vector of floats."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        image = env.observation_space["image"]
        self._scale = 1 / 10  # of symbols, which are numbered
        size = int(np.prod(image.shape or ()))
        self.observation_space = spaces.Dict(
            direction=env.observation_space["direction"], image=spaces.Box(0, 25.5, (size,), np.float32)
        )

    def observation(self, observation: Any) -> Any:
        image = observation["image"].reshape(-1).astype(np.float32) * np.float32(self._scale)
        return {"direction": observation["direction"], "image": image}
