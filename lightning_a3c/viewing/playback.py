"""Playing and rendering one environment. Knows no files and no training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import HumanRendering
from torch import Tensor

from lightning_a3c.collection.rollout import to_tensor
from lightning_a3c.environments.atari import frame_skip, is_atari, make_preprocessed
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import checked, make_env, reset_seed
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.environments.spaces import component_names
from lightning_a3c.rl.action_spec import ActionSpec, BinarySpec, BoxSpec, DiscreteSpec, JointSpec
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import NetworkPolicy

_ATARI_FRAMES_PER_SECOND = 60  # of the Atari console


class ActionBar(NamedTuple):
    """One line about an action: a choice and its probability, or a component of a Box action."""

    name: str
    share: float  # 0 … 1: the probability, or where between its bounds the chosen value lies
    text: str
    is_chosen: bool


class PlaybackStep(NamedTuple):
    """The agent's policy and value before one of its actions, and the game so far."""

    bars: list[ActionBar]
    value: float
    action: np.ndarray  # as the action spec stores it: [] for discrete ones, otherwise [L]
    score: float  # unclipped rewards of the episode so far
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
        return checked(HumanRendering(env) if window else env, config)

    def show(game: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        game.metadata = {**game.metadata, "render_fps": _ATARI_FRAMES_PER_SECOND}
        return HumanRendering(game) if window else game

    env = checked(make_preprocessed(spec, config.atari, "rgb_array", show), config)
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
    """A name for each choice or component of an action: the environment's, or else its number."""
    if hasattr(env.unwrapped, "get_action_meanings"):
        return list(env.unwrapped.get_action_meanings())
    return component_names(env.unwrapped.action_space)


def play_episode(env: gymnasium.Env[Any, Any], policy: NetworkPolicy, seed: int) -> Iterator[PlaybackStep]:
    """One episode, a step before each step and a last one at its end, whose action is not taken."""
    names = action_names(env)
    observation, _ = env.reset(seed=reset_seed(seed))
    score, steps, ended = 0.0, 0, False
    memory = policy.memory(1)
    while True:
        parameters, values, state = policy.evaluate(to_tensor(observation).unsqueeze(0), memory)
        memory = Memory(state, torch.tensor([False]))
        action = policy.choose(parameters)
        bars = action_bars(policy.action_spec, parameters, action, names)
        yield PlaybackStep(bars, float(values), action[0].numpy(), score, steps, ended)
        if ended:
            return
        observation, reward, terminated, truncated, _ = env.step(policy.to_env(action)[0].numpy())
        score += float(reward)
        steps += 1
        ended = bool(terminated or truncated)


def action_bars(spec: ActionSpec, parameters: Tensor, action: Tensor, names: Sequence[str]) -> list[ActionBar]:
    """A bar for each choice and component.

    Args:
        spec: family of the action.
        parameters: float32 [1, P].
        action: the chosen one, as `spec` stores it, with a leading axis of 1.
        names: of choices and components, in order.
    """
    if isinstance(spec, JointSpec):
        bars: list[ActionBar] = []
        pieces = torch.split(parameters, [part.num_parameters for part in spec.parts], dim=1)
        for part, piece, chosen in zip(spec.parts, pieces, spec.split_actions(action), strict=True):
            bars += action_bars(part, piece, chosen, names[len(bars) :])
        return bars
    if isinstance(spec, BoxSpec):
        mean, log_std = (half[0].tolist() for half in parameters.chunk(2, dim=1))
        values = spec.to_env(action)[0].tolist()
        shares = [_share(*bounds) for bounds in zip(values, spec.low, spec.high, strict=True)]
        components = zip(names, shares, mean, log_std, values, strict=False)
        return [
            ActionBar(f"{name} {value:+.2f}", share, f"{m:+.1f}±{math.exp(s):.1f}", True)
            for name, share, m, s, value in components
        ]
    if not isinstance(spec, DiscreteSpec | BinarySpec):  # of the user's: only what it does is known
        numbers = spec.to_env(action)[0]
        if not numbers.ndim:
            return [ActionBar(f"action {numbers:g}", 1.0, "", True)]
        labels = names if len(names) == len(numbers) else range(len(numbers))
        return [
            ActionBar(f"{label} {value:+.2f}", _share(value, -math.inf, math.inf), "", True)
            for label, value in zip(labels, numbers.tolist(), strict=True)
        ]
    is_binary = isinstance(spec, BinarySpec)
    probabilities = (parameters.sigmoid() if is_binary else parameters.softmax(dim=1))[0].tolist()
    taken = action[0].tolist() if is_binary else [index == int(action[0]) for index in range(len(probabilities))]
    return [
        ActionBar(name, probability, f"{probability:.2f}", bool(is_taken))
        for name, probability, is_taken in zip(names, probabilities, taken, strict=False)
    ]


def _share(value: float, low: float, high: float) -> float:
    is_bounded = math.isfinite(low) and math.isfinite(high)
    return (value - low) / (high - low) if is_bounded else 0.5 + math.atan(value) / math.pi
