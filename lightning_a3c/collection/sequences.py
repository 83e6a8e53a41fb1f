"""Steps of a vector environment, and the sequences that they make. Steps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import Decision
from lightning_a3c.rl.targets import lambda_returns
from lightning_a3c.rl.types import Sequences


class Step(NamedTuple):
    """One step of all E sub-environments."""

    observations: Tensor  # [E, *observation_shape]
    decision: Decision  # for these observations
    memory: Memory  # before the step
    rewards: Tensor  # float32 [E], clipped if configured, plus γV(final observation) where truncated
    not_done: Tensor  # float32 [E], 0 where the episode ended
    is_valid: np.ndarray  # bool [E], false where the step only reset (next-step autoreset)
    policy_version: int


def sequences_of(
    steps: list[Step],
    bootstrap: Tensor,
    discount: float,
    gae_lambda: float,
    log_probs: Callable[[Tensor, Tensor], Tensor],
) -> Sequences:
    """T steps of E sub-environments, in the order of time, as E sequences.

    Args:
        steps: T of them.
        bootstrap: float32 [E], V of the observations after the last step.
        discount: γ in [0, 1].
        gae_lambda: λ of the targets; 1 makes them n-step returns.
        log_probs: parameters [B, P] and actions → log μ(a|o), float32 [B].
    """
    rewards = torch.stack([step.rewards for step in steps])
    discounts = discount * torch.stack([step.not_done for step in steps])
    values = torch.stack([step.decision.values for step in steps])
    returns = lambda_returns(rewards, discounts, values, bootstrap, gae_lambda)
    parameters = torch.stack([step.decision.parameters for step in steps], dim=1)
    actions = torch.stack([step.decision.actions for step in steps], dim=1)
    return Sequences(
        observations=torch.stack([step.observations for step in steps], dim=1),
        actions=actions,
        returns=returns.t(),
        log_probs=log_probs(parameters.flatten(0, 1), actions.flatten(0, 1)).view(returns.t().shape),
        rewards=rewards.t(),
        discounts=discounts.t(),
        bootstrap=bootstrap,
        starts=torch.stack([step.memory.starts for step in steps], dim=1),
        is_valid=torch.from_numpy(np.stack([step.is_valid for step in steps], axis=1)),
        state=steps[0].memory.state,
    )
