"""Networks that compute with the weights which the learner published last. Know nothing of who trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_a3c.collection.shared_weights import SharedWeights, tensors_of
from lightning_a3c.rl.memory import state_size_of

_Result = TypeVar("_Result")


class SharedNetwork(nn.Module):
    """The newest published network, computing on the shared snapshots: this process holds no weights of its own.

    If a snapshot is overwritten during a computation, which takes two publications, the computation is repeated. So no
    result comes from half-written weights.

    Args:
        weights: at least one version must be published before the first computation.
        net: the architecture, in the snapshots' dtypes. It must not write to its parameters or buffers.
    """

    def __init__(self, weights: SharedWeights, net: nn.Module) -> None:
        super().__init__()
        self.network_name = type(net).__name__
        self.action_spec = getattr(net, "action_spec", None)
        self.version = 0
        """The version that the last computation used."""
        self._weights = weights
        self._nets = nn.ModuleList([net, copy.deepcopy(net)])
        self._marked = [0, 0]  # per snapshot: the version whose trained tensors are marked
        self._numbers = [0, 0]  # per snapshot: what that version is called
        for version, twin in enumerate(self._nets):
            weights.attach(twin, version)
        self.state_size = state_size_of(net)

    def forward(self, *inputs: Tensor) -> Any:
        return self.compute(lambda net, _: net(*inputs))

    def compute(self, function: Callable[[nn.Module, int], _Result]) -> _Result:
        """`function` of the newest network and its version; called again if the snapshot did not last."""
        while True:
            version = self._weights.version
            net = self._nets[version % 2]
            if self._marked[version % 2] != version:
                self._weights.mark_trained(net, version)
                self._numbers[version % 2] = self._weights.number_of(version)
                self._marked[version % 2] = version
            number = self._numbers[version % 2]
            result = function(net, number)
            if self._weights.holds(version):
                if self.version != number:  # modules take microseconds to set an attribute
                    self.version = number
                return result


class DeviceNetwork(nn.Module):
    """The newest published network on a device other than the CPU: a copy, renewed before it computes.

    Args:
        weights: at least one version must be published before the first computation.
        net: the architecture, in the snapshots' dtypes.
        device: where the copy lies.
    """

    def __init__(self, weights: SharedWeights, net: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network_name = type(net).__name__
        self.action_spec = getattr(net, "action_spec", None)
        self.version = 0
        """The version of the copy."""
        self._weights = weights
        self._renewed_at = 0  # publications when the copy was last renewed
        self._read = SharedNetwork(weights, net).compute
        self._net = copy.deepcopy(net).to(device)
        self.state_size = state_size_of(self._net)

    def forward(self, *inputs: Tensor) -> Any:
        return self.compute(lambda net, _: net(*inputs))

    def compute(self, function: Callable[[nn.Module, int], _Result]) -> _Result:
        """`function` of the newest network and its version."""
        newest = self._weights.version
        if newest != self._renewed_at:
            self.version = self._read(self._renew)
            self._renewed_at = newest
        return function(self._net, self.version)

    @torch.no_grad()
    def _renew(self, newest: nn.Module, version: int) -> int:
        for own, shared in zip(tensors_of(self._net), tensors_of(newest), strict=True):
            own.copy_(shared)
            own.requires_grad_(shared.requires_grad)
        return version


class NewestRewardScale:
    """The factor for rewards in the newest version, computed once for each version.

    Args:
        net: computes with what `weights` holds.
        weights: says which version is the newest.
    """

    def __init__(self, net: SharedNetwork | DeviceNetwork, weights: SharedWeights) -> None:
        self._net = net
        self._weights = weights
        self._version = 0
        self._scale = 1.0

    def __call__(self) -> float:
        newest = self._weights.version
        if newest != self._version:
            self._scale = self._net.compute(lambda net, _: float(net.reward_scale))  # type: ignore[arg-type]
            self._version = newest
        return self._scale


def network_on(device: torch.device, weights: SharedWeights, net: nn.Module) -> SharedNetwork | DeviceNetwork:
    """The newest published network, computing on `device`."""
    return SharedNetwork(weights, net) if device.type == "cpu" else DeviceNetwork(weights, net, device)
