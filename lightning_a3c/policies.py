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
        self._generator = torch.Generator().manual_seed(int(seed) % 2**64)

    @property
    def generator_state(self) -> Tensor:
        """State of the sampling, uint8; settable."""
        return self._generator.get_state()

    @generator_state.setter
    def generator_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        logits, values = self.evaluate(observations)
        return self.choose(logits), values

    def values(self, observations: Tensor) -> Tensor:
        return self.evaluate(observations)[1]

    def choose(self, logits: Tensor) -> Tensor:
        """float32 [B, A] → actions int64 [B]."""
        if self.greedy:
            return logits.argmax(dim=1)
        return torch.multinomial(logits.softmax(dim=1), 1, generator=self._generator).squeeze(1)

    @torch.no_grad()
    def evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → logits float32 [B, A], values float32 [B]."""
        device = next(self.net.parameters()).device
        logits, values = self.net(observations.to(device))
        return logits.float().cpu(), values.float().cpu()
