"""Building vector environments from an `EnvConfig`. Knows Gymnasium and ALE, but not torch."""

from __future__ import annotations

from functools import partial
from typing import Any

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
    CallTracker,
    CheckedEnv,
    CheckedVectorEnv,
)
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.registry import spec_of


def make_vector_env(
    config: EnvConfig, num_envs: int | None = None, call_tracker: CallTracker | None = None
) -> VectorEnv:
    """A vector environment with raw rewards and same-step reset; close it after use.

    Atari ids give uint8 observations [4, 84, 84]. They run in ALE's native vector environment, unless their spec has
    arguments that it cannot honour. All other ids run in Gymnasium's `SyncVectorEnv`, as `gymnasium.make` builds them;
    observations that are not arrays are flattened to vectors. `call_tracker` follows the calls.
    """
    num_envs = num_envs or config.num_envs
    call_tracker = call_tracker or CallTracker()
    spec = spec_of(config.id)
    if is_native(spec):
        native = make_native(spec, config.atari, num_envs, config.num_threads)
        env: VectorEnv = CheckedVectorEnv(native, config.id, call_tracker)
        limit = step_limit(spec, config.atari)
        env = env if limit is None else StepLimit(env, limit)
        return LifeLoss(env) if config.atari.episodic_life else env

    makers = [partial(_make_checked, config, index, call_tracker) for index in range(num_envs)]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def make_env(config: EnvConfig, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` for an id that is no Atari game, with a copy of `config.kwargs`."""
    rendering = {} if render_mode is None else {"render_mode": render_mode}
    env: gymnasium.Env[Any, Any] = gymnasium.make(config.id, **copy_containers(config.kwargs) | rendering)
    return env


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


def is_native(spec: Any) -> bool:
    return is_atari(spec) and not beyond_native(spec)


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
    return CheckedEnv(env, config.id, index, call_tracker)


def copy_containers(value: Any) -> Any:
    """`value` with its lists, tuples, dicts and arrays copied, since environments may change them."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is dict:
        return {key: copy_containers(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copy_containers, value))
    return value
