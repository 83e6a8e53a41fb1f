"""One process's experience: a vector environment and a policy in, transitions and reports out.

Knows no queue, no process and no learner.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from lightning_a3c.policies import Policy
from lightning_a3c.returns import n_step_returns
from lightning_a3c.types import Report, Transitions


class _Step(NamedTuple):
    """One step of all E sub-environments."""

    observations: Tensor  # [E, *observation_shape]
    actions: Tensor  # int64 [E]
    rewards: Tensor  # float32 [E], clipped if asked, plus γV(final observation) where truncated
    continues: Tensor  # float32 [E], 0 where the episode ended
    is_real: np.ndarray  # bool [E], false for the step that only resets (next-step autoreset)
    policy_version: int


class Rollout:
    """Steps `env` with `policy` and yields n-step transitions in the order they were lived.

    Every transition has the return over exactly `n_steps` steps, fewer where its episode ends
    sooner. A terminated episode is not bootstrapped, a truncated one from its final observation.
    Works with environments that reset in the same step or in the next one; the fictitious step of
    the latter is never learned from. The bootstrap values are those computed for acting.

    Args:
        env: vector environment with `metadata["autoreset_mode"]`; the rollout does not close it.
        policy: chooses the actions and estimates the values.
        n_steps: N >= 1.
        discount: γ in [0, 1].
        clip_rewards: learn from the sign of the reward; episode returns stay unclipped.
        seed: of the environments' first reset.
        on_policy: end every window with `collect`, the last ones early, so that all its transitions are of
            the policy that was given: the A2C of the literature. Without, windows reach across calls.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        n_steps: int,
        discount: float,
        clip_rewards: bool = False,
        seed: int | None = None,
        on_policy: bool = False,
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ValueError(f"{env} has autoreset mode {mode}; SAME_STEP or NEXT_STEP is needed")
        self.env = env
        self.policy = policy
        self.n_steps = n_steps
        self.discount = discount
        self.clip_rewards = clip_rewards
        self.on_policy = on_policy
        self._resets_in_next_step = mode is AutoresetMode.NEXT_STEP
        self._observations = to_tensor(env.reset(seed=seed)[0])
        self._resetting = np.zeros(env.num_envs, dtype=bool)
        self._returns = np.zeros(env.num_envs, dtype=np.float64)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._window: deque[_Step] = deque(maxlen=n_steps)
        self._ready: deque[tuple[Transitions, int]] = deque()  # complete transitions of one step, their version
        self._ended: deque[tuple[float, int]] = deque()  # (return, length) of finished episodes
        self.env_steps = 0  # all sub-environments together, resets not counted

    def collect(self, size: int, policy_version: int, out: Transitions | None = None) -> tuple[Transitions, Report]:
        """Step until `size` transitions are complete, and hand out the oldest `size`.

        Args:
            size: transitions wanted; with `on_policy` a multiple of the number of sub-environments.
            policy_version: of the weights that `policy` acts with now; it may take newer ones on the way.
            out: where to put the transitions; None takes new memory.

        Returns:
            Transitions with B = `size`, and their report.
        """
        steps_before = self.env_steps
        if self.on_policy:
            for _ in range(size // self.env.num_envs):
                self._step(policy_version)
            self._end_windows()
        while sum(len(transitions.actions) for transitions, _ in self._ready) < size:
            self._step(policy_version)
        pieces: list[Transitions] = []
        oldest_version = policy_version
        missing = size
        while missing:
            transitions, version = self._ready.popleft()
            if len(transitions.actions) > missing:
                self._ready.appendleft((Transitions(*(tensor[missing:] for tensor in transitions)), version))
                transitions = Transitions(*(tensor[:missing] for tensor in transitions))
            pieces.append(transitions)
            oldest_version = min(oldest_version, version)
            missing -= len(transitions.actions)
        places = out or (None, None, None)
        fields = zip(*pieces, strict=True)
        collected = Transitions(*(torch.cat(field, out=place) for field, place in zip(fields, places, strict=True)))
        return collected, self._report(size, oldest_version, self.env_steps - steps_before)

    def _step(self, policy_version: int) -> None:
        actions, values = self.policy(self._observations)
        if len(self._window) == self.n_steps:
            self._complete_oldest(values)
        next_observations, rewards, terminated, truncated, info = self.env.step(actions.numpy())
        rewards = np.asarray(rewards, dtype=np.float64)
        is_real = ~self._resetting
        ended = (terminated | truncated) & is_real
        learned = np.sign(rewards) if self.clip_rewards else rewards.copy()
        bootstrapped = np.flatnonzero(truncated & ~terminated & is_real)
        if len(bootstrapped):
            final = _final_observations(next_observations, info, bootstrapped)
            learned[bootstrapped] += self.discount * self.policy.values(final).numpy()
        stops = ended | info.get("lightning_a3c.life_lost", False)
        self._window.append(
            _Step(
                observations=self._observations,
                actions=actions,
                rewards=torch.from_numpy(learned).float(),
                continues=torch.from_numpy(~stops).float(),
                is_real=is_real,
                policy_version=policy_version,
            )
        )
        self._observations = to_tensor(next_observations)
        self._count(rewards, is_real, ended)
        if self._resets_in_next_step:
            self._resetting = ended

    def state_dict(self) -> dict[str, Tensor]:
        """Returns and lengths of the episodes under way; all there is to keep after an `on_policy` collect."""
        return {"returns": torch.from_numpy(self._returns.copy()), "lengths": torch.from_numpy(self._lengths.copy())}

    def load_state_dict(self, state: dict[str, Tensor], observations: np.ndarray) -> None:
        """Go on from `state` with an environment that shows `observations`."""
        self._returns = state["returns"].numpy().copy()
        self._lengths = state["lengths"].numpy().copy()
        self._observations = to_tensor(observations)

    def _end_windows(self) -> None:
        values = self.policy.values(self._observations)
        while self._window:
            self._complete_oldest(values)
            self._window.popleft()

    def _complete_oldest(self, bootstrap: Tensor) -> None:
        oldest = self._window[0]
        returns = n_step_returns(
            torch.stack([step.rewards for step in self._window]),
            torch.stack([step.continues for step in self._window]),
            bootstrap,
            self.discount,
        )
        transitions = Transitions(oldest.observations, oldest.actions, returns)
        if not oldest.is_real.all():
            transitions = Transitions(*(tensor[torch.from_numpy(oldest.is_real)] for tensor in transitions))
        self._ready.append((transitions, oldest.policy_version))

    def _count(self, rewards: np.ndarray, is_real: np.ndarray, ended: np.ndarray) -> None:
        self.env_steps += int(is_real.sum())
        self._returns += rewards * is_real
        self._lengths += is_real
        for index in np.flatnonzero(ended):
            self._ended.append((float(self._returns[index]), int(self._lengths[index])))
        self._returns[ended] = 0
        self._lengths[ended] = 0

    def _report(self, size: int, policy_version: int, env_steps: int) -> Report:
        report = empty_report(size, self.env.num_envs)
        report.policy_version[:] = policy_version
        report.env_steps[:] = env_steps
        for place in range(min(len(report.episode_lengths), len(self._ended))):
            report.episode_returns[place], report.episode_lengths[place] = self._ended.popleft()
        return report


def empty_report(size: int, num_envs: int) -> Report:
    """A report on `size` transitions with unused places for finished episodes; what they cannot hold waits."""
    places = size + num_envs
    return Report(
        policy_version=torch.zeros(1, dtype=torch.int64),
        env_steps=torch.zeros(1, dtype=torch.int64),
        episode_returns=torch.zeros(places),
        episode_lengths=torch.zeros(places, dtype=torch.int64),
    )


def to_tensor(observations: Any) -> Tensor:
    """A copy, since environments may reuse their buffers; float64 becomes float32."""
    array = np.asarray(observations)
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array.copy())


def _final_observations(next_observations: np.ndarray, info: dict[str, Any], indices: np.ndarray) -> Tensor:
    """The last observations of episodes that just ended, before any reset."""
    final = info.get("final_obs")
    source = next_observations if final is None else final
    return to_tensor(np.stack([source[index] for index in indices]))
