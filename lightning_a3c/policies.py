"""Acting: from observations to actions and values. The only place that knows how actions are drawn."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Policy(Protocol):
    """Chooses actions and estimates values; all results on the CPU."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → actions int64 [B], values float32 [B]."""

    def values(self, observations: Tensor) -> Tensor:
        """[B, *observation_shape] → values float32 [B]."""


class SoftmaxPolicy:
    """Samples from softmax(logits), or takes the likeliest action.

    Args:
        net: observations [B, …] → (logits [B, A], values [B]).
        seed: of the sampling; the global random state is neither read nor changed.
        greedy: take argmax instead of sampling.
    """

    def __init__(self, net: nn.Module, seed: int = 0, greedy: bool = False) -> None:
        self.net = net
        self.greedy = greedy
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        logits, values = self._evaluate(observations)
        if self.greedy:
            return logits.argmax(dim=1), values
        actions = torch.multinomial(logits.softmax(dim=1), 1, generator=self._generator)
        return actions.squeeze(1), values

    def values(self, observations: Tensor) -> Tensor:
        return self._evaluate(observations)[1]

    @torch.no_grad()
    def _evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self.net.parameters()).device
        logits, values = self.net(observations.to(device))
        return logits.float().cpu(), values.float().cpu()
