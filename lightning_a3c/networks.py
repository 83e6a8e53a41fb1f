"""Actor-critic networks: observations in, (logits [B, A], values [B]) out. They know no loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_a3c.processor import onednn_multiplies

NetworkFactory = Callable[[tuple[int, ...], int], nn.Module]
"""Builds a network from the shape of one observation and the number of actions."""


class AtariA2C(nn.Module):
    """Three convolutions, then separate policy and value heads (conv stack of Mnih et al. 2015).

    Args:
        observation_shape: (channels, 84, 84), or any (channels, height, width) or (height, width, channels) of at
            least 36 × 36.
        num_actions: size of the discrete action space.
        widths: output channels of each convolution.
        hidden_size: width of each head's hidden layer.
        background: the commonest grey level of the game, 0 … 255; it becomes the zero of the first layer's inputs.
            A constant background gives all weights of a filter the same gradient, and an optimizer that normalises
            each weight's step then moves them together, until the filter is off or saturated everywhere
            (centred inputs: LeCun et al. 1998, Efficient BackProp, section 4.3).
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        widths: Sequence[int] = (32, 64, 64),
        hidden_size: int = 512,
        background: float = 0,
    ) -> None:
        super().__init__()
        axis = _channel_axis(observation_shape)
        if axis is None:
            raise ValueError(
                f"AtariA2C needs observations (channels, height, width), or channels last, of at least 36 × 36, "
                f"got {tuple(observation_shape)}; use lightning_a3c.networks.MLP for vectors"
            )
        if len(widths) != 3 or min(*widths, hidden_size) < 1:
            raise ValueError(
                f"AtariA2C needs three widths and a hidden_size of at least 1, got {list(widths)} and {hidden_size}"
            )
        if not 0 <= background <= 255:
            raise ValueError(f"AtariA2C's background must be a grey level in 0 … 255, got {background}")
        self.background = background
        self._channels_last = axis == 2
        self.features = nn.Sequential(
            nn.Conv2d(observation_shape[axis], widths[0], kernel_size=8, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[0], widths[1], kernel_size=4, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[1], widths[2], kernel_size=3, stride=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.features(self._channels_first(torch.zeros(1, *observation_shape))).shape[1]

        def head(outputs: int) -> nn.Module:
            hidden = _WideLinear(size, hidden_size)
            return nn.Sequential(hidden, nn.ReLU(inplace=True), nn.Linear(hidden_size, outputs))

        self.policy = head(num_actions)
        self.value = head(1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 or float [B, *observation_shape] in 0 … 255 → logits [B, A], values [B], in the weights' or autocast's
        dtype.
        """
        # channels are brought last while they are bytes; then at once to the dtype that the convolutions compute in
        pixels = self._channels_first(observations).to(self._compute_dtype, copy=True).mul_(1 / 256)
        if self.background:
            pixels -= self.background / 256
        features = self.features(pixels)
        return self.policy(features), self.value(features).squeeze(1)

    def _channels_first(self, observations: Tensor) -> Tensor:
        """[B, C, H, W], which lies in memory as [B, H, W, C]."""
        if not self._channels_last:
            observations = torch.stack(observations.unbind(1), dim=-1)  # faster than `contiguous`
        return observations.permute(0, 3, 1, 2)

    @property
    def _compute_dtype(self) -> torch.dtype:
        weight = next(self.parameters())
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


class _WideLinear(nn.Linear):
    """A linear layer, [B, in_features] → [B, out_features], of many more weights than inputs and outputs.

    oneDNN packs the right factor of a product at every call; here that is the inputs, not the weights. MKL is faster
    the usual way round.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not onednn_multiplies(inputs):
            return super().forward(inputs)
        return torch.addmm(self.bias[:, None], self.weight, inputs.t()).t()


class MLP(nn.Module):
    """Separate policy and value networks over flattened observations.

    Args:
        observation_shape: any shape; it is flattened.
        num_actions: size of the discrete action space.
        hidden_sizes: width of each hidden layer.
    """

    def __init__(
        self, observation_shape: Sequence[int], num_actions: int, hidden_sizes: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__()
        sizes = [math.prod(observation_shape), *hidden_sizes]

        def tower(outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = [nn.Flatten()]
            for inputs, width in pairwise(sizes):
                layers += [nn.Linear(inputs, width), nn.Tanh()]
            return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

        self.policy = tower(num_actions)
        self.value = tower(1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Any real [B, *observation_shape] → logits float32 [B, A], values float32 [B]."""
        observations = observations.float()
        return self.policy(observations), self.value(observations).squeeze(1)


def orthogonal_init(net: nn.Module) -> None:
    """Orthogonal weights with gain √2 and zero biases; output layers of `policy` and `value`
    get gains 0.01 and 1, so that training starts near the uniform policy (Engstrom et al. 2020).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, gain in (("policy", 0.01), ("value", 1.0)):
        head = getattr(net, name, None)
        outputs = [m for m in head.modules() if isinstance(m, nn.Linear)] if isinstance(head, nn.Module) else []
        if outputs:
            nn.init.orthogonal_(outputs[-1].weight, gain)


def build_network(
    observation_shape: Sequence[int],
    num_actions: int,
    network: dict[str, Any] | nn.Module | None = None,
    observation_dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """The network for these spaces, checked to fit them.

    Args:
        observation_shape: of one observation.
        num_actions: size of the discrete action space.
        network: None chooses `AtariA2C` for images and `MLP` otherwise; a dict
            `{"class_path": "package.Class", "init_args": {...}}` is built with the shape and the
            number of actions as first arguments; a ready module is taken as it is. Workers compute
            with it in evaluation mode, on weights they share: there it must not change its
            parameters or buffers.
        observation_dtype: of what the network will be given.

    Raises:
        ValueError: the class cannot be found or built, or the network does not fit or cannot be copied.
    """
    if isinstance(network, nn.Module):
        net = network
    elif network is None:
        net = (MLP if _channel_axis(observation_shape) is None else AtariA2C)(observation_shape, num_actions)
    else:
        net = instantiate(network, tuple(observation_shape), num_actions)
    _check_outputs(net, torch.zeros(2, *observation_shape, dtype=observation_dtype), num_actions)
    _check_copy(net)
    return net


def instantiate(spec: dict[str, Any], *args: Any) -> Any:
    """Build `{"class_path": …, "init_args": {…}}` with `args` as its first arguments."""
    class_path, init_args = spec.get("class_path"), spec.get("init_args") or {}
    try:
        module, _, name = str(class_path).rpartition(".")
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"class_path {class_path!r} cannot be imported: {error}") from error
    try:
        return factory(*args, **init_args)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{class_path} cannot be built with init_args {init_args}: {error}") from error


def device_of(net: nn.Module) -> torch.device:
    """Where its parameters lie; the CPU if it has none."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


def _channel_axis(observation_shape: Sequence[int]) -> Literal[0, 2] | None:
    """Where the channels of an image of at least 36 × 36 are; None for what is none."""
    if len(observation_shape) != 3:
        return None
    if min(observation_shape[1:]) >= 36:
        return 0
    return 2 if min(observation_shape[:2]) >= 36 else None


def _check_outputs(net: nn.Module, observations: Tensor, num_actions: int) -> None:
    try:
        with torch.no_grad():
            outputs = net(observations.to(device_of(net)))
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise TypeError(f"it returns {type(outputs).__name__}, not a pair")
        logits_shape, values_shape = (tuple(output.shape) for output in outputs)
    except Exception as error:  # whatever a user's network raises
        dtype = str(observations.dtype).removeprefix("torch.")
        shape = ", ".join(map(str, ("B", *observations.shape[1:])))
        way_out = "" if observations.is_floating_point() else "; observations.float() makes float32 of them"
        raise ValueError(
            f"network {type(net).__name__} does not turn {dtype} observations [{shape}] into (logits, values): "
            f"{error}{way_out}"
        ) from error
    if logits_shape != (2, num_actions) or values_shape != (2,):
        raise ValueError(
            f"network {type(net).__name__} gives logits {logits_shape} and values {values_shape} "
            f"for 2 observations; the action space needs (2, {num_actions}) and (2,)"
        )


def _check_copy(net: nn.Module) -> None:
    try:
        copy.deepcopy(net)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"network {type(net).__name__} cannot be copied, as workers need it: {error}; keep what cannot be copied "
            "out of the network"
        ) from error
