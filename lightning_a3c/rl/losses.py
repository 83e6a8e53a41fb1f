"""The combined actor-critic loss. Pure functions of tensors: no networks, no environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LossTerms(NamedTuple):
    """The combined loss, its parts, and diagnostics; every field is a float32 scalar."""

    loss_total: Tensor  # what the optimizer minimises
    loss_policy: Tensor
    loss_value: Tensor  # unweighted
    loss_entropy: Tensor  # weighted
    entropy: Tensor  # of π, in nats
    advantage: Tensor  # mean of R − V
    value: Tensor  # mean of V
    batch_return: Tensor  # mean of the n-step targets R
    explained_variance: Tensor  # 1 − Var(R − V) / Var(R); 0 where Var(R) is 0


def policy_loss(log_probs: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    """−mean(A · log π(a|o)), the surrogate loss of the policy gradient (Mnih et al. 2016, section 4).

    Args:
        log_probs: float32 [B, A], log π(·|o).
        actions: int64 [B].
        advantages: float32 [B]; no gradient flows through them.
    """
    chosen = log_probs.gather(1, actions.unsqueeze(1)).squeeze(1)
    return -(advantages.detach() * chosen).mean()


def mean_entropy(log_probs: Tensor) -> Tensor:
    """Mean entropy −Σ_a π log π over the batch, in nats; log_probs: float32 [B, A].

    Masked actions (log π = −∞) contribute neither entropy nor gradient.
    """
    probabilities = log_probs.exp()  # before `finite`: the order decides how autograd sums gradients
    finite = log_probs.clamp_min(torch.finfo(log_probs.dtype).min)  # 0 · −∞ would be NaN
    return -(probabilities * finite).sum(dim=1).mean()


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
        final_entropy_weight: β after `entropy_updates`, approached linearly; None keeps β constant.
        entropy_updates: updates until β is `final_entropy_weight`, >= 1; set both or neither.
    """

    entropy_weight: float = 0.01
    value_weight: float = 1.0
    final_entropy_weight: float | None = None
    entropy_updates: int | None = None

    def __post_init__(self) -> None:
        for name in ("entropy_weight", "final_entropy_weight"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if (self.final_entropy_weight is None) != (self.entropy_updates is None):
            raise ValueError(
                "set both final_entropy_weight and entropy_updates, or neither, "
                f"got {self.final_entropy_weight} and {self.entropy_updates}"
            )
        if self.entropy_updates is not None and self.entropy_updates < 1:
            raise ValueError(f"entropy_updates must be >= 1, got {self.entropy_updates}")
        if self.value_weight <= 0:
            raise ValueError(f"value_weight must be > 0, got {self.value_weight}")

    def entropy_weight_at(self, update: int) -> float:
        """β after `update` updates."""
        if self.final_entropy_weight is None or self.entropy_updates is None:
            return self.entropy_weight
        done = min(1.0, update / self.entropy_updates)
        return self.entropy_weight + done * (self.final_entropy_weight - self.entropy_weight)

    def __call__(self, logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, update: int = 0) -> LossTerms:
        """Loss of a batch.

        Args:
            logits: float32 or bfloat16 [B, A], unnormalised log π(·|o); −∞ masks an action.
            values: float32 or bfloat16 [B], V(o).
            actions: int64 [B].
            returns: float32 [B], targets R.
            update: updates made so far, for the schedule of β.

        Raises:
            ValueError: the shapes do not match; values [B, 1] would silently broadcast to [B, B].
        """
        batch = logits.shape[:1]
        if logits.ndim != 2 or not values.shape == actions.shape == returns.shape == batch:
            raise ValueError(
                f"logits {tuple(logits.shape)}, values {tuple(values.shape)}, actions {tuple(actions.shape)} "
                f"and returns {tuple(returns.shape)} do not fit: [B, A], [B], [B] and [B] are needed"
            )
        logits, values = logits.float(), values.float()  # autocast gives bfloat16, too coarse for means and logarithms
        log_probs = logits.log_softmax(dim=1)
        advantages = (returns - values).detach()
        entropy = mean_entropy(log_probs)
        loss_policy = policy_loss(log_probs, actions, advantages)
        loss_value = F.mse_loss(values, returns)
        loss_entropy = -self.entropy_weight_at(update) * entropy
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
        )
