"""What lies between observations as they travel, a network, and the parameters of the action distribution.

Knows no environment, no loss and no process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_a3c.rl.action_spec import ActionSpec, BoxSpec, DiscreteSpec, JointSpec, clamp_log_std
from lightning_a3c.rl.memory import state_size_of
from lightning_a3c.rl.normalization import RunningMoments, moments_of
from lightning_a3c.rl.types import RolloutStats

MASKED_LOGIT = -1e8
"""Logit of a masked action: its probability is exactly 0, and products with it stay finite."""


class ObservationPart(NamedTuple):
    """One array of a Dict or Tuple observation."""

    name: str  # as in "camera" or "player.position"
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        """In a packed observation."""
        return math.prod(self.shape) * int(getattr(torch, self.dtype).itemsize)


Observations = Tensor | Mapping[str, Tensor]


class AgentNetwork(nn.Module):
    """A network with everything around it that is not its own business.

    Observations of several parts travel packed into bytes, one row per observation; they are unpacked here into a dict
    of tensors. Running statistics normalise float observations. Log-stds that the network does not compute are
    parameters here. Masked actions get a probability of 0.

    Args:
        net: observations → (outputs [B, num_outputs of the spec], values [B]), or a network with memory.
        action_spec: family of the actions.
        parts: arrays of a packed observation, in order; None if observations are one array.
        mask: name of the part that holds the action mask, which `net` does not get.
        normalized_size: elements per observation to normalise; 0 for none.
        scales_rewards: whether workers divide rewards by the running standard deviation of returns.
    """

    log_std: nn.Parameter | None

    def __init__(
        self,
        net: nn.Module,
        action_spec: ActionSpec,
        parts: Sequence[ObservationPart] | None = None,
        mask: str | None = None,
        normalized_size: int = 0,
        scales_rewards: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.action_spec = action_spec
        self.state_size = state_size_of(net)
        self.parts = None if parts is None else list(parts)
        self.mask = mask
        initial = _initial_log_stds(action_spec)
        self.log_std = nn.Parameter(torch.tensor(initial)) if initial else None
        self._has_log_stds = bool(_boxes(action_spec))
        self.observation_moments = RunningMoments(normalized_size) if normalized_size else None
        self.return_moments = RunningMoments(1) if scales_rewards else None

    @property
    def has_statistics(self) -> bool:
        """Whether there is anything to merge."""
        return self.observation_moments is not None or self.return_moments is not None

    @property
    def reward_scale(self) -> float:
        """What workers multiply rewards by."""
        if self.return_moments is None or self.return_moments.count < 2:
            return 1.0
        return float(self.return_moments.scale)

    def forward(
        self, observations: Observations, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Packed or plain observations, or a dict of them → parameters and values; see `rl.memory` for those with one.

        Args:
            observations: [B, …], or [B, T, …] for a network with memory.
            state: float32 [B, H] before the first step; only with memory.
            starts: bool [B, T], where episodes begin; only with memory.

        Returns:
            Parameters [B, P] and values [B]; with memory [B, T, P], [B, T] and the state [B, H] after the last step.
        """
        if starts is None:
            inputs, mask = self._inputs(observations)
            outputs, values = self.net(inputs)
            return self._complete(outputs, mask), values
        inputs, mask = self._inputs(_map(observations, lambda tensor: tensor.flatten(0, 1)))
        steps = _map(inputs, lambda tensor: tensor.view(*starts.shape, *tensor.shape[1:]))
        outputs, values, state = self.net(steps, state, starts)
        return self._complete(outputs.flatten(0, 1), mask).view(*starts.shape, -1), values, state

    def _inputs(self, observations: Observations) -> tuple[Any, Tensor | None]:
        """What the inner network gets, and the mask of the actions."""
        inputs: Any = self.unpack(observations)
        mask = inputs.pop(self.mask).bool() if self.mask is not None else None
        if isinstance(inputs, dict) and inputs.keys() == {""}:  # an array that travelled with its mask
            inputs = inputs[""]
        moments = self.observation_moments  # modules take a microsecond to find each attribute
        if moments is not None:
            inputs = self._normalize(inputs, moments)
        return inputs, mask

    def unpack(self, observations: Observations) -> Observations:
        """The parts of packed observations, each [B, *shape]; a new dict, or the observations if they are one array."""
        if not isinstance(observations, Tensor):
            return dict(observations)
        if self.parts is None:
            return observations
        sizes = [part.num_bytes for part in self.parts]
        return {
            part.name: piece.clone(memory_format=torch.contiguous_format)
            .view(getattr(torch, part.dtype))
            .view(len(piece), *part.shape)
            for part, piece in zip(self.parts, torch.split(observations, sizes, dim=1), strict=True)
        }

    def measure(self, observations: Tensor) -> Tensor:
        """Moments of the observations to normalise, float32 [1, 2, D]; D is 0 without normalisation."""
        if self.observation_moments is None:
            return torch.zeros(1, 2, 0)
        return moments_of(self._normalized_elements(self.unpack(observations))).cpu()

    def merge(self, stats: RolloutStats, observations_per_message: int) -> None:
        """Take in what workers measured."""
        if self.observation_moments is not None:
            moments = stats.observation_moments
            self.observation_moments.merge([observations_per_message] * len(moments), moments[:, 0], moments[:, 1])
        if self.return_moments is not None:
            measured = [row for row in stats.return_moments.tolist() if row[0]]  # floats keep every bit of a float32
            if measured:
                counts = [count for count, _, _ in measured]
                rows = torch.tensor(measured)
                self.return_moments.merge(counts, rows[:, 1:2], rows[:, 2:3])

    def _normalize(self, inputs: Observations, moments: RunningMoments) -> Observations:
        if isinstance(inputs, Tensor):
            if inputs.dim() == 2 and inputs.dtype == torch.float32:  # nearly always, and the calls below add up
                return moments.normalize(inputs)
            return moments.normalize(self._normalized_elements(inputs)).view_as(inputs)
        names = [name for name, tensor in inputs.items() if tensor.is_floating_point()]
        flat = moments.normalize(self._normalized_elements(inputs))
        pieces = torch.split(flat, [inputs[name][0].numel() for name in names], dim=1)
        return {**inputs, **{name: piece.view_as(inputs[name]) for name, piece in zip(names, pieces, strict=True)}}

    def _normalized_elements(self, inputs: Observations) -> Tensor:
        if isinstance(inputs, Tensor):
            return inputs.float().flatten(1)
        return torch.cat([tensor.float().flatten(1) for tensor in inputs.values() if tensor.is_floating_point()], dim=1)

    def _complete(self, outputs: Tensor, mask: Tensor | None) -> Tensor:
        if self._has_log_stds:
            outputs = _with_log_stds(self.action_spec, outputs, self.log_std)
        if mask is not None:
            outputs = torch.where(mask.view_as(outputs), outputs, MASKED_LOGIT)
        return outputs


def _map(observations: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(observations, Mapping):
        return {name: function(tensor) for name, tensor in observations.items()}
    return function(observations)


def action_spec_of(net: nn.Module, num_actions: int | None = None) -> ActionSpec:
    """The spec that `net` carries; without one its outputs are logits of discrete actions."""
    spec: ActionSpec | None = getattr(net, "action_spec", None)
    return DiscreteSpec(num_actions or 0) if spec is None else spec


def scales_rewards(net: nn.Module) -> bool:
    """Whether workers that act with `net` scale rewards."""
    return isinstance(net, AgentNetwork) and net.return_moments is not None


def _boxes(spec: ActionSpec) -> list[BoxSpec]:
    parts = spec.parts if isinstance(spec, JointSpec) else (spec,)
    return [part for part in parts if isinstance(part, BoxSpec)]


def _initial_log_stds(spec: ActionSpec) -> list[float]:
    return [box.initial_log_std for box in _boxes(spec) if not box.has_std_head for _ in box.low]


def _with_log_stds(spec: ActionSpec, outputs: Tensor, log_std: Tensor | None) -> Tensor:
    """`outputs` with the log-stds of each Gaussian behind its means."""
    parts = spec.parts if isinstance(spec, JointSpec) else (spec,)
    pieces, used = [], 0
    for part, piece in zip(parts, torch.split(outputs, [part.num_outputs for part in parts], dim=1), strict=True):
        if not isinstance(part, BoxSpec):
            pieces.append(piece)
        elif part.has_std_head:
            mean, head = piece.chunk(2, dim=1)
            pieces += [part.means(mean), clamp_log_std(head)]
        else:
            assert log_std is not None
            size = len(part.low)
            pieces += [part.means(piece), log_std[used : used + size].to(piece.dtype).expand_as(piece)]
            used += size
    return torch.cat(pieces, dim=1)
