"""Actor-critic networks: observations in, (logits [B, A], values [B]) out. Know no loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_a3c.rl.network_checks import check_network
from lightning_a3c.system.processor import onednn_multiplies

NetworkFactory = Callable[[tuple[int, ...], int], nn.Module]
"""Builds a network from the shape of one observation and the number of actions."""

Bounds = tuple[float, float]
"""Lowest and highest value shared by all elements of an observation; infinite if they share none."""

_BYTES: Bounds = (0, 255)


class AtariA2C(nn.Module):
    """Three convolutions, then separate policy and value heads (conv stack of Mnih et al. 2015).

    Args:
        observation_shape: (channels, 84, 84), or any (channels, height, width) or (height, width, channels) of at
            least 36 × 36.
        num_actions: outputs of the policy: one for each discrete action, one mean for each Box component.
        widths: output channels of each convolution.
        hidden_size: width of each head's hidden layer.
        background: the commonest value of the images, such as the grey level behind a game, in the observations'
            own units; the network subtracts it from its inputs. A constant non-zero background gives all weights of
            a filter the same gradient. An optimizer that normalises each weight's step then moves them together, until
            the filter is off or saturated everywhere (centred inputs: LeCun et al. 1998, Efficient BackProp, section
            4.3).
        observation_bounds: see `input_scale`; None stands for 0 … 255.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        widths: Sequence[int] = (32, 64, 64),
        hidden_size: int = 512,
        background: float = 0,
        observation_bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        axis = channel_axis(observation_shape)
        if axis is None:
            raise ValueError(
                f"AtariA2C needs observations (channels, height, width), or channels last, of at least 36 × 36, "
                f"got {tuple(observation_shape)}; use lightning_a3c.rl.networks.MLP for vectors"
            )
        if len(widths) != 3 or min(*widths, hidden_size) < 1:
            raise ValueError(
                f"AtariA2C needs three widths and a hidden_size of at least 1, got {list(widths)} and {hidden_size}"
            )
        low, high = observation_bounds or _BYTES
        if not low <= background <= high:
            raise ValueError(f"AtariA2C's background must be a grey level in {low:g} … {high:g}, got {background}")
        self.background = background
        self.set_bounds(observation_bounds)
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

    def set_bounds(self, observation_bounds: Bounds | None) -> None:
        """Scale observations for these bounds from now on."""
        self.scale = input_scale(observation_bounds or _BYTES)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Any real [B, *observation_shape] → logits [B, A], values [B], in the weights' or autocast's dtype."""
        # permute while the pixels are bytes, then convert them once, to the dtype of the convolutions
        pixels = self._channels_first(observations).to(self._compute_dtype, copy=True).mul_(self.scale)
        if self.background:
            pixels -= self.background * self.scale
        features = self.features(pixels)
        return self.policy(features), self.value(features).squeeze(1)

    def _channels_first(self, observations: Tensor) -> Tensor:
        """[B, C, H, W] that is stored as [B, H, W, C]."""
        if not self._channels_last:
            observations = torch.stack(observations.unbind(1), dim=-1)  # faster than `contiguous`
        return observations.permute(0, 3, 1, 2)

    @property
    def _compute_dtype(self) -> torch.dtype:
        weight = next(self.parameters())
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


class _WideLinear(nn.Linear):
    """A linear layer, [B, in_features] → [B, out_features], with many more weights than inputs and outputs.

    oneDNN repacks the right factor of a product at every call, so the weights go on the left. With MKL the usual order
    is faster.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not onednn_multiplies(inputs):
            return super().forward(inputs)
        return torch.addmm(self.bias[:, None], self.weight, inputs.t()).t()


class MLP(nn.Module):
    """Separate policy and value networks over flattened observations.

    Args:
        observation_shape: any shape; it is flattened.
        num_actions: outputs of the policy: one for each discrete action, one mean for each Box component.
        hidden_sizes: width of each hidden layer.
        observation_bounds: see `input_scale`; None leaves observations as they are.
        activation: name of a class in `torch.nn`.
        layer_norm: normalise the inputs of each activation.
        shared: one trunk for policy and value, instead of one each.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        hidden_sizes: Sequence[int] = (64, 64),
        observation_bounds: Bounds | None = None,
        activation: str = "Tanh",
        layer_norm: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.set_bounds(observation_bounds)
        sizes = [math.prod(observation_shape), *hidden_sizes]
        make_activation = getattr(nn, activation, None)
        if make_activation is None:
            raise ValueError(f"MLP's activation must be the name of a class in torch.nn, got {activation!r}")

        def trunk() -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Flatten()]
            for inputs, width in pairwise(sizes):
                layers += [nn.Linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), make_activation()]
            return layers

        def tower(outputs: int) -> nn.Sequential:
            return nn.Sequential(*([] if shared else trunk()), nn.Linear(sizes[-1], outputs))

        self.trunk = nn.Sequential(*trunk()) if shared else None
        self.policy = tower(num_actions)
        self.value = tower(1)

    def set_bounds(self, observation_bounds: Bounds | None) -> None:
        """Scale observations for these bounds from now on."""
        self.scale = input_scale(observation_bounds or (-math.inf, math.inf))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Any real [B, *observation_shape] → logits float32 [B, A], values float32 [B]."""
        observations = observations.float()
        if self.scale != 1:
            observations = observations * self.scale
        if self.trunk is not None:
            observations = self.trunk(observations)
        return self.policy(observations), self.value(observations).squeeze(1)


def input_scale(observation_bounds: Bounds) -> float:
    """Factor that scales observations within these bounds to −1 … 1; 1 for infinite bounds.

    Bytes (0 … 255) are divided by 256, which is exact, instead of by 255.
    """
    if tuple(observation_bounds) == _BYTES:
        return 1 / 256
    largest = max(map(abs, observation_bounds))
    return 1 / largest if 0 < largest < math.inf else 1.0


def orthogonal_init(net: nn.Module) -> None:
    """Orthogonal weights with gain √2 and zero biases.

    The output layers of `policy` and `value` get gains 0.01 and 1, so that training starts near the uniform policy
    (Engstrom et al. 2020).
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
    observation_shape: Sequence[int] | Mapping[str, Sequence[int]],
    num_actions: int,
    network: dict[str, Any] | nn.Module | NetworkFactory | None = None,
    observation_dtype: torch.dtype | Mapping[str, torch.dtype] = torch.float32,
    observation_bounds: Bounds | None = None,
) -> nn.Module:
    """Build the network for these spaces, or take a ready one, and check that it fits.

    Args:
        observation_shape: shape of one observation.
        num_actions: outputs of the policy: one for each discrete action, one mean for each Box component.
        network: None chooses `AtariA2C` for images and `MLP` otherwise. A class or function, or a dict
            `{"class_path": "package.Class", "init_args": {...}}` that names one, is called with the shape and the
            number of actions as first arguments. A module is taken as it is. Workers share its weights and compute
            in evaluation mode, in which it must not change its parameters or buffers or keep other state.
        observation_dtype: dtype of the network's inputs.
        observation_bounds: bounds of the network's inputs; infinite if the elements share none, None if unknown. A
            class or function with an argument of this name gets them too, unless it or `init_args` sets the argument.

    Raises:
        ValueError: the class cannot be found or built, or `check_network` refuses the network.
    """
    shape: Any = observation_shape if isinstance(observation_shape, Mapping) else tuple(observation_shape)
    net = network if isinstance(network, nn.Module) else _built(shape, num_actions, network, observation_bounds)
    check_network(net, shape, num_actions, observation_dtype, observation_bounds)
    return net


def class_path_of(factory: Callable[..., Any]) -> str | None:
    """The import path of `factory`; None if it has none, as inside a function."""
    class_path = f"{getattr(factory, '__module__', None)}.{getattr(factory, '__qualname__', None)}"
    try:
        return class_path if _imported(class_path) is factory else None
    except ValueError:
        return None


def instantiate(spec: dict[str, Any], *args: Any) -> Any:
    """Build `{"class_path": …, "init_args": {…}}` with `args` as the first arguments."""
    class_path, init_args = spec.get("class_path"), spec.get("init_args") or {}
    return _call(_imported(class_path), args, init_args, str(class_path))


def channel_axis(observation_shape: Sequence[int], least: int = 36) -> Literal[0, 2] | None:
    """Where the channels of an image of at least `least` × `least` are; None for other shapes."""
    if len(observation_shape) != 3:
        return None
    if min(observation_shape[1:]) >= least:
        return 0
    return 2 if min(observation_shape[:2]) >= least else None


def _default_factory(shape: Any) -> Any:
    from lightning_a3c.rl import image_networks  # imports this module

    if isinstance(shape, Mapping):
        return image_networks.DictNetwork
    if channel_axis(shape) is not None:
        return AtariA2C
    return image_networks.SmallImageNetwork if channel_axis(shape, 3) is not None else MLP


def _built(shape: Any, num_actions: int, network: Any, observation_bounds: Bounds | None) -> nn.Module:
    init_args: dict[str, Any] = {}
    if network is None:
        factory: Any = _default_factory(shape)
    elif isinstance(network, dict):
        factory, init_args = _imported(network.get("class_path")), network.get("init_args") or {}
    elif callable(network):
        factory = network
    else:
        raise ValueError(
            "network must be None, a torch.nn.Module, a class or function that makes one from the observation shape "
            f'and the number of actions, or {{"class_path": "package.Class"}} that names it, got {network!r}'
        )
    name = network["class_path"] if isinstance(network, dict) else getattr(factory, "__qualname__", repr(factory))
    bounds = {"observation_bounds": observation_bounds}
    takes_bounds = observation_bounds is not None and _is_unset(factory, "observation_bounds", init_args)
    net = _call(factory, (shape, num_actions), init_args | (bounds if takes_bounds else {}), name)
    if not isinstance(net, nn.Module):
        raise ValueError(f"network {name} must make a torch.nn.Module, got {type(net).__name__}")
    return net


def _imported(class_path: Any) -> Any:
    try:
        module, _, name = str(class_path).rpartition(".")
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"class_path {class_path!r} cannot be imported: {error}") from error


def _call(factory: Callable[..., Any], args: Sequence[Any], init_args: dict[str, Any], name: str) -> Any:
    try:
        return factory(*args, **init_args)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be built with init_args {init_args}: {error}") from error


def _is_unset(factory: Callable[..., Any], name: str, init_args: dict[str, Any]) -> bool:
    """Whether `factory` has an argument `name` that neither `init_args` nor its default sets."""
    try:
        parameter = inspect.signature(factory).parameters.get(name)
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    return parameter is not None and parameter.default in (None, parameter.empty) and init_args.get(name) is None
