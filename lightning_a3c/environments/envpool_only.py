"""Tasks that EnvPool has and Gymnasium lacks: those of Procgen and ViZDoom, registered with Gymnasium when named.

Training steps them in `EnvPoolEnv`; validation, test, play and videos step one at a time.
"""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.envpool_tasks import (
    ENTRY_POINT,
    NOT_KWARGS,
    SEEDS,
    arguments_of,
    ids,
    import_envpool,
    is_installed,
    is_only_envpools,
    make_spec,
    require_taken,
    spaces_of,
)

_ARGUMENTS: dict[str, dict[str, Any]] = {  # by kind of task
    "ProcgenEnvSpec": {},
    "VizdoomEnvSpec": {"use_combined_action": True},  # otherwise an action is a float for each key
}


def register_task(task_id: str) -> bool:
    """Register a task of Procgen or ViZDoom with Gymnasium, if it is not registered; returns whether it is one.

    Raises:
        ValueError: the task lacks something on this machine.
    """
    if task_id in gymnasium.registry:
        return is_only_envpools(gymnasium.registry[task_id])
    if task_id not in _known_ids():
        return False
    arguments = _ARGUMENTS.get(_kind(task_id))
    if arguments is None:
        return False
    gymnasium.register(task_id, entry_point=ENTRY_POINT, kwargs={"task_id": task_id, **arguments})
    return True


def similar_tasks(task_id: str) -> list[str]:
    """Ids of Procgen and ViZDoom that are nearly `task_id`."""
    found = []
    for near in difflib.get_close_matches(task_id, _known_ids(), n=3, cutoff=0.85):
        with suppress(ValueError):  # the task lacks something on this machine
            if _kind(near) in _ARGUMENTS:
                found.append(near)
    return found


def why_unknown(task_id: str) -> str:
    """What EnvPool has to do with an id that nobody knows: a clause, or nothing."""
    if not is_installed():
        return "EnvPool's Procgen and ViZDoom tasks need pip install 'lightning-a3c[envpool]'"
    return "of EnvPool's own tasks only Procgen's and ViZDoom's can be used" if task_id in _known_ids() else ""


def require_kwargs_of_task(config: EnvConfig, spec: Any) -> None:
    """Raise ValueError if EnvPool does not take `config.kwargs` for a task that `register_task` has registered."""
    fields = make_spec(spec.id).config._asdict()
    require_taken(config, spec.id, fields.keys() - NOT_KWARGS - spec.kwargs.keys() - {"env_name"})
    make_spec(spec.id, **arguments_of(config, spec))


def _known_ids() -> frozenset[str]:
    """What EnvPool has; nothing where it cannot be used, which is no reason to refuse other ids."""
    if is_installed():
        with suppress(ValueError):
            return ids()
    return frozenset()


def _kind(task_id: str) -> str:
    return type(make_spec(task_id)).__name__


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
