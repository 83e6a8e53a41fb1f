"""Playing and rendering one environment. Knows no files and no training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import HumanRendering

from lightning_a3c.collection.rollout import to_tensor
from lightning_a3c.environments.atari import frame_skip, is_atari, make_preprocessed
from lightning_a3c.environments.checks import ALL, CallTracker, CheckedEnv
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_env, reset_seed
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.rl.policies import SoftmaxPolicy

_ATARI_FRAMES_PER_SECOND = 60  # of the Atari console


class PlaybackStep(NamedTuple):
    """The agent's output before one of its actions, and the score so far."""

    probabilities: np.ndarray  # float32 [A]
    value: float
    action: int
    score: float  # unclipped return of the episode so far
    steps: int  # env steps of the episode so far
    is_last: bool = False  # the episode has ended


def make_watched_env(config: EnvConfig, window: bool = False) -> gymnasium.Env[Any, Any]:
    """One environment that can be rendered, with the observations and rewards of `make_vector_env`.

    `render()` gives the present frame, uint8 [height, width, 3]; `metadata["render_fps"]` is the number of env steps
    per second of real time. A lost life does not end an episode. For Atari see `make_preprocessed`.

    Args:
        config: which environment; `num_envs` has no effect.
        window: show every frame in a window, in real time, instead of rendering to arrays.

    Raises:
        ValueError: the environment cannot be rendered to arrays.
    """
    require_rendering(config)
    spec = spec_of(config.id)
    if not is_atari(spec):
        env = make_env(config, render_mode="rgb_array")
        return _checked(HumanRendering(env) if window else env, config)

    def show(game: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        game.metadata = {**game.metadata, "render_fps": _ATARI_FRAMES_PER_SECOND}
        return HumanRendering(game) if window else game

    env = _checked(make_preprocessed(spec, config.atari, "rgb_array", show), config)
    env.metadata = {**env.metadata, "render_fps": _ATARI_FRAMES_PER_SECOND / frame_skip(spec, config.atari)}
    return env


def require_rendering(config: EnvConfig) -> None:
    """Raise ValueError unless the environment declares that it renders to arrays."""
    spec = spec_of(config.id)
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    if not hasattr(creator, "metadata"):  # a function; ask the environment that it builds
        creator = make_env(config)
        creator.close()
    if "rgb_array" not in creator.metadata.get("render_modes", []):
        raise ValueError(
            f"env.id {config.id!r} has no render mode 'rgb_array', so it can be neither played in a window nor recorded"
        )


def action_names(env: gymnasium.Env[Any, Any]) -> list[str]:
    """Names of the actions; their numbers if the environment has no names."""
    if hasattr(env.unwrapped, "get_action_meanings"):
        return list(env.unwrapped.get_action_meanings())
    assert isinstance(env.action_space, spaces.Discrete)
    return [str(action) for action in range(env.action_space.n)]


def play_episode(env: gymnasium.Env[Any, Any], policy: SoftmaxPolicy, seed: int) -> Iterator[PlaybackStep]:
    """Play one episode; yields before each env step, and once at the end, where the action is not taken."""
    observation, _ = env.reset(seed=reset_seed(seed))
    score, steps, ended = 0.0, 0, False
    while True:
        logits, values = policy.evaluate(to_tensor(observation).unsqueeze(0))
        action = int(policy.choose(logits))
        yield PlaybackStep(logits.softmax(dim=1).squeeze(0).numpy(), float(values), action, score, steps, ended)
        if ended:
            return
        observation, reward, terminated, truncated, _ = env.step(action)
        score += float(reward)
        steps += 1
        ended = bool(terminated or truncated)


def _checked(env: gymnasium.Env[Any, Any], config: EnvConfig) -> gymnasium.Env[Any, Any]:
    return CheckedEnv(env, config.id, ALL, CallTracker())
