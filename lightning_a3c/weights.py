"""The learner's weights where every worker can read them, with a version number.

Knows nothing of who trains.
"""

from __future__ import annotations

from multiprocessing.context import BaseContext

import torch
from torch import Tensor, nn

from lightning_a3c.shared_tensors import SharedTensors


class SharedWeights:
    """A versioned snapshot of a network's parameters and buffers in shared memory.

    One process publishes, any number pull, and nobody waits: the two newest snapshots are kept, so
    a reader is only disturbed if two publications happen while it copies; it then copies again and
    never acts on a half-written snapshot. Versions count publications, the first being 1.

    Args:
        net: its tensors' shapes and dtypes are taken; nothing is published yet.
        context: the multiprocessing context of the processes that will share it.
    """

    def __init__(self, net: nn.Module, context: BaseContext) -> None:
        templates = _state(net)
        self._count = len(templates)
        counters = torch.zeros(3, dtype=torch.int64)  # newest version, version begun in snapshot 0, in snapshot 1
        self._shared = SharedTensors([counters, *templates, *templates], context)

    @property
    def version(self) -> int:
        """The newest complete version; 0 before the first publication."""
        return int(self._shared.tensors[0][0])

    def publish(self, net: nn.Module) -> int:
        """Copy the state of `net`, on whatever device, into the older snapshot; returns its version."""
        version = self.version + 1
        counters = self._shared.tensors[0]
        counters[1 + version % 2] = version
        for shared, own in zip(self._snapshot(version), _state(net), strict=True):
            shared.copy_(own)
        counters[0] = version
        return version

    def pull(self, net: nn.Module, known_version: int = 0) -> int:
        """Copy the newest snapshot into `net` unless it is `known_version`; returns its version."""
        counters = self._shared.tensors[0]
        while True:
            version = self.version
            if version == known_version:
                return version
            for own, shared in zip(_state(net), self._snapshot(version), strict=True):
                own.copy_(shared)
            if counters[1 + version % 2] == version:
                return version

    def _snapshot(self, version: int) -> list[Tensor]:
        start = 1 + (version % 2) * self._count
        return self._shared.tensors[start : start + self._count]


def _state(net: nn.Module) -> list[Tensor]:
    # by position, not by name: wrappers such as torch.compile rename the entries
    return [tensor.detach() for tensor in net.state_dict().values()]
