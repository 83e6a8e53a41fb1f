"""Atari games with DQN's preprocessing, in ALE's vector environment or in Gymnasium's wrappers.

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
_NO_FRAME_LIMIT = np.iinfo(np.int32).max  # ALE's vector environment takes 0 as a limit of no frames
_NATIVE_KWARGS = {  # the arguments that ALE's vector environment can honour
    "game",
    "obs_type",
    "frameskip",
    "repeat_action_probability",
    "full_action_space",
    "max_num_frames_per_episode",
    "render_mode",  # changes nothing but the display
}


@dataclass(frozen=True)
class AtariConfig:
    """Atari preprocessing; the defaults are those of DQN (Mnih et al. 2015).

    Args:
        frame_skip: frames per action. None takes the id's own frame skip, or 4 where that is 1 or random.
        sticky_actions: probability that the environment repeats the previous action; None takes the id's own
            (0 for `…NoFrameskip-v4`, 0.25 for `ALE/…-v5`).
        noop_max: most no-op frames after a reset; 0 for none.
        episodic_life: a lost life ends the episode for learning; reported returns are still those of whole games.
        full_action_space: all 18 actions instead of those that the game uses; None takes the id's own setting, which
            is false for all ids that ALE registers.
        fire_on_reset: press FIRE after a reset in games that wait for it.
    """

    frame_skip: int | None = None
    sticky_actions: float | None = None
    noop_max: int = 30
    episodic_life: bool = False
    full_action_space: bool | None = None
    fire_on_reset: bool = True


def is_atari(spec: Any) -> bool:
    """Whether this preprocessing applies to an id: it shows images, has no sound and registers no wrappers."""
    return bool(
        spec.entry_point == "ale_py.env:AtariEnv"
        and spec.kwargs.get("obs_type", "rgb") == "rgb"
        and not spec.kwargs.get("sound_obs")
        and not spec.additional_wrappers
    )


def frame_skip(spec: Any, atari: AtariConfig) -> int:
    """Frames per env step."""
    if atari.frame_skip is not None:
        return atari.frame_skip
    own = spec.kwargs.get("frameskip", _USUAL_FRAME_SKIP)
    return own if isinstance(own, int) and own > 1 else _USUAL_FRAME_SKIP


def sticky_actions(spec: Any, atari: AtariConfig) -> float:
    """Probability that the environment repeats the previous action."""
    own: float = spec.kwargs.get("repeat_action_probability", 0.25)  # the default of `ale_py.AtariEnv`
    return own if atari.sticky_actions is None else atari.sticky_actions


def full_action_space(spec: Any, atari: AtariConfig) -> bool:
    """Whether the agent has all 18 actions."""
    own = bool(spec.kwargs.get("full_action_space", False))
    return own if atari.full_action_space is None else atari.full_action_space


def require_playable(spec: Any, atari: AtariConfig) -> None:
    """Raise ValueError for a field out of range, or a time limit that this preprocessing cannot enforce."""
    if frame_skip(spec, atari) < 1:
        raise ValueError(f"env.atari.frame_skip must be >= 1, got {atari.frame_skip}")
    if atari.noop_max < 0:
        raise ValueError(f"env.atari.noop_max must be >= 0, got {atari.noop_max}")
    if not 0 <= sticky_actions(spec, atari) <= 1:
        raise ValueError(f"env.atari.sticky_actions must be in [0, 1], got {atari.sticky_actions}")
    step_limit(spec, atari)


def step_limit(spec: Any, atari: AtariConfig) -> int | None:
    """Env steps until truncation: the id's `max_episode_steps`, converted from its own frame skip to `frame_skip`.

    Raises:
        ValueError: the id's own frame skip is random.
    """
    if spec.max_episode_steps is None:
        return None
    own_skip = spec.kwargs.get("frameskip", _USUAL_FRAME_SKIP)
    if not isinstance(own_skip, int):
        raise ValueError(
            f"env.id {spec.id!r} has max_episode_steps {spec.max_episode_steps} but a random frame skip "
            f"(frameskip {own_skip}), so its limit is no fixed number of frames; register it with an int as frameskip, "
            "or limit its frames by max_num_frames_per_episode"
        )
    frames: int = spec.max_episode_steps * own_skip
    return math.ceil(frames / frame_skip(spec, atari))


def _frame_limit(spec: Any) -> int:
    """The id's limit on frames per episode, counted from the agent's first; 0 for none."""
    return int(spec.kwargs.get("max_num_frames_per_episode") or 0)


def last_step(spec: Any, atari: AtariConfig) -> int | None:
    """Env steps until truncation by any of the id's limits, on steps or on frames."""
    steps_within_frames = math.ceil(_frame_limit(spec) / frame_skip(spec, atari))
    limits = [limit for limit in (step_limit(spec, atari), steps_within_frames) if limit]
    return min(limits, default=None)


def beyond_native(spec: Any) -> dict[str, Any]:
    """The id's keyword arguments that are set but that ALE's vector environment cannot honour."""
    return {
        name: value
        for name, value in spec.kwargs.items()
        if name not in _NATIVE_KWARGS and value is not None and value is not False  # but 0 is a mode or difficulty
    }


def make_native(spec: Any, atari: AtariConfig, num_envs: int, num_threads: int) -> VectorEnv:
    """ALE's vector environment: uint8 observations [4, 84, 84], raw rewards, same-step reset.

    Ignores the id's time limit, which `StepLimit` adds, and the arguments that are `beyond_native`.
    """
    return AtariVectorEnv(
        spec.kwargs["game"],
        num_envs,
        num_threads=min(num_threads, num_envs),
        max_num_frames_per_episode=_frame_limit(spec) or _NO_FRAME_LIMIT,
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
    """One game in Gymnasium's wrappers: the pixels of `make_native`, with the id's time limit.

    A game that waits for FIRE starts with `frame_skip` frames of FIRE instead of one.

    Args:
        spec: spec of an Atari id.
        atari: the preprocessing; `episodic_life` has no effect.
        render_mode: Gymnasium's render mode.
        decorate: wraps the game beneath the preprocessing, where it sees every frame.
    """
    env: gymnasium.Env[Any, Any] = gymnasium.make(
        spec,
        max_episode_steps=-1,  # Gymnasium would count frames, also before the agent's first; see below
        render_mode=render_mode,
        frameskip=1,
        max_num_frames_per_episode=None,  # ALE would count those before the agent's first too
        repeat_action_probability=sticky_actions(spec, atari),
        full_action_space=full_action_space(spec, atari),
    )
    env = AtariPreprocessing(decorate(env), noop_max=atari.noop_max, frame_skip=frame_skip(spec, atari))
    if atari.fire_on_reset and "FIRE" in env.unwrapped.get_action_meanings():  # type: ignore[attr-defined]
        env = _FireOnReset(env)
    env = FrameStackObservation(env, 4, padding_type="zero")
    limit = last_step(spec, atari)
    return env if limit is None else TimeLimit(env, limit)


class StepLimit(VectorWrapper):
    """Truncates every episode after `limit` env steps, as `gymnasium.wrappers.TimeLimit` does.

    Args:
        env: a vector environment with same-step reset that honours `reset_mask`.
        limit: env steps, >= 1.
    """

    def __init__(self, env: VectorEnv, limit: int) -> None:
        super().__init__(env)
        self._limit = limit
        self._steps = np.zeros(env.num_envs, dtype=np.int64)  # of the current episodes

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps[(options or {}).get("reset_mask", slice(None))] = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        self._steps += 1
        at_limit = self._steps >= self._limit
        cut = at_limit & ~(terminated | truncated)
        if cut.any():
            final = np.array(info.get("final_obs", observations))
            final[cut] = observations[cut]
            observations, info = self.env.reset(options={"reset_mask": cut})
            info["final_obs"] = final
        self._steps[at_limit | terminated | truncated] = 0
        return observations, rewards, terminated, truncated | at_limit, info


class LifeLoss(VectorWrapper):
    """Adds `info[LIFE_LOST]`: bool [num_envs], true where a life was lost but the game goes on."""

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
    """`LifeLoss` for one game: `info[LIFE_LOST]` is a bool."""

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
