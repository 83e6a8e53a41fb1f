"""Return targets, one pure function per formula. Knows no networks and no environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

TargetName = Literal["n_step", "gae", "vtrace"]
"""Which formula makes the targets: `n_step_returns`, `gae_returns` or `vtrace_targets`."""


def n_step_returns(
    rewards: Tensor | Sequence[Tensor], not_done: Tensor | Sequence[Tensor], bootstrap: Tensor, discount: float
) -> Tensor:
    """Discounted return of the first step of each window (Mnih et al. 2016, section 4).

    Args:
        rewards: float32 [N, B], or N tensors [B]: r_t … r_{t+N-1}. Where an episode was truncated, its last reward
            already contains the discounted value of the final observation.
        not_done: likewise, 0 where the episode ended at that step, else 1.
        bootstrap: float32 [B], V(o_{t+N}); ignored where the episode ended in the window.
        discount: γ in [0, 1].

    Returns:
        float32 [B].

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> n_step_returns(torch.ones(3, 1), torch.ones(3, 1), torch.tensor([8.0]), discount=0.5)
    tensor([2.7500])
    """
    steps, going_on = list(rewards), list(not_done)
    if len(steps) != len(going_on) or any(step.shape != bootstrap.shape for step in (*steps, *going_on)):
        raise ValueError(
            f"rewards {_shape(rewards)}, not_done {_shape(not_done)} and bootstrap {tuple(bootstrap.shape)} do not "
            "fit: [N, B], [N, B] and [B] are needed"
        )
    returns = bootstrap
    for reward, cont in zip(reversed(steps), reversed(going_on), strict=True):
        returns = torch.addcmul(reward, cont, returns, value=discount)
    return returns


def gae_returns(
    rewards: Tensor, not_done: Tensor, values: Tensor, bootstrap: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """V(o_t) plus the generalised advantage of the first step of each window (Schulman et al. 2016, equation 16).

    With δ_k = r_k + γ V(o_{k+1}) − V(o_k), the advantage is the sum of (γλ)^{k−t} δ_k until the window or the episode
    ends. λ = 1 gives `n_step_returns`, λ = 0 the one-step target.

    Args:
        rewards: float32 [N, B], as for `n_step_returns`.
        not_done: float32 [N, B], 0 where the episode ended at that step, else 1.
        values: float32 [N, B], V(o_t) … V(o_{t+N-1}).
        bootstrap: float32 [B], V(o_{t+N}); ignored where the episode ended in the window.
        discount: γ in [0, 1].
        gae_lambda: λ in [0, 1].

    Returns:
        float32 [B].

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> one, half = torch.ones(3, 1), torch.full((3, 1), 0.5)
    >>> gae_returns(one, one, half, torch.tensor([8.0]), discount=0.5, gae_lambda=0.5)
    tensor([1.7188])
    """
    if not rewards.shape == not_done.shape == values.shape or rewards.shape[1:] != bootstrap.shape:
        raise ValueError(
            f"rewards {tuple(rewards.shape)}, not_done {tuple(not_done.shape)}, values {tuple(values.shape)} and "
            f"bootstrap {tuple(bootstrap.shape)} do not fit: [N, B], [N, B], [N, B] and [B] are needed"
        )
    next_values = torch.cat((values[1:], bootstrap.unsqueeze(0)))
    errors = rewards + discount * not_done * next_values - values
    weights = torch.cat((torch.ones_like(rewards[:1]), discount * gae_lambda * not_done[:-1])).cumprod(dim=0)
    return values[0] + (weights * errors).sum(dim=0)


def lambda_returns(rewards: Tensor, discounts: Tensor, values: Tensor, bootstrap: Tensor, gae_lambda: float) -> Tensor:
    """λ-returns of every step of each window: R_k = r_k + γ_k [(1 − λ) V(o_{k+1}) + λ R_{k+1}].

    The first of them is `gae_returns`, and with λ = 1 `n_step_returns`. Later steps have shorter windows.

    Args:
        rewards: float32 [N, B], as for `n_step_returns`.
        discounts: float32 [N, B], γ, or 0 where the episode ended at that step.
        values: float32 [N, B], V(o_t) … V(o_{t+N-1}).
        bootstrap: float32 [B], V(o_{t+N}).
        gae_lambda: λ in [0, 1].

    Returns:
        float32 [N, B].

    >>> import torch
    >>> one = torch.ones(2, 1)
    >>> lambda_returns(one, one / 2, one, torch.tensor([8.0]), gae_lambda=1.0).flatten()
    tensor([3.5000, 5.0000])
    """
    _require_windows(rewards, discounts, values, bootstrap)
    next_values = torch.cat((values[1:], bootstrap.unsqueeze(0)))
    ahead, found = bootstrap, []
    for reward, discount, value in zip(
        reversed(rewards.unbind()), reversed(discounts.unbind()), reversed(next_values.unbind()), strict=True
    ):
        ahead = reward + discount * (value + gae_lambda * (ahead - value))
        found.append(ahead)
    return torch.stack(found[::-1])


@dataclass(frozen=True)
class VTraceConfig:
    """Where V-trace clips importance ratios (Espeholt et al. 2018, section 4.1).

    Args:
        rho_bar: ρ̄ > 0, clips the ratio that weighs each error: it decides which policy's values are learned.
        c_bar: c̄ > 0, clips the ratios that carry errors back in time: lower values mean less variance.
        trace_lambda: λ in [0, 1], multiplies the latter.
    """

    rho_bar: float = 1.0
    c_bar: float = 1.0
    trace_lambda: float = 1.0

    def __post_init__(self) -> None:
        for name, ratio in (("rho_bar", self.rho_bar), ("c_bar", self.c_bar)):
            if not ratio > 0:
                raise ValueError(f"data.vtrace.{name} must be > 0, got {ratio}")
        if not 0 <= self.trace_lambda <= 1:
            raise ValueError(f"data.vtrace.trace_lambda must be in [0, 1], got {self.trace_lambda}")


class VTraceTargets(NamedTuple):
    """What V-trace makes of each window."""

    values: Tensor  # float32 [N, B], v_s, which the critic learns
    advantages: Tensor  # float32 [N, B], ρ_s (r_s + γ_s v_{s+1} − V(o_s)), for the policy gradient


@torch.no_grad()
def vtrace_targets(
    log_ratios: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    config: VTraceConfig,
) -> VTraceTargets:
    """Targets for a policy π from steps that another policy μ took (Espeholt et al. 2018, equation 1 and section 4.2).

    v_s = V(o_s) + δ_s + γ_s c_s (v_{s+1} − V(o_{s+1})), with δ_s = ρ_s (r_s + γ_s V(o_{s+1}) − V(o_s)),
    ρ_s = min(ρ̄, π/μ) and c_s = λ min(c̄, π/μ). Where both policies are the same and λ = 1, v_s is the n-step return.

    Args:
        log_ratios: float32 [N, B], log π(a|o) − log μ(a|o) of the actions taken.
        rewards: float32 [N, B], as for `n_step_returns`.
        discounts: float32 [N, B], γ, or 0 where the episode ended at that step.
        values: float32 [N, B], V(o_t) … V(o_{t+N-1}) of the critic that learns.
        bootstrap: float32 [B], V(o_{t+N}).
        config: where ratios are clipped.

    Raises:
        ValueError: the shapes do not fit.
    """
    _require_windows(rewards, discounts, values, bootstrap)
    if log_ratios.shape != rewards.shape:
        raise ValueError(f"log_ratios {tuple(log_ratios.shape)} and rewards {tuple(rewards.shape)} do not fit")
    ratios = log_ratios.exp()
    rho = ratios.clamp(max=config.rho_bar)
    carried = discounts * config.trace_lambda * ratios.clamp(max=config.c_bar)
    errors = rho * (rewards + discounts * torch.cat((values[1:], bootstrap.unsqueeze(0))) - values)
    correction, found = torch.zeros_like(bootstrap), []
    for error, factor in zip(reversed(errors.unbind()), reversed(carried.unbind()), strict=True):
        correction = error + factor * correction
        found.append(correction)
    targets = values + torch.stack(found[::-1])
    next_targets = torch.cat((targets[1:], bootstrap.unsqueeze(0)))
    return VTraceTargets(targets, rho * (rewards + discounts * next_targets - values))


def _shape(steps: Tensor | Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(steps.shape) if isinstance(steps, Tensor) else (len(steps), *steps[0].shape)


def _require_windows(rewards: Tensor, discounts: Tensor, values: Tensor, bootstrap: Tensor) -> None:
    if not rewards.shape == discounts.shape == values.shape or rewards.shape[1:] != bootstrap.shape:
        raise ValueError(
            f"rewards {tuple(rewards.shape)}, discounts {tuple(discounts.shape)}, values {tuple(values.shape)} and "
            f"bootstrap {tuple(bootstrap.shape)} do not fit: [N, B], [N, B], [N, B] and [B] are needed"
        )
