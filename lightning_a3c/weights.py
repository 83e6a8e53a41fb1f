"""The learner's weights where every worker reads them, with a version number.

Knows nothing of who trains.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_a3c.shared_tensors import SharedTensors

_Result = TypeVar("_Result")


class SharedWeights:
    """A versioned snapshot of a network's parameters and buffers in shared memory, and of which are being trained.

    One process publishes, any number read, and nobody waits: the two newest snapshots are kept. Versions count
    publications, the first being 1.

    Args:
        net: its tensors' shapes and dtypes are taken; nothing is published yet.
        context: the multiprocessing context of the processes that will share it.
    """

    def __init__(self, net: nn.Module, context: BaseContext) -> None:
        templates = _tensors(net)
        self._shapes = [tensor.shape for tensor in templates]
        counters = torch.zeros(3, dtype=torch.int64)  # newest version, version begun in snapshot 0, in snapshot 1
        trained = torch.zeros(2, len(templates), dtype=torch.bool)  # which tensors of either snapshot require gradients
        self._shared = SharedTensors([counters, trained, *templates, *templates], context)

    @property
    def version(self) -> int:
        """The newest complete version; 0 before the first publication."""
        return int(self._shared.tensors[0][0])

    def publish(self, net: nn.Module) -> int:
        """Copy the state of `net`, on whatever device and of whatever dtype, into the older snapshot.

        Returns:
            Its version.

        Raises:
            ValueError: its parameters and buffers are not those of the network that this was made for.
        """
        tensors = _tensors(net)
        if [tensor.shape for tensor in tensors] != self._shapes:
            raise ValueError(
                f"network {type(net).__name__} has other parameters or buffers than when training began, "
                f"{len(tensors)} instead of {len(self._shapes)} or others in shape; workers cannot follow: freeze and "
                "unfreeze parameters instead, and add or replace them between two fits"
            )
        version = self.version + 1
        counters, trained = self._shared.tensors[:2]
        counters[1 + version % 2] = version
        trained[version % 2] = torch.tensor([tensor.requires_grad for tensor in tensors])
        for shared, own in zip(self._snapshot(version), tensors, strict=True):
            shared.copy_(own.detach())
        counters[0] = version
        return version

    def attach(self, net: nn.Module, version: int) -> None:
        """Make the tensors of `net` those of the snapshot that `version` is or will be in; its own are let go."""
        for own, shared in zip(_tensors(net), self._snapshot(version), strict=True):
            own.data = shared

    def mark_trained(self, net: nn.Module, version: int) -> None:
        """Let those tensors of `net` require gradients that do in the snapshot of `version`, and no others."""
        for own, is_trained in zip(_tensors(net), self._shared.tensors[1][version % 2].tolist(), strict=True):
            if own.requires_grad != is_trained:
                own.requires_grad_(is_trained)

    def holds(self, version: int) -> bool:
        """Whether no later version has been begun in the snapshot of `version`."""
        return int(self._shared.tensors[0][1 + version % 2]) == version

    def _snapshot(self, version: int) -> list[Tensor]:
        start = 2 + (version % 2) * len(self._shapes)
        return self._shared.tensors[start : start + len(self._shapes)]


class LiveNetwork(nn.Module):
    """The newest published network, computing where its weights lie: no process has a copy of its own.

    A result is void if the snapshot it came from was overwritten meanwhile, which takes two publications; it is
    then computed again, so none ever comes of half-written weights.

    Args:
        weights: one version must be published before anything is computed.
        net: the architecture, in the snapshots' dtypes. It must not write to its parameters or buffers.
    """

    def __init__(self, weights: SharedWeights, net: nn.Module) -> None:
        super().__init__()
        self.network_name = type(net).__name__
        self._weights = weights
        self._nets = nn.ModuleList([net, copy.deepcopy(net)])
        self._marked = [0, 0]  # the version of each whose trained parameters are known
        for version, twin in enumerate(self._nets):
            weights.attach(twin, version)

    def forward(self, observations: Tensor) -> Any:
        return self.compute(lambda net, _: net(observations))

    def compute(self, function: Callable[[nn.Module, int], _Result]) -> _Result:
        """What `function` makes of the newest network and its version; called again if they did not last."""
        while True:
            version = self._weights.version
            net = self._nets[version % 2]
            if self._marked[version % 2] != version:
                self._weights.mark_trained(net, version)
                self._marked[version % 2] = version
            result = function(net, version)
            if self._weights.holds(version):
                return result


class CopiedNetwork(nn.Module):
    """The newest published network on another device than the CPU, where this process needs a copy of its own.

    The copy is renewed before computing, if something newer has been published.

    Args:
        weights: one version must be published before anything is computed.
        net: the architecture, in the snapshots' dtypes.
        device: where the copy lies.
    """

    def __init__(self, weights: SharedWeights, net: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network_name = type(net).__name__
        self._weights = weights
        self._version = 0  # of the copy
        self._read = LiveNetwork(weights, net).compute
        self._net = copy.deepcopy(net).to(device)

    def forward(self, observations: Tensor) -> Any:
        return self.compute(lambda net, _: net(observations))

    def compute(self, function: Callable[[nn.Module, int], _Result]) -> _Result:
        """What `function` makes of the newest network and its version."""
        if self._version != self._weights.version:
            self._version = self._read(self._renew)
        return function(self._net, self._version)

    def _renew(self, newest: nn.Module, version: int) -> int:
        for own, shared in zip(_tensors(self._net), _tensors(newest), strict=True):
            own.data.copy_(shared.detach())
            own.requires_grad_(shared.requires_grad)
        return version


def newest_network(weights: SharedWeights, net: nn.Module, device: torch.device) -> LiveNetwork | CopiedNetwork:
    """The published network for computing on `device`."""
    return LiveNetwork(weights, net) if device.type == "cpu" else CopiedNetwork(weights, net, device)


def drop_weights(net: nn.Module) -> None:
    """Leave only the architecture, for `SharedWeights.attach` to complete."""
    for tensor in _tensors(net):
        tensor.data = tensor.data.new_empty(0)


def _tensors(net: nn.Module) -> list[Tensor]:
    # by position, not by name: wrappers such as torch.compile rename them; and not from `state_dict`, which leaves
    # buffers out that are not for checkpoints, and has what are no tensors
    return [*net.parameters(), *net.buffers()]
