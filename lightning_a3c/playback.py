"""One environment played before someone's eyes. Knows no file, and no training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, HumanRendering

from lightning_a3c.envs import EnvConfig, flatten, is_atari, reset_seed, spec_of, sticky_actions
from lightning_a3c.policies import SoftmaxPolicy
from lightning_a3c.rollout import to_tensor

_ATARI_FRAMES_PER_SECOND = 60  # of the console


class Moment(NamedTuple):
    """What the agent thought before one of its actions, and the game so far."""

    probabilities: np.ndarray  # float32 [A]
    value: float
    action: int
    score: float  # unclipped rewards of the episode so far
    steps: int  # env steps of the episode so far


def make_watched_env(config: EnvConfig, window: bool = False) -> gymnasium.Env[Any, Any]:
    """One environment to be looked at, with the observations and rewards of `make_vector_env`.

    `render()` gives what it shows now, uint8 [height, width, 3]; `metadata["render_fps"]` is how many
    env steps pass in a second of real time. No life loss ends an episode. Atari ids are preprocessed by
    Gymnasium, whose observations equal ALE's native ones pixel by pixel; but a game that waits for
    FIRE starts with `frame_skip` frames of it instead of one.

    Args:
        config: which environment; `num_envs` plays no part.
        window: show every frame in a window, at real speed, instead of rendering to arrays.

    Raises:
        ValueError: the environment cannot be rendered to arrays.
    """
    require_rendering(config)
    spec, atari = spec_of(config.id), config.atari
    if not is_atari(spec):
        env = gymnasium.make(config.id, **config.kwargs | {"render_mode": "rgb_array"})
        return flatten(HumanRendering(env) if window else env)
    env = gymnasium.make(
        config.id,
        render_mode="rgb_array",
        frameskip=1,
        repeat_action_probability=sticky_actions(config),
        full_action_space=atari.full_action_space,
    )
    env.metadata = {**env.metadata, "render_fps": _ATARI_FRAMES_PER_SECOND}
    if window:
        env = HumanRendering(env)
    env = AtariPreprocessing(env, noop_max=atari.noop_max, frame_skip=atari.frame_skip)
    if atari.fire_on_reset and "FIRE" in action_names(env):
        env = _FireOnReset(env)
    env = FrameStackObservation(env, 4, padding_type="zero")
    env.metadata = {**env.metadata, "render_fps": _ATARI_FRAMES_PER_SECOND / atari.frame_skip}
    return env


def require_rendering(config: EnvConfig) -> None:
    """Raise ValueError unless the environment says that it renders to arrays."""
    spec = spec_of(config.id)
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    if not hasattr(creator, "metadata"):  # a function: what it makes can say
        creator = gymnasium.make(config.id, **config.kwargs)
        creator.close()
    if "rgb_array" not in creator.metadata.get("render_modes", []):
        raise ValueError(
            f"env.id {config.id!r} has no render mode 'rgb_array', so it can be neither shown nor recorded"
        )


def action_names(env: gymnasium.Env[Any, Any]) -> list[str]:
    """What each action is called; its number where the environment does not say."""
    if hasattr(env.unwrapped, "get_action_meanings"):
        return list(env.unwrapped.get_action_meanings())
    assert isinstance(env.action_space, spaces.Discrete)
    return [str(action) for action in range(env.action_space.n)]


def play_episode(env: gymnasium.Env[Any, Any], policy: SoftmaxPolicy, seed: int) -> Iterator[Moment]:
    """One episode, a moment before each step and a last one at its end, whose action is not taken."""
    observation, _ = env.reset(seed=reset_seed(seed))
    score, steps, ended = 0.0, 0, False
    while True:
        logits, values = policy.evaluate(to_tensor(observation).unsqueeze(0))
        action = int(policy.choose(logits))
        yield Moment(logits.softmax(dim=1).squeeze(0).numpy(), float(values), action, score, steps)
        if ended:
            return
        observation, reward, terminated, truncated, _ = env.step(action)
        score += float(reward)
        steps += 1
        ended = terminated or truncated


class _FireOnReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Presses FIRE after every reset."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        observation, _, _, _, info = self.env.step(1)
        return observation, info
