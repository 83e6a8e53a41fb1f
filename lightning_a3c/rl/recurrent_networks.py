"""Networks with memory: LSTM or GRU between features and heads. They know no loss; `rl.memory` has their interface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_a3c.rl.image_networks import SmallImageTrunk, SymbolTrunk
from lightning_a3c.rl.networks import Bounds, channel_axis, input_scale, instantiate


class RecurrentNetwork(nn.Module):
    """Features, an LSTM or GRU, then policy and value heads.

    Args:
        observation_shape: shape of one observation, or of each part by name.
        num_actions: numbers that the policy head gives.
        cell: "lstm" (Hochreiter and Schmidhuber 1997) or "gru" (Cho et al. 2014).
        hidden_size: width of the memory.
        feature_size: numbers that the memory gets at each step.
        features: `{"class_path": …, "init_args": {…}}` of a network that is built with the shape and `feature_size`
            and maps observations [B, …] to features [B, feature_size]; of a pair it gives, the first is taken, so every
            feed-forward network will do. None takes `Features`.
        observation_bounds: of the observations, if `features` is None; see `input_scale`. [0, 1] for one-hot images
            whose space says 0 … 255, which would be taken for symbols.
        num_symbols: if `features` is None: small images hold symbols below it, and get a `SymbolTrunk`. MiniGrid's are
            below 11.
        head_size: width of a hidden layer in each head, which helps where what is remembered must be compared with
            what is seen. None for linear heads.
    """

    def __init__(
        self,
        observation_shape: Any,
        num_actions: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden_size: int = 128,
        feature_size: int = 128,
        features: dict[str, Any] | None = None,
        observation_bounds: Bounds | None = None,
        num_symbols: int | None = None,
        head_size: int | None = None,
    ) -> None:
        super().__init__()
        if cell not in ("lstm", "gru"):
            raise ValueError(f'cell must be "lstm" or "gru", got {cell!r}')
        if min(hidden_size, feature_size) < 1:
            raise ValueError(f"hidden_size and feature_size must be >= 1, got {hidden_size} and {feature_size}")
        if head_size is not None and head_size < 1:
            raise ValueError(f"head_size must be >= 1, or null for linear heads, got {head_size}")
        self.features: nn.Module = (
            Features(observation_shape, feature_size, observation_bounds, num_symbols)
            if features is None
            else instantiate(features, observation_shape, feature_size)
        )
        self.cell: nn.RNNCellBase = (nn.LSTMCell if cell == "lstm" else nn.GRUCell)(feature_size, hidden_size)
        self.policy = _head(hidden_size, head_size, num_actions)
        self.value = _head(hidden_size, head_size, 1)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros, float32 [batch, H]: the hidden state, and for an LSTM the cell state beside it."""
        copies = 2 if isinstance(self.cell, nn.LSTMCell) else 1
        return self.cell.weight_hh.new_zeros(batch, copies * self.cell.hidden_size, dtype=torch.float32)

    def forward(self, observations: Any, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Observations [B, T, …], state [B, H], starts bool [B, T] → outputs [B, T, A], values [B, T], state [B, H]."""
        features = self.features(_steps_as_rows(observations))
        if isinstance(features, tuple):
            features = features[0]
        inputs = F.linear(features, self.cell.weight_ih, self.cell.bias_ih)  # of all steps at once
        hidden = []
        for step, begins in zip(inputs.view(*starts.shape, -1).unbind(1), starts.unbind(1), strict=True):
            state = self._step(step, state.masked_fill(begins.unsqueeze(1), 0.0))
            hidden.append(state[:, : self.cell.hidden_size])
        memory = torch.stack(hidden, dim=1)
        return self.policy(memory), self.value(memory).squeeze(2), state

    def _step(self, inputs: Tensor, state: Tensor) -> Tensor:
        if isinstance(self.cell, nn.LSTMCell):
            hidden, cell = state.chunk(2, dim=1)
            gates = inputs + F.linear(hidden.to(inputs.dtype), self.cell.weight_hh, self.cell.bias_hh)
            into, forget, candidate, out = gates.float().chunk(4, dim=1)
            cell = forget.sigmoid() * cell + into.sigmoid() * candidate.tanh()
            return torch.cat((out.sigmoid() * cell.tanh(), cell), dim=1)
        hidden_gates = F.linear(state.to(inputs.dtype), self.cell.weight_hh, self.cell.bias_hh).float()
        reset, update, candidate = inputs.float().chunk(3, dim=1)
        hidden_reset, hidden_update, hidden_candidate = hidden_gates.chunk(3, dim=1)
        candidate = (candidate + (reset + hidden_reset).sigmoid() * hidden_candidate).tanh()
        kept = (update + hidden_update).sigmoid()
        return kept * state + (1 - kept) * candidate


def _head(inputs: int, hidden: int | None, outputs: int) -> nn.Module:
    if hidden is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class AtariLSTM(RecurrentNetwork):
    """The recurrent agent of Mnih et al. 2016: two convolutions, 256 features, an LSTM of 256 units, two linear heads.

    Args:
        observation_shape: (channels, height, width) or (height, width, channels) of at least 36 × 36.
        num_actions: numbers that the policy head gives.
        observation_bounds: see `input_scale`; None stands for 0 … 255.
        background: the commonest value of the images, which is subtracted; see `AtariA2C`.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        observation_bounds: Bounds | None = None,
        background: float = 0,
    ) -> None:
        if channel_axis(observation_shape) is None:
            raise ValueError(f"AtariLSTM needs images of at least 36 × 36, got {tuple(observation_shape)}")
        super().__init__(observation_shape, num_actions, "lstm", 256, 256, None, observation_bounds)
        trunk = self.features.trunks["0"]  # type: ignore[index]
        assert isinstance(trunk, ImageTrunk)
        trunk.background = background


class Features(nn.Module):
    """A trunk for each part of an observation, then one hidden layer over all of them.

    Images of at least 36 × 36 get the two convolutions of Mnih et al. 2013, smaller ones `SmallImageTrunk` or, where
    the number of their symbols is given, `SymbolTrunk`; vectors are taken as they are.

    Args:
        observation_shape: shape of one observation, or of each part by name.
        feature_size: numbers per observation that it gives.
        observation_bounds: see `input_scale`.
        num_symbols: of small images; None if they hold no symbols.
    """

    def __init__(
        self,
        observation_shape: Any,
        feature_size: int,
        observation_bounds: Bounds | None = None,
        num_symbols: int | None = None,
    ) -> None:
        super().__init__()
        shapes = observation_shape if isinstance(observation_shape, Mapping) else {"": tuple(observation_shape)}
        self.names = list(shapes)
        trunks = [_trunk(shape, observation_bounds, num_symbols) for shape in shapes.values()]
        self.trunks = nn.ModuleDict({str(index): trunk for index, trunk in enumerate(trunks)})
        size = sum(trunk.num_features for trunk in trunks)
        self.hidden = nn.Sequential(nn.Linear(size, feature_size), nn.ReLU())

    def forward(self, observations: Any) -> Tensor:
        """Observations [B, …], or a dict of parts → features [B, feature_size]."""
        parts = [observations[name] for name in self.names] if isinstance(observations, Mapping) else [observations]
        features = [trunk(part) for trunk, part in zip(self.trunks.values(), parts, strict=True)]
        joined = features[0] if len(features) == 1 else torch.cat([part.float() for part in features], dim=1)
        hidden: Tensor = self.hidden(joined)
        return hidden


class ImageTrunk(nn.Module):
    """The convolutions of Mnih et al. 2013: 16 of 8 × 8 with stride 4, then 32 of 4 × 4 with stride 2.

    Args:
        observation_shape: (channels, height, width) or (height, width, channels) of at least 36 × 36.
        observation_bounds: see `input_scale`; None stands for 0 … 255.
    """

    def __init__(self, observation_shape: Sequence[int], observation_bounds: Bounds | None = None) -> None:
        super().__init__()
        axis = channel_axis(observation_shape)
        if axis is None:
            raise ValueError(f"ImageTrunk needs images of at least 36 × 36, got {tuple(observation_shape)}")
        self.background = 0.0
        self.scale = input_scale(observation_bounds or (0, 255))
        self._channels_last = axis == 2
        self.layers = nn.Sequential(
            nn.Conv2d(observation_shape[axis], 16, kernel_size=8, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        with torch.no_grad():
            self.num_features = self.forward(torch.zeros(1, *observation_shape)).shape[1]

    def forward(self, observations: Tensor) -> Tensor:
        """Any real [B, *observation_shape] → features [B, num_features]."""
        if not self._channels_last:
            observations = torch.stack(observations.unbind(1), dim=-1)  # faster than `contiguous`
        weight = next(self.parameters())
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        pixels = observations.permute(0, 3, 1, 2).to(dtype, copy=True).mul_(self.scale)
        if self.background:
            pixels -= self.background * self.scale
        features: Tensor = self.layers(pixels)
        return features


class _Flat(nn.Module):
    def __init__(self, observation_shape: Sequence[int], observation_bounds: Bounds | None) -> None:
        super().__init__()
        self.scale = input_scale(observation_bounds or (-math.inf, math.inf))
        self.num_features = math.prod(observation_shape)

    def forward(self, observations: Tensor) -> Tensor:
        return observations.float().flatten(1) * self.scale


def _trunk(shape: Sequence[int], bounds: Bounds | None, num_symbols: int | None) -> Any:
    if channel_axis(shape) is not None:
        return ImageTrunk(shape, bounds)
    if len(shape) == 3 and min(sorted(shape)[1:]) >= 3:
        if num_symbols is not None:
            return SymbolTrunk(shape, num_symbols)
        scale = None if bounds is None or tuple(bounds) == (0, 255) else input_scale(bounds)
        return SmallImageTrunk(shape, scale=scale)
    return _Flat(shape, bounds)


def _steps_as_rows(observations: Any) -> Any:
    if isinstance(observations, Mapping):
        return {name: part.flatten(0, 1) for name, part in observations.items()}
    return observations.flatten(0, 1)
