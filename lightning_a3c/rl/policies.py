"""Acting: from observations to actions and values."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec
from lightning_a3c.rl.agent_network import action_spec_of
from lightning_a3c.rl.memory import Memory, state_size_of


class Decision(NamedTuple):
    """What a policy chose for B observations."""

    actions: Tensor  # as the action spec stores them
    values: Tensor  # float32 [B]
    parameters: Tensor  # float32 [B, P], of the distribution that the actions are drawn from
    state: Tensor  # float32 [B, H], of the policy's memory after this step; H is 0 without memory


class Policy(Protocol):
    """Chooses actions and estimates values; all results on the CPU."""

    state_size: int
    """H, the numbers of memory for each environment; 0 for none."""

    def __call__(self, observations: Tensor, memory: Memory) -> Decision:
        """[B, *observation_shape] → actions, values, and the state to go on from."""

    def values(self, observations: Tensor, memory: Memory) -> Tensor:
        """[B, *observation_shape] → values float32 [B]. The memory stays as it is."""

    def log_probs(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """[B, P] of decisions, and their actions → log π(a|o), float32 [B]."""


class PlainPolicy(Protocol):
    """A policy without memory, in the fewest words."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → actions as the action spec stores them, values float32 [B]."""

    def values(self, observations: Tensor) -> Tensor:
        """[B, *observation_shape] → values float32 [B]."""


class WithoutMemory:
    """A `PlainPolicy` as a `Policy`, whose log-probabilities are unknown."""

    state_size = 0

    def __init__(self, plain: PlainPolicy) -> None:
        self._plain = plain

    def __call__(self, observations: Tensor, memory: Memory) -> Decision:
        actions, values = self._plain(observations)
        return Decision(actions, values, torch.empty(len(values), 0), memory.state)

    def values(self, observations: Tensor, memory: Memory) -> Tensor:
        return self._plain.values(observations)

    def log_probs(self, parameters: Tensor, actions: Tensor) -> Tensor:
        return torch.full((len(actions),), torch.nan)


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
        net: observations [B, …] → (parameters [B, P], values [B]), or with memory as `rl.memory` says; its
            `action_spec`, if it has one, says what the parameters mean, and they are logits otherwise.
        seed: of the sampling; the global random state is neither read nor changed.
        greedy: take the likeliest action instead of sampling.
    """

    def __init__(self, net: nn.Module, seed: int = 0, greedy: bool = False) -> None:
        self.net = net
        self.greedy = greedy
        self.action_spec = action_spec_of(net)
        self.state_size = state_size_of(net)
        self._parameter = next(net.parameters())  # says where the network is, however often it moves
        self._generator = torch.Generator().manual_seed(int(seed) % 2**64)

    @property
    def generator_state(self) -> Tensor:
        """State of the generator that samples, uint8; settable."""
        return self._generator.get_state()

    @generator_state.setter
    def generator_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def memory(self, batch: int) -> Memory:
        """Of `batch` environments whose episodes begin."""
        return Memory.empty(batch, self.state_size)

    def __call__(self, observations: Tensor, memory: Memory) -> Decision:
        parameters, values, state = self.evaluate(observations, memory)
        return Decision(self.choose(parameters), values, parameters, state)

    def values(self, observations: Tensor, memory: Memory) -> Tensor:
        return self.evaluate(observations, memory)[1]

    def log_probs(self, parameters: Tensor, actions: Tensor) -> Tensor:
        return self.action_spec.log_prob_and_entropy(parameters, actions)[0]

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
    def evaluate(self, observations: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """[B, *observation_shape] → parameters float32 [B, P], values float32 [B], state float32 [B, H]."""
        device = self._parameter.device
        if not self.state_size:
            parameters, values = self.net(observations.to(device))
            return parameters.float().cpu(), values.float().cpu(), memory.state
        one_step = observations.to(device).unsqueeze(1), memory.state.to(device), memory.starts.to(device).unsqueeze(1)
        parameters, values, state = self.net(*one_step)
        return parameters[:, 0].float().cpu(), values[:, 0].float().cpu(), state.cpu()
