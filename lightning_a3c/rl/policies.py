"""Acting: from observations to actions and values."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec
from lightning_a3c.rl.agent_network import action_spec_of


class Policy(Protocol):
    """Chooses actions and estimates values; all results on the CPU."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → actions as the action spec stores them, values float32 [B]."""

    def values(self, observations: Tensor) -> Tensor:
        """[B, *observation_shape] → values float32 [B]."""


def choose_actions(
    parameters: Tensor,
    greedy: bool = False,
    generator: torch.Generator | None = None,
    spec: ActionSpec | None = None,
    network: str = "the network",
    row: str = "observation",
) -> Tensor:
    """Actions sampled from the distribution with `parameters` [B, P], or the likeliest ones.

    Raises:
        ValueError: the parameters make no distribution; see `require_distribution`.
    """
    spec = spec or DiscreteSpec(parameters.shape[1])
    # argmax takes anything, Gaussians pass NaN on, and a GPU is lost to the process after a failed assertion
    if greedy or parameters.device.type != "cpu" or not isinstance(spec, DiscreteSpec):
        require_distribution(parameters, network, row)
    if greedy:
        return spec.mode(parameters)
    try:
        return spec.sample(parameters, generator)
    except RuntimeError:
        require_distribution(parameters, network, row)
        raise


def require_distribution(parameters: Tensor, network: str = "the network", row: str = "observation") -> None:
    """Raise ValueError unless each row of parameters [B, P] makes a distribution.

    A logit of −∞ masks an action, but not all of them may be masked.

    Args:
        parameters: outputs of the network.
        network: its name in the message.
        row: the name of a row in the message.
    """
    wrong = (~parameters.amax(dim=1).isfinite()).nonzero().flatten().tolist()
    if wrong:
        bad = parameters[wrong[0]]
        reason = "masks every action: all logits are -inf" if bad.isneginf().all() else "gives NaN or infinite numbers"
        numbers = ", ".join(f"{number:g}" for number in bad[:8].tolist()) + (", …" if len(bad) > 8 else "")
        raise ValueError(f"{network} {reason} for {row} {wrong[0]} of {len(parameters)}: [{numbers}]")


class NetworkPolicy:
    """Acts with a network: samples actions, or takes the likeliest.

    Raises ValueError where the network's outputs are no distribution, naming the network and the sub-environment.

    Args:
        net: observations [B, …] → (parameters [B, P], values [B]); its `action_spec`, if it has one, says what the
            parameters mean, and they are logits otherwise.
        seed: of the sampling; the global random state is neither read nor changed.
        greedy: take the likeliest action instead of sampling.
    """

    def __init__(self, net: nn.Module, seed: int = 0, greedy: bool = False) -> None:
        self.net = net
        self.greedy = greedy
        self.action_spec = action_spec_of(net)
        self._generator = torch.Generator().manual_seed(int(seed) % 2**64)

    @property
    def generator_state(self) -> Tensor:
        """State of the generator that samples, uint8; settable."""
        return self._generator.get_state()

    @generator_state.setter
    def generator_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        parameters, values = self.evaluate(observations)
        return self.choose(parameters), values

    def values(self, observations: Tensor) -> Tensor:
        return self.evaluate(observations)[1]

    def choose(self, parameters: Tensor) -> Tensor:
        """float32 [B, P] → actions as the action spec stores them."""
        name = getattr(self.net, "network_name", type(self.net).__name__)
        return choose_actions(
            parameters, self.greedy, self._generator, self.action_spec, f"network {name}", "sub-environment"
        )

    def to_env(self, actions: Tensor) -> Tensor:
        """Stored actions in the environment's units."""
        return self.action_spec.to_env(actions)

    @torch.no_grad()
    def evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → parameters float32 [B, P], values float32 [B]."""
        device = next(self.net.parameters()).device
        parameters, values = self.net(observations.to(device))
        return parameters.float().cpu(), values.float().cpu()
