"""Return targets, one pure function per formula. Knows no networks and no environments."""

from __future__ import annotations

import torch
from torch import Tensor


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
