"""The environment to train in, as plain values. Builds nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lightning_a3c.environments.atari import AtariConfig


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many of them per process.

    Args:
        id: any Gymnasium id with a discrete action space; `module:Id` imports `module` first.
        num_envs: environments that one worker steps together.
        clip_rewards: learn from the sign of the reward; reported returns are never clipped. None clips on Atari only.
        kwargs: arguments of the environment's constructor; not for Atari ids.
        atari: preprocessing of Atari ids; for others it must keep its defaults.
        num_threads: threads with which a worker steps its environments, on Atari only. More than one pays where
            workers are fewer than cores; results do not depend on it.
    """

    id: str = "CartPole-v1"
    num_envs: int = 8
    clip_rewards: bool | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    atari: AtariConfig = field(default_factory=AtariConfig)
    num_threads: int = 1
