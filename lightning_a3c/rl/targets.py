"""Return targets, one pure function per formula. Knows no networks and no environments."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TargetName = Literal["n_step", "gae"]
"""Which formula makes the targets: `n_step_returns` or `gae_returns`."""


def n_step_returns(rewards: Tensor, not_done: Tensor, bootstrap: Tensor, discount: float) -> Tensor:
    """Discounted return of the first step of each window (Mnih et al. 2016, section 4).

    Args:
        rewards: float32 [N, B], r_t … r_{t+N-1}. Where an episode was truncated, its last reward
            already contains the discounted value of the final observation.
        not_done: float32 [N, B], 0 where the episode ended at that step, else 1.
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
    if rewards.shape != not_done.shape or rewards.shape[1:] != bootstrap.shape:
        raise ValueError(
            f"rewards {tuple(rewards.shape)}, not_done {tuple(not_done.shape)} and "
            f"bootstrap {tuple(bootstrap.shape)} do not fit: [N, B], [N, B] and [B] are needed"
        )
    returns = bootstrap
    for reward, cont in zip(reversed(rewards.unbind()), reversed(not_done.unbind()), strict=True):
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
