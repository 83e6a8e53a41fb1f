"""Atari games with the preprocessing of DQN, in ALE's vector environment or one by one in Gymnasium's wrappers.

Knows no other environments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit

from lightning_a3c.environments.checks import LIFE_LOST

gymnasium.register_envs(ale_py)

_USUAL_FRAME_SKIP = 4
_ENDLESS = np.iinfo(np.int32).max  # frames; ALE's vector environment takes 0 for none at all
_NATIVE = {  # what ALE's vector environment can do
    "game",
    "obs_type",
    "frameskip",
    "repeat_action_probability",
    "full_action_space",
    "max_num_frames_per_episode",
    "render_mode",  # it only shows what is played
}


@dataclass(frozen=True)
class AtariConfig:
    """Atari preprocessing; the defaults are those of DQN (Mnih et al. 2015).

    Args:
        frame_skip: frames an action is repeated for, instead of the id's own frame skip. None takes the id's own, and
            4 where that is 1 or random.
        sticky_actions: probability that the previous action is repeated instead; None takes the
            id's own (0 for `…NoFrameskip-v4`, 0.25 for `ALE/…-v5`).
        noop_max: a reset is followed by up to this many no-op frames; 0 for none.
        episodic_life: a lost life ends the episode for learning; reported returns stay whole games.
        full_action_space: all 18 actions instead of the game's own; None takes what the id says, which is the game's
            own for all that ALE registers.
        fire_on_reset: press FIRE after a reset in games that wait for it.
    """

    frame_skip: int | None = None
    sticky_actions: float | None = None
    noop_max: int = 30
    episodic_life: bool = False
    full_action_space: bool | None = None
    fire_on_reset: bool = True


def is_atari(spec: Any) -> bool:
    """Whether this preprocessing applies: not to RAM or sound, and not to an id that brings wrappers of its own."""
    return bool(
        spec.entry_point == "ale_py.env:AtariEnv"
        and spec.kwargs.get("obs_type", "rgb") == "rgb"
        and not spec.kwargs.get("sound_obs")
        and not spec.additional_wrappers
    )


def frame_skip(spec: Any, atari: AtariConfig) -> int:
    """Frames that one env step takes."""
    if atari.frame_skip is not None:
        return atari.frame_skip
    own = spec.kwargs.get("frameskip", _USUAL_FRAME_SKIP)
    return own if isinstance(own, int) and own > 1 else _USUAL_FRAME_SKIP


def sticky_actions(spec: Any, atari: AtariConfig) -> float:
    """Probability that the previous action is repeated; 0.25 is `ale_py.AtariEnv`'s where the id says nothing."""
    own: float = spec.kwargs.get("repeat_action_probability", 0.25)
    return own if atari.sticky_actions is None else atari.sticky_actions


def full_action_space(spec: Any, atari: AtariConfig) -> bool:
    """Whether the agent has all 18 actions."""
    own = bool(spec.kwargs.get("full_action_space", False))
    return own if atari.full_action_space is None else atari.full_action_space


def require_playable(spec: Any, atari: AtariConfig) -> None:
    """Raise ValueError for a field out of range, or a time limit that cannot be kept."""
    if frame_skip(spec, atari) < 1:
        raise ValueError(f"env.atari.frame_skip must be >= 1, got {atari.frame_skip}")
    if atari.noop_max < 0:
        raise ValueError(f"env.atari.noop_max must be >= 0, got {atari.noop_max}")
    if not 0 <= sticky_actions(spec, atari) <= 1:
        raise ValueError(f"env.atari.sticky_actions must be in [0, 1], got {atari.sticky_actions}")
    step_limit(spec, atari)


def step_limit(spec: Any, atari: AtariConfig) -> int | None:
    """Env steps after which an episode is truncated: as many frames as the id's `max_episode_steps` of its own take.

    Raises:
        ValueError: the id's own steps take a random number of frames.
    """
    if spec.max_episode_steps is None:
        return None
    own_skip = spec.kwargs.get("frameskip", _USUAL_FRAME_SKIP)
    if not isinstance(own_skip, int):
        raise ValueError(
            f"env.id {spec.id!r} has max_episode_steps {spec.max_episode_steps} and repeats each action for a random "
            f"number of frames (frameskip {own_skip}), which env.atari.frame_skip replaces; register it with a whole "
            "number as frameskip, or limit its frames by max_num_frames_per_episode"
        )
    frames: int = spec.max_episode_steps * own_skip
    return math.ceil(frames / frame_skip(spec, atari))


def _most_frames(spec: Any) -> int:
    """The id's limit of an episode's frames, those before the agent's first not counted; 0 for none."""
    return int(spec.kwargs.get("max_num_frames_per_episode") or 0)


def beyond_native(spec: Any) -> dict[str, Any]:
    """The id's keyword arguments that ALE's vector environment does not know, unless they are off."""
    return {
        name: value
        for name, value in spec.kwargs.items()
        if name not in _NATIVE and value is not None and value is not False  # 0 is a mode and a difficulty
    }


def make_native(spec: Any, atari: AtariConfig, num_envs: int, num_threads: int) -> VectorEnv:
    """ALE's vector environment, uint8 observations [4, 84, 84], raw rewards, reset in the same step.

    It knows neither the id's time limit, which `StepLimit` adds, nor what is `beyond_native`.
    """
    return AtariVectorEnv(
        spec.kwargs["game"],
        num_envs,
        num_threads=min(num_threads, num_envs),
        max_num_frames_per_episode=_most_frames(spec) or _ENDLESS,
        repeat_action_probability=sticky_actions(spec, atari),
        full_action_space=full_action_space(spec, atari),
        autoreset_mode=AutoresetMode.SAME_STEP,
        frameskip=frame_skip(spec, atari),
        noop_max=atari.noop_max,
        use_fire_reset=atari.fire_on_reset,
        reward_clipping=False,
    )


def make_preprocessed(
    spec: Any,
    atari: AtariConfig,
    render_mode: str | None = None,
    decorate: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]] = lambda env: env,
) -> gymnasium.Env[Any, Any]:
    """One game, preprocessed by Gymnasium to what `make_native` shows, pixel by pixel, time limit included.

    A game that waits for FIRE starts with `frame_skip` frames of it instead of one.

    Args:
        spec: of an Atari id.
        atari: the preprocessing; `episodic_life` plays no part.
        render_mode: Gymnasium's.
        decorate: put around the game beneath the preprocessing, where every frame passes.
    """
    env: gymnasium.Env[Any, Any] = gymnasium.make(
        spec,
        max_episode_steps=-1,  # it would count frames, and those before the agent's first
        render_mode=render_mode,
        frameskip=1,
        max_num_frames_per_episode=None,  # it would count those too
        repeat_action_probability=sticky_actions(spec, atari),
        full_action_space=full_action_space(spec, atari),
    )
    env = AtariPreprocessing(decorate(env), noop_max=atari.noop_max, frame_skip=frame_skip(spec, atari))
    if atari.fire_on_reset and "FIRE" in env.unwrapped.get_action_meanings():  # type: ignore[attr-defined]
        env = _FireOnReset(env)
    env = FrameStackObservation(env, 4, padding_type="zero")
    steps_of_game = math.ceil(_most_frames(spec) / frame_skip(spec, atari))
    limits = [limit for limit in (step_limit(spec, atari), steps_of_game) if limit]
    return TimeLimit(env, min(limits)) if limits else env


class StepLimit(VectorWrapper):
    """Truncates every episode after `limit` env steps, as `gymnasium.wrappers.TimeLimit` does.

    Args:
        env: resets in the same step, and those sub-environments that it is told to.
        limit: >= 1.
    """

    def __init__(self, env: VectorEnv, limit: int) -> None:
        super().__init__(env)
        self._limit = limit
        self._steps = np.zeros(env.num_envs, dtype=np.int64)  # of the episodes under way

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps[(options or {}).get("reset_mask", slice(None))] = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        self._steps += 1
        late = self._steps >= self._limit
        cut = late & ~(terminated | truncated)
        if cut.any():
            final = np.array(info.get("final_obs", observations))
            final[cut] = observations[cut]
            observations, info = self.env.reset(options={"reset_mask": cut})
            info["final_obs"] = final
        self._steps[late | terminated | truncated] = 0
        return observations, rewards, terminated, truncated | late, info


class LifeLoss(VectorWrapper):
    """Adds `info[LIFE_LOST]`: bool [num_envs], true where a life went but the game goes on."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._lives = np.zeros(env.num_envs, dtype=np.int32)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observations, info = self.env.reset(**kwargs)
        self._lives = info["lives"].copy()
        return observations, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        info[LIFE_LOST] = (info["lives"] < self._lives) & ~(terminated | truncated)
        self._lives = info["lives"].copy()
        return observations, rewards, terminated, truncated, info


class SingleLifeLoss(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds `info[LIFE_LOST]`, a bool, to the steps of one game."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        info[LIFE_LOST] = info["lives"] < self._lives and not (terminated or truncated)
        self._lives = info["lives"]
        return observation, reward, terminated, truncated, info


class _FireOnReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Presses FIRE after every reset."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        observation, _, _, _, info = self.env.step(1)
        return observation, info
