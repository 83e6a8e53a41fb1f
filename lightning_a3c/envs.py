"""Building vector environments from a description. Knows Gymnasium and ALE, and nothing of torch."""

from __future__ import annotations

import copy
import difflib
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib import import_module
from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import FlattenObservation

from lightning_a3c.env_checks import CheckedEnv, CheckedVectorEnv, Whereabouts

gymnasium.register_envs(ale_py)

_WIDEST_BOUND = 65_535


@dataclass(frozen=True)
class AtariConfig:
    """Atari preprocessing; the defaults are those of DQN (Mnih et al. 2015).

    Args:
        frame_skip: frames an action is repeated for; the id's own frame skip is never added to it.
        sticky_actions: probability that the previous action is repeated instead; None takes the
            id's own (0 for `…NoFrameskip-v4`, 0.25 for `ALE/…-v5`).
        noop_max: a reset is followed by up to this many no-op frames; 0 for none.
        episodic_life: a lost life ends the episode for learning; reported returns stay whole games.
        full_action_space: all 18 actions instead of the game's own.
        fire_on_reset: press FIRE after a reset in games that wait for it.
    """

    frame_skip: int = 4
    sticky_actions: float | None = None
    noop_max: int = 30
    episodic_life: bool = False
    full_action_space: bool = False
    fire_on_reset: bool = True


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many of it in one process.

    Args:
        id: any Gymnasium id with a discrete action space; `module:Id` imports `module` first.
        num_envs: environments stepped together by one worker.
        clip_rewards: learn from the sign of the reward; reported returns are never clipped.
            None clips on Atari only.
        kwargs: passed to the environment's constructor (not for Atari ids).
        atari: preprocessing of Atari ids; refused for others unless left at its defaults.
        num_threads: threads of a worker that step its environments, on Atari only. More than one pays where there are
            fewer workers than cores; what is played does not depend on it.
    """

    id: str = "CartPole-v1"
    num_envs: int = 8
    clip_rewards: bool | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    atari: AtariConfig = field(default_factory=AtariConfig)
    num_threads: int = 1


@dataclass(frozen=True)
class Protocol:
    """What was really played; plain values, kept in checkpoints and printed at start."""

    env_id: str
    observation_shape: tuple[int, ...]
    observation_dtype: str
    num_actions: int
    frame_skip: int
    sticky_actions: float
    clip_rewards: bool
    episodic_life: bool
    full_action_space: bool
    noop_max: int
    fire_on_reset: bool
    kwargs: dict[str, Any]
    observation_low: float | None = None  # of every element; None without a common one, or with one that means "any"
    observation_high: float | None = None

    def __str__(self) -> str:
        return ", ".join(f"{f.name} {getattr(self, f.name)}" for f in fields(self))

    def plain(self) -> dict[str, Any]:
        """The fields as files hold them: a list instead of a tuple."""
        return asdict(self) | {"observation_shape": list(self.observation_shape)}


def inspect(config: EnvConfig) -> Protocol:
    """Check `config` and say what it will play, by building one environment and closing it.

    Raises:
        ValueError: the id is unknown or needs a package that is missing, its actions are not discrete, or a field is
            out of range.
    """
    if config.num_envs < 1:
        raise ValueError(f"env.num_envs must be >= 1, got {config.num_envs}")
    if not 1 <= config.num_threads <= config.num_envs:
        raise ValueError(f"env.num_threads must be in 1 … env.num_envs ({config.num_envs}), got {config.num_threads}")
    atari = is_atari(spec_of(config.id))
    if not atari and config.atari != AtariConfig():
        changed = {k: v for k, v in asdict(config.atari).items() if v != getattr(AtariConfig(), k)}
        raise ValueError(f"env.atari {changed} has no effect on {config.id}, which is not an Atari game; remove it")
    if not atari and config.num_threads != 1:
        raise ValueError(
            f"env.num_threads {config.num_threads} has no effect on {config.id}, which is not an Atari game; remove it"
        )
    if atari:
        _check_atari(config)
    try:
        env = make_vector_env(config, num_envs=1)
    except TypeError as error:
        raise ValueError(f"env.kwargs {config.kwargs} do not fit {config.id}: {error}") from error
    except (ImportError, gymnasium.error.Error) as error:  # most often a package is missing
        raise ValueError(f"env.id {config.id!r} cannot be made: {error}") from error
    try:
        action_space = env.single_action_space
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(
                f"env.id {config.id!r} has the action space {action_space}; only Discrete is supported yet"
            )
        if action_space.start != 0:
            raise ValueError(f"env.id {config.id!r}: actions must start at 0, not at {action_space.start}")
        shape = env.single_observation_space.shape
        if not shape:
            raise ValueError(
                f"env.id {config.id!r} has the observation space {env.single_observation_space}; arrays with at least "
                "one axis are needed, or what gymnasium.wrappers.FlattenObservation makes arrays of"
            )
        low, high = observation_bounds(env)
        return Protocol(
            env_id=config.id,
            observation_shape=tuple(shape),
            observation_dtype=observation_dtype(env),
            num_actions=int(action_space.n),
            frame_skip=config.atari.frame_skip if atari else 1,
            sticky_actions=sticky_actions(config) if atari else 0.0,
            clip_rewards=clips_rewards(config),
            episodic_life=config.atari.episodic_life,
            full_action_space=config.atari.full_action_space,
            noop_max=config.atari.noop_max if atari else 0,
            fire_on_reset=config.atari.fire_on_reset and atari,
            kwargs=config.kwargs,
            observation_low=low,
            observation_high=high,
        )
    finally:
        env.close()


def make_vector_env(
    config: EnvConfig, num_envs: int | None = None, whereabouts: Whereabouts | None = None
) -> VectorEnv:
    """A vector environment whose raw rewards and autoreset mode the rollout can rely on.

    Atari ids run in ALE's native vector environment, uint8 observations [4, 84, 84];
    others in Gymnasium's `SyncVectorEnv`, observations that are no array flattened to a vector.
    Both reset in the same step, and tell `whereabouts` what they are in. Close it after use.
    """
    num_envs = num_envs or config.num_envs
    whereabouts = whereabouts or Whereabouts()
    spec = spec_of(config.id)
    if is_atari(spec):
        atari = config.atari
        env: VectorEnv = AtariVectorEnv(
            spec.kwargs["game"],
            num_envs,
            num_threads=min(config.num_threads, num_envs),
            max_num_frames_per_episode=spec.kwargs.get("max_num_frames_per_episode", 108_000),
            repeat_action_probability=sticky_actions(config),
            full_action_space=atari.full_action_space,
            autoreset_mode=AutoresetMode.SAME_STEP,
            frameskip=atari.frame_skip,
            noop_max=atari.noop_max,
            use_fire_reset=atari.fire_on_reset,
            reward_clipping=False,
        )
        env = CheckedVectorEnv(env, config.id, whereabouts)
        return LifeLoss(env) if atari.episodic_life else env

    makers = [partial(_make_checked, config, index, whereabouts) for index in range(num_envs)]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def config_of(protocol: dict[str, Any]) -> EnvConfig:
    """The environment of a `Protocol` as plain values, the form that checkpoints keep."""
    return EnvConfig(
        id=protocol["env_id"],
        clip_rewards=protocol["clip_rewards"],
        kwargs=protocol["kwargs"],
        atari=AtariConfig(**{f.name: protocol[f.name] for f in fields(AtariConfig)})
        if is_atari(spec_of(protocol["env_id"]))
        else AtariConfig(),
    )


def clips_rewards(config: EnvConfig) -> bool:
    """Whether learning sees only the sign of the rewards."""
    return is_atari(spec_of(config.id)) if config.clip_rewards is None else config.clip_rewards


def observation_dtype(env: VectorEnv) -> str:
    """Name of the dtype that networks see: the environment's own, but float32 for float64."""
    name = np.dtype(env.single_observation_space.dtype or np.float32).name
    return "float32" if name == "float64" else name


def observation_bounds(env: VectorEnv) -> tuple[float, float] | tuple[None, None]:
    """The lowest and highest value that all elements of an observation have in common; None where they have none.

    Bytes that differ have those of all together. Bounds beyond 65,535 stand for "any value" in most environments.
    """
    space = env.single_observation_space
    assert isinstance(space, spaces.Box)
    low, high = float(space.low.min()), float(space.high.max())
    are_common = space.dtype == np.uint8 or bool((space.low == low).all() and (space.high == high).all())
    return (low, high) if are_common and max(abs(low), abs(high)) <= _WIDEST_BOUND else (None, None)


def flatten(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """`env`, its observations flattened to a vector unless they are arrays already."""
    return env if isinstance(env.observation_space, spaces.Box) else FlattenObservation(env)


def spec_of(env_id: str) -> Any:
    """Gymnasium's spec of an id; raises ValueError, with the nearest known ids, if there is none."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
        return gymnasium.spec(name)
    except ImportError as error:
        raise ValueError(
            f"env.id {env_id!r} is not a known environment: {module} cannot be imported: {error}"
        ) from error
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(env_id, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`gymnasium.pprint_registry()` lists the known ones"
        raise ValueError(f"env.id {env_id!r} is not a known environment; {hint}") from error


def portable_spec(env_id: str) -> Any:
    """What `spec_of` gives, or raises; for the `make_known` of processes that do not have this one's script."""
    spec = copy.copy(spec_of(env_id))
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        spec.entry_point = load_env_creator(spec.entry_point)
    return spec


def make_known(spec: Any) -> None:
    """Register another process's `spec`, unless its id is known here too."""
    if spec.id not in gymnasium.registry and isinstance(spec.entry_point, str):
        import_module(spec.entry_point.partition(":")[0])  # most packages register their environments themselves
    gymnasium.registry.setdefault(spec.id, spec)


def is_atari(spec: Any) -> bool:
    """Whether this package's Atari preprocessing applies; not to RAM observations."""
    return bool(spec.entry_point == "ale_py.env:AtariEnv" and spec.kwargs.get("obs_type", "rgb") == "rgb")


def sticky_actions(config: EnvConfig) -> float:
    """Probability that the previous action is repeated: the one asked for, or the id's own."""
    own: float = spec_of(config.id).kwargs.get("repeat_action_probability", 0.0)
    return own if config.atari.sticky_actions is None else config.atari.sticky_actions


def better_unseeded(config: EnvConfig) -> bool:
    """Whether a seed only costs time where chance decides anyway what is played.

    For a seed ALE loads each game again, which takes a tenth of a second; without one, chance draws the no-ops that
    begin an episode. With sticky actions a seed is needed: unseeded, all games repeat them at the same steps.
    """
    return is_atari(spec_of(config.id)) and sticky_actions(config) == 0


class LifeLoss(VectorWrapper):
    """Adds `info["lightning_a3c.life_lost"]`: bool [num_envs], true where a life went but the game goes on."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._lives = np.zeros(env.num_envs, dtype=np.int32)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observations, info = self.env.reset(**kwargs)
        self._lives = info["lives"].copy()
        return observations, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        info["lightning_a3c.life_lost"] = (info["lives"] < self._lives) & ~(terminated | truncated)
        self._lives = info["lives"].copy()
        return observations, rewards, terminated, truncated, info


def _check_atari(config: EnvConfig) -> None:
    atari = config.atari
    if atari.frame_skip < 1:
        raise ValueError(f"env.atari.frame_skip must be >= 1, got {atari.frame_skip}")
    if atari.noop_max < 0:
        raise ValueError(f"env.atari.noop_max must be >= 0, got {atari.noop_max}")
    if not 0 <= sticky_actions(config) <= 1:
        raise ValueError(f"env.atari.sticky_actions must be in [0, 1], got {atari.sticky_actions}")
    if config.kwargs:
        raise ValueError(f"env.kwargs {config.kwargs} has no effect on Atari ids; use the fields of env.atari")


def _make_checked(config: EnvConfig, index: int, whereabouts: Whereabouts) -> gymnasium.Env[Any, Any]:
    with whereabouts.calling("making", config.id, index):
        env = gymnasium.make(config.id, **config.kwargs)
    return flatten(CheckedEnv(env, config.id, index, whereabouts))
