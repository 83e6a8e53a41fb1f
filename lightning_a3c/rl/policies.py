"""Acting: from observations to actions and values. Only this module samples actions."""

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


def choose_actions(
    logits: Tensor,
    greedy: bool = False,
    generator: torch.Generator | None = None,
    network: str = "the network",
    row: str = "observation",
) -> Tensor:
    """Actions int64 [B], sampled from softmax(logits [B, A]) or the likeliest; raises as `require_choice` does."""
    if greedy or logits.device.type != "cpu":  # argmax accepts NaN, and on a GPU the error would break CUDA for good
        require_choice(logits, network, row)
    if greedy:
        return logits.argmax(dim=1)
    try:
        return torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    except RuntimeError:
        require_choice(logits, network, row)
        raise


def require_choice(logits: Tensor, network: str = "the network", row: str = "observation") -> None:
    """Raise ValueError unless each row of logits [B, A] defines a distribution; −∞ may mask all actions but one.

    Args:
        logits: output of the network.
        network: the network's name in the message.
        row: the name of a row in the message.
    """
    wrong = (~logits.amax(dim=1).isfinite()).nonzero().flatten().tolist()
    if wrong:
        bad = logits[wrong[0]]
        reason = "masks every action: all logits are -inf" if bad.isneginf().all() else "gives NaN or infinite logits"
        numbers = ", ".join(f"{logit:g}" for logit in bad[:8].tolist()) + (", …" if len(bad) > 8 else "")
        raise ValueError(f"{network} {reason} for {row} {wrong[0]} of {len(logits)}: [{numbers}]")


class SoftmaxPolicy:
    """Samples actions from softmax(logits), or takes the likeliest.

    Raises ValueError, with network and sub-environment, for logits that define no distribution.

    Args:
        net: observations [B, …] → (logits [B, A], values [B]).
        seed: seed of the sampling; the global random state is neither read nor changed.
        greedy: take argmax instead of sampling.
    """

    def __init__(self, net: nn.Module, seed: int = 0, greedy: bool = False) -> None:
        self.net = net
        self.greedy = greedy
        self._generator = torch.Generator().manual_seed(int(seed) % 2**64)

    @property
    def generator_state(self) -> Tensor:
        """State of the generator that samples, uint8; settable."""
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
        name = getattr(self.net, "network_name", type(self.net).__name__)
        return choose_actions(logits, self.greedy, self._generator, f"network {name}", "sub-environment")

    @torch.no_grad()
    def evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → logits float32 [B, A], values float32 [B]."""
        device = next(self.net.parameters()).device
        logits, values = self.net(observations.to(device))
        return logits.float().cpu(), values.float().cpu()
