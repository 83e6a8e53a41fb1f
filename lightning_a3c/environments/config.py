"""The environment to train in, as plain values. Builds nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lightning_a3c.environments.atari import AtariConfig
from lightning_a3c.system.argument_checks import require_whole

Backend = Literal["auto", "gymnasium", "ale", "vector", "envpool"]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many of them per process.

    Args:
        id: any Gymnasium id; `module:Id` imports `module` first.
        num_envs: environments that one worker steps together.
        clip_rewards: learn from the sign of the reward; reported returns are never clipped. None clips on Atari only.
        kwargs: passed to `gymnasium.make`, such as `max_episode_steps` or arguments of the environment (not for Atari
            ids).
        wrappers: put around the environment in this order, each as `{"class_path": "gymnasium.wrappers.TimeLimit",
            "init_args": {"max_episode_steps": 200}}`.
        observation_keys: parts of a Dict or Tuple observation to keep, such as "image" or "player.position"; None keeps
            all that are arrays.
        action_mask: where to find which actions are allowed: "info" for `info["action_mask"]`, "name()" for a method of
            the environment, or the name of an observation part. None allows all.
        atari: preprocessing of Atari ids; for others it must keep its defaults.
        num_threads: threads with which a worker steps its environments, on Atari or with EnvPool only. More than one
            pays where workers are fewer than cores; results do not depend on it.
        backend: what steps the environments in training: "gymnasium", one by one in Python; "ale", ALE's vector
            environment, for Atari; "vector", what the id registers for `gymnasium.make_vec`; "envpool", EnvPool, which
            must be installed. "auto" takes ALE's for Atari. In asynchronous runs it takes "vector" or "envpool" for
            environments that these are known to play as Gymnasium's single ones; all else it leaves to Gymnasium.
            Validation, test, play and videos use single environments, or ALE's.
    """

    id: str = "CartPole-v1"
    num_envs: int = 8
    clip_rewards: bool | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    atari: AtariConfig = field(default_factory=AtariConfig)
    num_threads: int = 1
    wrappers: list[dict[str, Any]] = field(default_factory=list)
    observation_keys: list[str] | None = None
    action_mask: str | None = None
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise ValueError(f"env.backend must be one of {', '.join(get_args(Backend))}, got {self.backend!r}")
        if not isinstance(self.id, str):
            raise ValueError(f"env.id must be a Gymnasium id such as 'CartPole-v1', got {self.id!r}")
        for name in ("num_envs", "num_threads"):
            require_whole(f"env.{name}", getattr(self, name))
        wanted: dict[str, tuple[Any, str]] = {
            "clip_rewards": (bool | None, "true, false or null"),
            "kwargs": (dict, 'a dict such as {"max_episode_steps": 200}'),
            "atari": (AtariConfig, "an AtariConfig"),
            "wrappers": (list | tuple, 'a list of {"class_path": ..., "init_args": {...}}'),
            "observation_keys": (list | tuple | None, 'a list of names such as ["image"], or null for all'),
            "action_mask": (str | None, 'text such as "info", or null'),
        }
        for name, (kind, words) in wanted.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"env.{name} must be {words}, got {getattr(self, name)!r}")
        if self.observation_keys is not None:
            if not self.observation_keys:
                raise ValueError("env.observation_keys must name at least one part, got []; leave it out to keep all")
            if not all(isinstance(key, str) for key in self.observation_keys):
                raise ValueError(f"env.observation_keys must be names, got {self.observation_keys!r}")
