"""Building vector environments from an `EnvConfig`. Knows Gymnasium and ALE, but not torch."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lightning_a3c.environments.atari import (
    LifeLoss,
    SingleLifeLoss,
    StepLimit,
    beyond_native,
    is_atari,
    make_native,
    make_preprocessed,
    step_limit,
    sticky_actions,
)
from lightning_a3c.environments.checks import (
    ALL,
    CallTracker,
    CheckedEnv,
    CheckedVectorEnv,
)
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.envpool import EnvPoolEnv
from lightning_a3c.environments.envpool_tasks import plays_the_same
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.environments.vector_entry_point import make_entry_point, plays_the_same_in_numpy


class BadWrapper(ValueError):
    """One of `env.wrappers` cannot be imported or built."""


def make_vector_env(
    config: EnvConfig,
    num_envs: int | None = None,
    call_tracker: CallTracker | None = None,
    autoreset: AutoresetMode = AutoresetMode.SAME_STEP,
) -> VectorEnv:
    """A vector environment with raw rewards and same-step reset, never EnvPool's; close it after use.

    Atari ids give uint8 observations [4, 84, 84]. They run in ALE's native vector environment, unless they are
    registered with something that it cannot do. All others run in Gymnasium's `SyncVectorEnv`, as `gymnasium.make`
    makes them, with the config's wrappers around them; `ObservationLayout` says what their observations become. Only
    these follow `autoreset`. `call_tracker` follows the calls.
    """
    num_envs = num_envs or config.num_envs
    call_tracker = call_tracker or CallTracker()
    spec = spec_of(config.id)
    if is_native(spec, config):
        native = make_native(spec, config.atari, num_envs, config.num_threads)
        env: VectorEnv = CheckedVectorEnv(native, config.id, call_tracker)
        limit = step_limit(spec, config.atari)
        env = env if limit is None else StepLimit(env, limit)
        return LifeLoss(env) if config.atari.episodic_life else env

    makers = [partial(_make_checked, config, index, call_tracker) for index in range(num_envs)]
    return SyncVectorEnv(makers, autoreset_mode=autoreset)


def make_training_env(
    config: EnvConfig,
    call_tracker: CallTracker | None = None,
    autoreset: AutoresetMode = AutoresetMode.SAME_STEP,
) -> VectorEnv:
    """The vector environment that collectors step; `make_vector_env`'s unless `config` names another backend."""
    if config.backend not in ("envpool", "vector"):
        return make_vector_env(config, call_tracker=call_tracker, autoreset=autoreset)
    spec, make = spec_of(config.id), EnvPoolEnv if config.backend == "envpool" else make_entry_point
    env: VectorEnv = CheckedVectorEnv(make(config, spec, config.num_envs), config.id, call_tracker or CallTracker())
    return LifeLoss(env) if config.atari.episodic_life else env


def training_backend(config: EnvConfig, synchronous: bool) -> Literal["gymnasium", "ale", "vector", "envpool"]:
    """What steps the environments in training: `config.backend`, or where that is "auto" the fastest that is right.

    A synchronous run is reproducible, so it must not depend on what is installed.
    """
    if config.backend != "auto":
        return config.backend
    spec = spec_of(config.id)
    if is_native(spec, config):
        return "ale"
    if synchronous:
        return "gymnasium"
    if plays_the_same_in_numpy(config, spec):
        return "vector"
    return "envpool" if plays_the_same(config, spec) else "gymnasium"


def make_env(config: EnvConfig, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` for an id that is no Atari game, with a copy of `config.kwargs`."""
    rendering = {} if render_mode is None else {"render_mode": render_mode}
    env: gymnasium.Env[Any, Any] = gymnasium.make(config.id, **copy_containers(config.kwargs) | rendering)
    return env


def wrapped(env: gymnasium.Env[Any, Any], config: EnvConfig) -> gymnasium.Env[Any, Any]:
    """`env` with the config's wrappers around it.

    Raises:
        BadWrapper: a wrapper cannot be imported or built, or is none.
    """
    for number, spec in enumerate(config.wrappers):
        field = f"env.wrappers[{number}]"
        if not isinstance(spec, dict) or "class_path" not in spec:
            raise BadWrapper(f'{field} must be {{"class_path": ..., "init_args": {{...}}}}, got {spec!r}')
        if unknown := [key for key in spec if key not in ("class_path", "init_args")]:
            raise BadWrapper(f"{field} has {unknown[0]!r}, which is neither class_path nor init_args, in {spec!r}")
        if not isinstance(spec.get("init_args") or {}, dict):
            raise BadWrapper(f"{field}.init_args must be a dict of arguments by name, got {spec['init_args']!r}")
        class_path, init_args = str(spec["class_path"]), copy_containers(spec.get("init_args") or {})
        module, _, name = class_path.rpartition(".")
        try:
            wrapper = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadWrapper(f"{field} {class_path!r} cannot be imported: {error}") from error
        try:
            env = wrapper(env, **init_args)
        except Exception as error:  # whatever someone's wrapper raises
            raise BadWrapper(f"{field} {class_path} cannot be built with {init_args}: {error}") from error
        if not isinstance(env, gymnasium.Env):
            raise BadWrapper(f"{field} {class_path} must make a gymnasium.Wrapper, got {type(env).__name__}")
    return env


def checked(
    env: gymnasium.Env[Any, Any], config: EnvConfig, index: int = ALL, call_tracker: CallTracker | None = None
) -> CheckedEnv:
    """`env`, with the config's wrappers, as collectors step it."""
    return CheckedEnv(
        wrapped(env, config),
        config.id,
        index,
        call_tracker or CallTracker(),
        config.observation_keys,
        config.action_mask,
    )


def clips_rewards(config: EnvConfig) -> bool:
    """Whether the learner sees only the sign of the rewards."""
    return is_atari(spec_of(config.id)) if config.clip_rewards is None else config.clip_rewards


def reset_seed(seed: int, num_envs: int = 1) -> int:
    """A seed for the reset of `num_envs` sub-environments; sub-environment i takes it plus i.

    It is `seed`, or a smaller number derived from it where the sums would exceed 31 bits, the limit of ALE and others.
    """
    if seed <= 2**31 - num_envs:
        return int(seed)
    return int(np.random.SeedSequence(int(seed)).generate_state(1)[0]) % (2**31 - num_envs)


def starts_faster_unseeded(config: EnvConfig) -> bool:
    """Whether an asynchronous run, which is not reproducible anyway, should not seed its environments.

    To seed a game, ALE loads it again, which takes a tenth of a second; unseeded, ALE draws the initial no-ops at
    random. Games with sticky actions need a seed: unseeded, all of them repeat actions at the same steps.
    """
    spec = spec_of(config.id)
    return is_atari(spec) and sticky_actions(spec, config.atari) == 0


def is_native(spec: Any, config: EnvConfig) -> bool:
    """Whether ALE's vector environment plays it."""
    changes = config.wrappers or config.action_mask or config.observation_keys or config.backend == "gymnasium"
    return is_atari(spec) and not beyond_native(spec) and not changes


def has_own_wrappers(spec: Any) -> bool:
    return bool(spec.entry_point == "ale_py.env:AtariEnv" and spec.additional_wrappers)


def _make_checked(config: EnvConfig, index: int, call_tracker: CallTracker) -> gymnasium.Env[Any, Any]:
    spec = spec_of(config.id)
    with call_tracker.calling("making", config.id, index):
        if is_atari(spec):
            env = make_preprocessed(spec, config.atari)
            env = SingleLifeLoss(env) if config.atari.episodic_life else env
        else:
            env = make_env(config)
        return checked(env, config, index, call_tracker)


def copy_containers(value: Any) -> Any:
    """`value` with its lists, tuples, dicts and arrays copied, since environments may change them."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is dict:
        return {key: copy_containers(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copy_containers, value))
    return value
