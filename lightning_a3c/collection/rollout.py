"""One process's experience: a vector environment and a policy in, transitions or sequences and stats out.

Knows no queue, no process and no learner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from lightning_a3c.collection.sequences import Step, sequences_of
from lightning_a3c.environments.checks import LIFE_LOST
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import PlainPolicy, Policy, WithoutMemory
from lightning_a3c.rl.targets import TargetName, gae_returns, n_step_returns
from lightning_a3c.rl.types import RolloutStats, Sequences, Transitions


class _Transitions(NamedTuple):
    """Transitions of one step, whose actions are scored once a micro-batch is complete."""

    observations: Tensor
    actions: Tensor
    returns: Tensor
    parameters: Tensor


class Rollout:
    """Steps `env` with `policy` and yields transitions or sequences in chronological order.

    Each transition has its target over exactly `n_steps` steps, or fewer where its episode ends sooner. A terminated
    episode is not bootstrapped; a truncated one is, from its final observation. Environments may reset in the same
    step or in the next one; a step that only resets is not a transition and is left out. The bootstrap values are
    those computed for acting.

    Sequences are n_steps long, so the window of a step ends with its sequence. A policy's memory lasts as long as an
    episode: beyond a sequence, and beyond a lost life.

    Args:
        env: vector environment with `metadata["autoreset_mode"]`; the rollout does not close it.
        policy: chooses the actions and estimates the values.
        n_steps: N >= 1.
        discount: γ in [0, 1].
        clip_rewards: learn from the sign of the reward; episode returns stay unclipped.
        seed: of the environments' first reset.
        targets: the formula of the targets.
        gae_lambda: λ of the targets "gae".
        synchronous: end all windows with each `collect`, the last ones early, so that all its transitions come from
            one policy: A2C as in the literature. Otherwise windows reach across calls.
        to_env: brings actions to the environment's units.
        reward_scale: gives the factor for rewards that targets are made of; None for 1. Returns are measured for it.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy | PlainPolicy,
        n_steps: int,
        discount: float,
        clip_rewards: bool = False,
        seed: int | None = None,
        targets: TargetName = "n_step",
        gae_lambda: float = 0.95,
        synchronous: bool = False,
        to_env: Callable[[Tensor], Tensor] = lambda actions: actions,
        reward_scale: Callable[[], float] | None = None,
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ValueError(f"{env} has autoreset mode {mode}; SAME_STEP or NEXT_STEP is needed")
        self.env = env
        self.policy: Policy = cast(Policy, policy) if hasattr(policy, "state_size") else WithoutMemory(policy)
        self.n_steps = n_steps
        self.discount = discount
        self.clip_rewards = clip_rewards
        self.targets = targets
        self.gae_lambda = gae_lambda
        self.synchronous = synchronous
        self._to_env = to_env
        self._reward_scale = reward_scale
        self._running_returns = np.zeros(env.num_envs)  # discounted sums of unscaled rewards, for their spread
        self._measured: list[np.ndarray] = []  # running returns since the last stats
        self._resets_in_next_step = mode is AutoresetMode.NEXT_STEP
        self._observations = to_tensor(env.reset(seed=seed)[0])
        self._memory = Memory.empty(env.num_envs, self.policy.state_size)
        self._resetting = np.zeros(env.num_envs, dtype=bool)
        self._returns = np.zeros(env.num_envs, dtype=np.float64)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._window: deque[Step] = deque(maxlen=n_steps)
        self._complete: deque[tuple[_Transitions, int]] = deque()  # the transitions of one step, and their version
        self._num_complete = 0  # transitions in all of these
        self._ended: deque[tuple[float, int]] = deque()  # (return, length) of finished episodes
        self.env_steps = 0  # all sub-environments together, resets not counted

    def collect(
        self, micro_batch_size: int, policy_version: int | Callable[[], int], out: Transitions | None = None
    ) -> tuple[Transitions, RolloutStats]:
        """Step until `micro_batch_size` transitions are complete, and return the oldest ones.

        Args:
            micro_batch_size: B; if synchronous, a multiple of the number of sub-environments.
            policy_version: of the weights that `policy` acts with. A function is called after each step, for weights
                that change meanwhile.
            out: memory for the transitions; None allocates it.

        Returns:
            Transitions with B = `micro_batch_size`, and their stats.
        """
        steps_before = self.env_steps
        version_now = policy_version if callable(policy_version) else lambda: policy_version
        if self.synchronous:
            for _ in range(micro_batch_size // self.env.num_envs):
                self._step(version_now)
            self._end_windows()
        while self._num_complete < micro_batch_size:
            self._step(version_now)
        self._num_complete -= micro_batch_size
        pieces: list[_Transitions] = []
        versions: list[int] = []
        missing = micro_batch_size
        while missing:
            transitions, version = self._complete.popleft()
            if len(transitions.actions) > missing:
                self._complete.appendleft((_Transitions(*(tensor[missing:] for tensor in transitions)), version))
                transitions = _Transitions(*(tensor[:missing] for tensor in transitions))
            pieces.append(transitions)
            versions.append(version)
            missing -= len(transitions.actions)
        buffers = (None, None, None, None) if out is None else (*out[:3], None)
        fields = zip(*pieces, strict=True)
        whole = _Transitions(*(torch.cat(field, out=buffer) for field, buffer in zip(fields, buffers, strict=True)))
        log_probs = self.policy.log_probs(whole.parameters, whole.actions)
        collected = Transitions(whole.observations, whole.actions, whole.returns, log_probs)
        return collected, self._stats(micro_batch_size, min(versions), self.env_steps - steps_before)

    def collect_sequences(
        self, micro_batch_size: int, policy_version: int | Callable[[], int]
    ) -> tuple[Sequences, RolloutStats]:
        """Step `micro_batch_size` / `num_envs` times and return all steps as sequences of `n_steps`.

        Args:
            micro_batch_size: S · T, a multiple of `n_steps` times the number of sub-environments.
            policy_version: as for `collect`.

        Returns:
            Sequences of each sub-environment, and their stats.
        """
        steps_before = self.env_steps
        version_now = policy_version if callable(policy_version) else lambda: policy_version
        pieces: list[Sequences] = []
        versions: list[int] = []
        for _ in range(micro_batch_size // (self.n_steps * self.env.num_envs)):
            for _ in range(self.n_steps):
                self._step(version_now)
            versions += [step.policy_version for step in self._window]
            pieces.append(self._end_sequences())
        sequences = Sequences(*(torch.cat(field) for field in zip(*pieces, strict=True)))
        return sequences, self._stats(micro_batch_size, min(versions), self.env_steps - steps_before)

    def state_dict(self) -> dict[str, Tensor]:
        """Of the current episodes: all that a synchronous `collect` leaves to keep."""
        state = {"returns": torch.from_numpy(self._returns.copy()), "lengths": torch.from_numpy(self._lengths.copy())}
        if self._reward_scale is not None:
            state["running_returns"] = torch.from_numpy(self._running_returns.copy())
        if self.policy.state_size:
            state |= {"memory": self._memory.state.clone(), "starts": self._memory.starts.clone()}
        return state

    def load_state_dict(self, state: dict[str, Tensor], observations: np.ndarray) -> None:
        """Go on from `state` with an environment that shows `observations`."""
        self._returns = state["returns"].numpy().copy()
        self._lengths = state["lengths"].numpy().copy()
        self._observations = to_tensor(observations)
        if "running_returns" in state:  # earlier checkpoints lack them
            self._running_returns = state["running_returns"].numpy().copy()
        if "memory" in state:
            self._memory = Memory(state["memory"].clone(), state["starts"].clone())

    def _step(self, version_now: Callable[[], int]) -> None:
        decision = self.policy(self._observations, self._memory)
        policy_version = version_now()
        if len(self._window) == self.n_steps:
            self._complete_oldest(decision.values)
        next_observations, rewards, terminated, truncated, info = self.env.step(self._to_env(decision.actions).numpy())
        rewards = np.asarray(rewards, dtype=np.float64)
        is_valid = ~self._resetting
        ended = (terminated | truncated) & is_valid
        target_rewards = np.sign(rewards) if self.clip_rewards else rewards.copy()
        if self._reward_scale is not None:
            target_rewards = self._scale(target_rewards, is_valid, ended)
        bootstrapped = np.flatnonzero(truncated & ~terminated & is_valid)
        if len(bootstrapped):
            final = _final_observations(next_observations, info, bootstrapped)
            goes_on = Memory(decision.state[bootstrapped], torch.zeros(len(bootstrapped), dtype=torch.bool))
            target_rewards[bootstrapped] += self.discount * self.policy.values(final, goes_on).numpy()
        stops = ended | info.get(LIFE_LOST, False)
        self._window.append(
            Step(
                observations=self._observations,
                decision=decision,
                memory=self._memory,
                rewards=torch.from_numpy(target_rewards).float(),
                not_done=torch.from_numpy(~stops).float(),
                is_valid=is_valid,
                policy_version=policy_version,
            )
        )
        self._observations = to_tensor(next_observations)
        self._count(rewards, is_valid, ended)
        begins = self._resetting if self._resets_in_next_step else ended
        self._memory = Memory(decision.state, torch.from_numpy(begins))
        if self._resets_in_next_step:
            self._resetting = ended

    def _scale(self, rewards: np.ndarray, is_valid: np.ndarray, ended: np.ndarray) -> np.ndarray:
        assert self._reward_scale is not None
        self._running_returns = self._running_returns * self.discount + rewards
        self._measured.append(self._running_returns[is_valid])
        self._running_returns[ended] = 0
        return rewards * self._reward_scale()

    def _end_windows(self) -> None:
        values = self.policy.values(self._observations, self._memory)
        while self._window:
            self._complete_oldest(values)
            self._window.popleft()

    def _end_sequences(self) -> Sequences:
        """The window as one sequence for each sub-environment; the next window is empty."""
        steps = list(self._window)
        self._window.clear()
        bootstrap = self.policy.values(self._observations, self._memory)
        gae_lambda = self.gae_lambda if self.targets == "gae" else 1.0
        return sequences_of(steps, bootstrap, self.discount, gae_lambda, self.policy.log_probs)

    def _complete_oldest(self, bootstrap: Tensor) -> None:
        oldest = self._window[0]
        rewards = [step.rewards for step in self._window]
        not_done = [step.not_done for step in self._window]
        if self.targets == "gae":
            values = torch.stack([step.decision.values for step in self._window])
            stacked = torch.stack(rewards), torch.stack(not_done)
            returns = gae_returns(*stacked, values, bootstrap, self.discount, self.gae_lambda)
        else:
            returns = n_step_returns(rewards, not_done, bootstrap, self.discount)
        decision = oldest.decision
        transitions = _Transitions(oldest.observations, decision.actions, returns, decision.parameters)
        if not oldest.is_valid.all():
            transitions = _Transitions(*(tensor[torch.from_numpy(oldest.is_valid)] for tensor in transitions))
        self._complete.append((transitions, oldest.policy_version))
        self._num_complete += transitions.actions.shape[0]

    def _count(self, rewards: np.ndarray, is_valid: np.ndarray, ended: np.ndarray) -> None:
        self.env_steps += int(np.count_nonzero(is_valid))
        self._returns += rewards * is_valid
        self._lengths += is_valid
        if not ended.any():
            return
        for index in np.flatnonzero(ended):
            self._ended.append((float(self._returns[index]), int(self._lengths[index])))
        self._returns[ended] = 0
        self._lengths[ended] = 0

    def _stats(self, micro_batch_size: int, policy_version: int, env_steps: int) -> RolloutStats:
        stats = empty_stats(micro_batch_size, self.env.num_envs)
        stats.policy_version[:] = policy_version
        stats.env_steps[:] = env_steps
        if self._measured:
            returns = np.concatenate(self._measured)
            stats.return_moments[0] = torch.tensor([len(returns), returns.mean(), returns.var()])
            self._measured = []
        for place in range(min(len(stats.episode_lengths), len(self._ended))):
            stats.episode_returns[place], stats.episode_lengths[place] = self._ended.popleft()
        return stats


def empty_stats(micro_batch_size: int, num_envs: int) -> RolloutStats:
    """Stats with empty places for finished episodes; episodes beyond these wait for the next stats."""
    places = micro_batch_size + num_envs
    return RolloutStats(
        policy_version=torch.zeros(1, dtype=torch.int64),
        env_steps=torch.zeros(1, dtype=torch.int64),
        episode_returns=torch.zeros(places),
        episode_lengths=torch.zeros(places, dtype=torch.int64),
        observation_moments=torch.zeros(1, 2, 0),
        return_moments=torch.zeros(1, 3),
        collector=torch.zeros(1, dtype=torch.int64),
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
