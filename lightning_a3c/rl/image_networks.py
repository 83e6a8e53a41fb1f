"""Networks for small images, for deep vision, and for observations of several parts. They know no loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lightning_a3c.rl.networks import MLP, Bounds, channel_axis, input_scale

_SYMBOL_SCALE = 1 / 8  # bytes of small images are symbols, such as MiniGrid's, a few units large


class SmallImageTrunk(nn.Module):
    """Two 3×3 convolutions over an image of at least 3 × 3, such as MiniGrid's 7×7×3 or MinAtar's 10×10×C.

    Args:
        observation_shape: (height, width, channels), or (channels, height, width) if `channels_first`.
        width: output channels of the first convolution; the second has twice as many.
        channels_first: where the channels are; None takes the shortest of the first and last axis, the last if equal.
        scale: factor for the inputs; None takes 1/8 for bytes, which hold symbols here, and 1 for others.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        width: int = 32,
        channels_first: bool | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if len(observation_shape) != 3 or min(sorted(observation_shape)[1:]) < 3:
            raise ValueError(f"SmallImageTrunk needs images of at least 3 × 3, got {tuple(observation_shape)}")
        self.channels_first = observation_shape[0] < observation_shape[2] if channels_first is None else channels_first
        self.scale = scale
        channels = observation_shape[0 if self.channels_first else 2]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, kernel_size=3),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            self.num_features = self.forward(torch.zeros(1, *observation_shape)).shape[1]

    def forward(self, observations: Tensor) -> Tensor:
        """Any real [B, *observation_shape] → features [B, num_features]."""
        scale = self.scale or (_SYMBOL_SCALE if observations.dtype == torch.uint8 else 1.0)
        pixels = observations.float() * scale
        features: Tensor = self.layers(pixels if self.channels_first else pixels.permute(0, 3, 1, 2))
        return features


class SymbolTrunk(nn.Module):
    """One layer over an image of symbols, such as MiniGrid's, each taken as a one-hot vector.

    Convolutions take symbols for quantities: to them object 5 is more than object 4. Here each symbol at each place has
    a vector of its own, and the features are the ReLU of their sum.

    Args:
        observation_shape: of the image; the order of its axes does not matter.
        num_symbols: symbols are 0 … num_symbols − 1; larger ones count as the last.
        num_features: width of the layer.
    """

    offsets: Tensor
    """Of the vectors of each place, int64 [places]."""

    def __init__(self, observation_shape: Sequence[int], num_symbols: int, num_features: int = 128) -> None:
        super().__init__()
        if num_symbols < 2:
            raise ValueError(f"num_symbols must be >= 2, got {num_symbols}")
        places = math.prod(observation_shape)
        self.num_symbols = num_symbols
        self.num_features = num_features
        self.vectors = nn.EmbeddingBag(places * num_symbols, num_features, mode="sum")
        nn.init.normal_(self.vectors.weight, std=places**-0.5)  # so that sums have a variance of 1
        self.register_buffer("offsets", torch.arange(places) * num_symbols, persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Whole numbers [B, *observation_shape] → features [B, num_features]."""
        symbols = observations.flatten(1).long().clamp_(0, self.num_symbols - 1)
        features: Tensor = self.vectors(symbols + self.offsets)
        return features.relu()


class SmallImageNetwork(nn.Module):
    """A `SmallImageTrunk`, one shared hidden layer, then policy and value heads.

    Args:
        observation_shape: see `SmallImageTrunk`.
        num_actions: numbers that the policy head gives.
        width: output channels of the first convolution.
        hidden_size: width of the hidden layer.
    """

    def __init__(
        self, observation_shape: Sequence[int], num_actions: int, width: int = 32, hidden_size: int = 128
    ) -> None:
        super().__init__()
        self.trunk = SmallImageTrunk(observation_shape, width)
        self.hidden = nn.Sequential(nn.Linear(self.trunk.num_features, hidden_size), nn.ReLU())
        self.policy = nn.Linear(hidden_size, num_actions)
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Any real [B, *observation_shape] → outputs [B, num_actions], values [B]."""
        features = self.hidden(self.trunk(observations))
        return self.policy(features), self.value(features).squeeze(1)


class ImpalaResNet(nn.Module):
    """The residual network of Espeholt et al. 2018 (IMPALA, figure 3), for images of at least 16 × 16.

    Args:
        observation_shape: (channels, height, width) or (height, width, channels).
        num_actions: numbers that the policy head gives.
        widths: output channels of each block.
        hidden_size: width of the shared hidden layer.
        observation_bounds: of the pixels; None takes 0 … 255.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        widths: Sequence[int] = (16, 32, 32),
        hidden_size: int = 256,
        observation_bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        axis = channel_axis(observation_shape, 16)
        if axis is None:
            raise ValueError(f"ImpalaResNet needs images of at least 16 × 16, got {tuple(observation_shape)}")
        self.channels_last = axis == 2
        self.scale = input_scale(observation_bounds or (0, 255))
        channels = [observation_shape[axis], *widths]
        blocks = [_ImpalaBlock(before, after) for before, after in zip(channels[:-1], widths, strict=True)]
        self.blocks = nn.Sequential(*blocks, nn.ReLU(), nn.Flatten())
        with torch.no_grad():
            size = self.blocks(self._pixels(torch.zeros(1, *observation_shape))).shape[1]
        self.hidden = nn.Sequential(nn.Linear(size, hidden_size), nn.ReLU())
        self.policy = nn.Linear(hidden_size, num_actions)
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Any real [B, *observation_shape] → outputs [B, num_actions], values [B]."""
        features = self.hidden(self.blocks(self._pixels(observations)))
        return self.policy(features), self.value(features).squeeze(1)

    def _pixels(self, observations: Tensor) -> Tensor:
        pixels = observations.float() * self.scale
        return pixels.permute(0, 3, 1, 2) if self.channels_last else pixels


class _ImpalaBlock(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1))
        self.residuals = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(2)
        )

    def forward(self, features: Tensor) -> Tensor:
        features = self.first(features)
        for residual in self.residuals:
            features = features + residual(features)
        return features


class DictNetwork(nn.Module):
    """Convolutions for the images among the parts of an observation, all parts joined, then policy and value towers.

    Args:
        observation_shape: the shape of each part, by name.
        num_actions: numbers that the policy tower gives.
        hidden_sizes: width of each hidden layer of the towers.
        width: output channels of the images' first convolution.
    """

    def __init__(
        self,
        observation_shape: Mapping[str, Sequence[int]],
        num_actions: int,
        hidden_sizes: Sequence[int] = (64, 64),
        width: int = 32,
    ) -> None:
        super().__init__()
        self.names = list(observation_shape)
        self.trunks = nn.ModuleDict()
        size = 0
        for index, (_, shape) in enumerate(observation_shape.items()):
            if len(shape) == 3 and min(sorted(shape)[1:]) >= 3:  # names may hold dots, which modules' may not
                trunk = SmallImageTrunk(shape, width)
                self.trunks[str(index)] = trunk
                size += trunk.num_features
            else:
                size += math.prod(shape)
        self.towers = MLP((size,), num_actions, hidden_sizes)

    def forward(self, observations: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A tensor [B, *shape] for each part → outputs [B, num_actions], values [B]."""
        features = []
        for index, name in enumerate(self.names):
            part = observations[name]
            key = str(index)
            features.append(self.trunks[key](part) if key in self.trunks else part.float().flatten(1))
        outputs, values = self.towers(torch.cat(features, dim=1))
        return outputs, values
