"""Environments that EnvPool has and Gymnasium lacks, such as Procgen's and ViZDoom's, one at a time.

Validation, test, play and videos use them; training steps the same ones in `EnvPoolEnv`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from lightning_a3c.environments.envpool_tasks import SEEDS, import_envpool, spaces_of


class SingleEnvPoolEnv(gymnasium.Env[Any, Any]):
    """One environment of EnvPool's as a `gymnasium.Env`.

    A reset with a seed makes a new pool, since EnvPool fixes its seeds when it is made.

    Args:
        task_id: EnvPool's id.
        render_mode: None or "rgb_array".
        **arguments: for EnvPool.

    Raises:
        ValueError: EnvPool refuses the arguments.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 as in gymnasium.Env

    def __init__(self, task_id: str, render_mode: str | None = None, **arguments: Any) -> None:
        self.observation_space, self.action_space = spaces_of(task_id, arguments)
        self.render_mode = render_mode
        self._task_id = task_id
        self._arguments = arguments
        self._pool: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._pool is None:
            number = int(self.np_random.integers(SEEDS)) if seed is None else seed
            limit = self.spec.max_episode_steps if self.spec else None  # what `gymnasium.make` was given
            self._pool = import_envpool().make_gymnasium(
                self._task_id,
                num_envs=1,
                num_threads=1,
                seed=[number % SEEDS],
                render_mode=self.render_mode,
                **self._arguments,
                **({} if limit is None else {"max_episode_steps": limit}),
            )
        return _first(self._pool.reset()[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        actions = np.asarray(action, dtype=self.action_space.dtype)[None]
        observations, rewards, terminated, truncated, _ = self._pool.step(actions)
        return _first(observations), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        return self._pool.render()[0]

    def close(self) -> None:
        self._pool = None  # its threads end with it


def _first(observations: Any) -> Any:
    """The only environment's observation, of one array or of parts by name."""
    if isinstance(observations, dict):
        return {name: _first(part) for name, part in observations.items()}
    return observations[0]
