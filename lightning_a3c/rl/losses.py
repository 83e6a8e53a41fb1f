"""The combined actor-critic loss. Pure functions of tensors: no networks, no environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec, stored_shape
from lightning_a3c.rl.targets import VTraceConfig, vtrace_targets
from lightning_a3c.rl.types import Experience, Sequences


class LossTerms(NamedTuple):
    """The combined loss, its parts, and diagnostics; every field is a float32 scalar."""

    loss_total: Tensor  # what the optimizer minimises
    loss_policy: Tensor
    loss_value: Tensor  # unweighted
    loss_entropy: Tensor  # weighted
    entropy: Tensor  # of π, in nats
    advantage: Tensor  # mean of R − V
    value: Tensor  # mean of V
    batch_return: Tensor  # mean of the targets R
    explained_variance: Tensor  # 1 − Var(R − V) / Var(R); 0 where Var(R) is 0
    policy_kl: Tensor  # KL from the policy that acted to the one that learns, in nats; NaN if unknown
    importance_ratio: Tensor  # mean of π/μ over the actions taken; NaN if unknown
    clipped_ratios: Tensor  # share of ratios above V-trace's ρ̄; NaN without V-trace


def policy_loss(log_prob: Tensor, advantages: Tensor) -> Tensor:
    """−mean(A · log π(a|o)), the policy gradient's surrogate (Mnih et al. 2016, section 4).

    Args:
        log_prob: float32 [B], log π(a|o) of the actions taken.
        advantages: float32 [B]; no gradient flows through them.
    """
    return -(advantages.detach() * log_prob).mean()


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R): 1 for a perfect critic, 0 for a constant one; both float32 [B]."""
    variance = returns.var(correction=0)
    ratio = (returns - values).var(correction=0) / variance
    return torch.where(variance > 0, 1 - ratio, torch.zeros_like(ratio))


@dataclass(frozen=True)
class A2CLoss:
    """L = value_weight · MSE(V, R) − mean(A · log π(a|o)) − entropy_weight · H(π), A = R − V.

    All terms are batch means, and no gradient flows through A (Mnih et al. 2016, section 4). Learner and gradient
    workers compute the same loss.

    Args:
        entropy_weight: β, >= 0.
        value_weight: weight of the critic's error, > 0.
        final_entropy_weight: what β falls or rises to, on a straight line; None keeps it constant.
        entropy_updates: updates until β is there, >= 1; given with `final_entropy_weight`, or not.
        action_spec: family of the actions; None for discrete ones.
        vtrace: correct the targets of sequences for policy lag; None takes the targets that the workers made.
    """

    entropy_weight: float = 0.01
    value_weight: float = 1.0
    final_entropy_weight: float | None = None
    entropy_updates: int | None = None
    action_spec: ActionSpec | None = None
    vtrace: VTraceConfig | None = None

    def __post_init__(self) -> None:
        for name in ("entropy_weight", "final_entropy_weight"):
            value = getattr(self, name)
            if value is not None and not value >= 0:  # also refuses NaN
                raise ValueError(f"{name} must be >= 0, got {value}")
        if (self.final_entropy_weight is None) != (self.entropy_updates is None):
            raise ValueError(
                "set both final_entropy_weight and entropy_updates, or neither, "
                f"got {self.final_entropy_weight} and {self.entropy_updates}"
            )
        if self.entropy_updates is not None and self.entropy_updates < 1:
            raise ValueError(f"entropy_updates must be >= 1, got {self.entropy_updates}")
        if not self.value_weight > 0:
            raise ValueError(f"value_weight must be > 0, got {self.value_weight}")

    def entropy_weight_at(self, update: int) -> float:
        """β after `update` updates."""
        if self.final_entropy_weight is None or self.entropy_updates is None:
            return self.entropy_weight
        done = min(1.0, update / self.entropy_updates)
        return self.entropy_weight + done * (self.final_entropy_weight - self.entropy_weight)

    def __call__(
        self,
        parameters: Tensor,
        values: Tensor,
        actions: Tensor,
        returns: Tensor,
        update: int = 0,
        log_probs: Tensor | None = None,
    ) -> LossTerms:
        """Loss of a batch of transitions.

        Args:
            parameters: float32 or bfloat16 [B, P], of the action distribution π(·|o): logits for discrete actions.
            values: float32 or bfloat16 [B], V(o).
            actions: as the action spec stores them: int64 [B] for discrete ones, otherwise [B, L].
            returns: float32 [B], targets R.
            update: number of updates before this one; β may depend on it.
            log_probs: float32 [B], log μ(a|o) of the policy that acted, to measure how far π is from it.

        Raises:
            ValueError: a shape does not fit. [B, 1] values would silently broadcast to [B, B].
        """
        parameters, values, spec = self._checked(parameters, values, actions, returns)
        log_prob, entropies = spec.log_prob_and_entropy(parameters, actions)
        log_ratios = None if log_probs is None else log_prob.detach() - log_probs
        return self._terms(log_prob, entropies, values, returns, (returns - values).detach(), log_ratios, update)

    def of(self, parameters: Tensor, values: Tensor, experience: Experience, update: int = 0) -> LossTerms:
        """Loss of `experience`.

        Args:
            parameters: float32 or bfloat16 [N, P]; N is B for transitions and S · T for sequences, T running fastest.
            values: float32 or bfloat16 [N].
            experience: what the workers sent.
            update: number of updates before this one.

        Raises:
            ValueError: a shape does not fit.
        """
        if type(self).__call__ is not A2CLoss.__call__:
            return self._own(parameters, values, experience, update)
        if not isinstance(experience, Sequences):
            actions, returns, log_probs = experience.actions, experience.returns, experience.log_probs
            return self(parameters, values, actions, returns, update, log_probs)
        actions, returns = experience.actions.flatten(0, 1), experience.returns.flatten()
        parameters, values, spec = self._checked(parameters, values, actions, returns)
        log_prob, entropies = spec.log_prob_and_entropy(parameters, actions)
        log_ratios = log_prob.detach() - experience.log_probs.flatten()
        if self.vtrace is None:
            advantages = (returns - values).detach()
        else:
            steps = experience.rewards.shape
            targets = vtrace_targets(
                log_ratios.view(steps).t(),
                experience.rewards.t(),
                experience.discounts.t(),
                values.detach().view(steps).t(),
                experience.bootstrap,
                self.vtrace,
            )
            returns, advantages = targets.values.t().flatten(), targets.advantages.t().flatten()
        is_valid = experience.is_valid.flatten()
        if not is_valid.all():
            log_prob, entropies, values = log_prob[is_valid], entropies[is_valid], values[is_valid]
            returns, advantages, log_ratios = returns[is_valid], advantages[is_valid], log_ratios[is_valid]
        return self._terms(log_prob, entropies, values, returns, advantages, log_ratios, update)

    def require_targets(self) -> None:
        """Raise ValueError if this loss cannot learn from the targets of `vtrace`."""
        has_own_call = type(self).of is A2CLoss.of and type(self).__call__ is not A2CLoss.__call__
        if self.vtrace is not None and has_own_call:
            raise ValueError(
                f"{type(self).__name__} has its own __call__, which gets no V-trace advantages; set "
                'data.targets to "gae", or override `of`'
            )

    def _own(self, parameters: Tensor, values: Tensor, experience: Experience, update: int) -> LossTerms:
        """The loss of a subclass with a `__call__` of its own, which need not know of log-probabilities."""
        self.require_targets()
        if not isinstance(experience, Sequences):
            return self(parameters, values, experience.actions, experience.returns, update)
        rows = experience.is_valid.flatten()
        actions, returns = experience.actions.flatten(0, 1), experience.returns.flatten()
        return self(parameters[rows], values[rows], actions[rows], returns[rows], update)

    def _checked(
        self, parameters: Tensor, values: Tensor, actions: Tensor, returns: Tensor
    ) -> tuple[Tensor, Tensor, ActionSpec]:
        """Float32 parameters and values, once all shapes fit, and the family of the actions."""
        spec = self.action_spec or DiscreteSpec(parameters.shape[-1])
        batch = parameters.shape[:1]
        expected = (*batch, *stored_shape(spec))
        if parameters.ndim != 2 or not values.shape == returns.shape == batch or actions.shape != expected:
            raise ValueError(
                f"parameters {tuple(parameters.shape)}, values {tuple(values.shape)}, actions {tuple(actions.shape)} "
                f"and returns {tuple(returns.shape)} do not fit: [B, P], [B], "
                f"[{', '.join(map(str, ('B', *stored_shape(spec))))}] and [B] are needed"
            )
        return parameters.float(), values.float(), spec  # bf16 is too coarse for means and logarithms

    def _terms(
        self,
        log_prob: Tensor,
        entropies: Tensor,
        values: Tensor,
        returns: Tensor,
        advantages: Tensor,
        log_ratios: Tensor | None,
        update: int,
    ) -> LossTerms:
        entropy = entropies.mean()
        loss_policy = policy_loss(log_prob, advantages)
        loss_value = F.mse_loss(values, returns)
        loss_entropy = -self.entropy_weight_at(update) * entropy
        unknown = values.new_full((), torch.nan)
        ratios = None if log_ratios is None else log_ratios.exp()
        return LossTerms(
            loss_total=self.value_weight * loss_value + loss_policy + loss_entropy,
            loss_policy=loss_policy,
            loss_value=loss_value,
            loss_entropy=loss_entropy,
            entropy=entropy,
            advantage=advantages.mean(),
            value=values.mean(),
            batch_return=returns.mean(),
            explained_variance=explained_variance(values, returns),
            policy_kl=unknown if ratios is None or log_ratios is None else (ratios - 1 - log_ratios).mean(),
            importance_ratio=unknown if ratios is None else ratios.mean(),
            clipped_ratios=unknown
            if ratios is None or self.vtrace is None
            else (ratios > self.vtrace.rho_bar).float().mean(),
        )
