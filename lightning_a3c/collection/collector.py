"""One collector: environments and a policy in, messages out. Knows no process and nothing of Lightning."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from lightning_a3c.collection.job import CollectorJob, CollectorState, with_moments
from lightning_a3c.collection.published_networks import NewestRewardScale, network_on
from lightning_a3c.collection.rollout import Rollout
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.environments.checks import CallTracker
from lightning_a3c.environments.making import clips_rewards, make_training_env, reset_seed
from lightning_a3c.environments.replay import ReplayableEnv
from lightning_a3c.rl.agent_network import scales_rewards
from lightning_a3c.rl.policies import NetworkPolicy
from lightning_a3c.rl.types import Experience, Message, Payload, RolloutStats, Transitions

_log = logging.getLogger(__name__)


class Collector:
    """Acts with the newest weights and turns experience into messages.

    Args:
        job: what to do, with a network of its own that gets its weights from `weights`.
        rank: which of the learner's collectors this is.
        weights: the learner's snapshots; one must be published before `collect`.
        attempt: 0 for the first collector of this rank, then 1 more for each restart; each plays other episodes.
        call_tracker: records which call to an environment is under way.
        is_seeded: whether the environments are seeded from the job; otherwise they begin at random.
    """

    def __init__(
        self,
        job: CollectorJob,
        rank: int,
        weights: SharedWeights,
        attempt: int = 0,
        call_tracker: CallTracker | None = None,
        is_seeded: bool = True,
    ) -> None:
        env_seed, policy_seed = job.seeds(rank, attempt)
        self.rank = rank
        self.number = job.first_collector + rank
        self.job = job
        self._net = network_on(job.device, weights, job.net)
        reset = AutoresetMode.DISABLED if job.rollout.synchronous else AutoresetMode.SAME_STEP
        env = make_training_env(job.env, call_tracker=call_tracker, autoreset=reset)
        self._env = ReplayableEnv(env, env_seed) if job.rollout.synchronous else env
        self._policy = NetworkPolicy(self._net, seed=policy_seed)
        self._rollout = Rollout(
            self._env,
            self._policy,
            n_steps=job.rollout.n_steps,
            discount=job.rollout.discount,
            clip_rewards=clips_rewards(job.env),
            seed=reset_seed(env_seed, job.env.num_envs) if is_seeded else None,
            targets=job.rollout.targets,
            gae_lambda=job.rollout.gae_lambda,
            synchronous=job.rollout.synchronous,
            to_env=self._policy.to_env,
            reward_scale=NewestRewardScale(self._net, weights) if scales_rewards(job.net) else None,
        )

    def collect(self, out: Message | None = None) -> Message:
        """The next payload and its stats; each step acts with the newest weights.

        Args:
            out: memory that the message will be sent from; parts of the payload may be made there.
        """
        payload = None if out is None else out.payload
        with self.job.autocast(self.job.device):
            experience, stats = self._collect(payload)
            stats.collector[:] = self.number

            def make_message(net: nn.Module, version: int) -> Message:
                update = self.job.first_update + version - 1
                sent = self.job.make_payload(net, experience, self.number, update, payload)
                return Message(sent, with_moments(stats, net, experience))

            return self._net.compute(make_message)

    def state_dict(self) -> CollectorState:
        """Everything except the weights that decides what a synchronous collector does next."""
        assert isinstance(self._env, ReplayableEnv)
        return {
            "env": self._env.state_dict(),
            "policy": {"generator": self._policy.generator_state},
            "rollout": self._rollout.state_dict(),
        }

    def load_state_dict(self, state: CollectorState) -> None:
        """Bring the environments, the sampling and the current episodes back to `state`."""
        assert isinstance(self._env, ReplayableEnv)
        first_seed, _ = replace(self.job, resumed_at=0).seeds(self.rank)  # for states that do not name theirs
        observations, is_same = self._env.load_state_dict({"seed": torch.tensor(first_seed)} | state["env"])
        if not is_same:
            _log.warning(
                "%s is not determined by its seed and the actions: the current episodes go on from another state than "
                "they had, so this run will differ from an uninterrupted one",
                self.job.env.id,
            )
        self._policy.generator_state = state["policy"]["generator"]
        self._rollout.load_state_dict(state["rollout"], observations)

    def close(self) -> None:
        self._env.close()

    def _collect(self, out: Payload | None) -> tuple[Experience, RolloutStats]:
        size = self.job.rollout.micro_batch_size
        if self.job.rollout.sends_sequences:
            return self._rollout.collect_sequences(size, lambda: self._net.version)
        return self._rollout.collect(size, lambda: self._net.version, out if isinstance(out, Transitions) else None)
