"""The learner's weights in shared memory, versioned. Knows nothing of who trains."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_a3c.collection.shared_tensors import SharedTensors

_KEEPS_STORE_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_HEADER = 3  # shared tensors before the snapshots
_LOCK_SECONDS = 1.0  # nobody holds the lock for a millisecond unless it was killed while holding it


class SharedWeights:
    """Versioned snapshots of a network's parameters and buffers in shared memory.

    One process publishes, any number read, and nobody waits for anybody: the two newest snapshots are kept. Versions
    count publications, starting at 1. Each snapshot also says which tensors are being trained.

    Readers must see a version's weights no later than its number. x86 processors keep the order of stores and of
    loads. Others, such as ARM, do not, so there a lock orders the accesses to the version numbers; it is held for
    these only, never while weights are copied or computed with.

    Args:
        net: supplies shapes and dtypes; nothing is published yet.
        context: the multiprocessing context of the processes that share the weights.
        keeps_store_order: whether the processor does; by default decided by its name.
    """

    def __init__(self, net: nn.Module, context: BaseContext, keeps_store_order: bool = _KEEPS_STORE_ORDER) -> None:
        templates = tensors_of(net)
        self.shapes = [tensor.shape for tensor in templates]
        """Those of a snapshot's parameters and buffers."""
        versions = torch.zeros(3, dtype=torch.int64)  # newest complete, begun in snapshot 0, begun in snapshot 1
        trained = torch.zeros(2, len(templates), dtype=torch.bool)  # per snapshot: which tensors require gradients
        numbers = torch.zeros(2, dtype=torch.int64)  # per snapshot: what readers call its version
        self._shared = SharedTensors([versions, trained, numbers, *templates, *templates], context)
        self._versions = self._shared.tensors[0].numpy()  # the same memory, faster to read
        self._order: AbstractContextManager[Any] = nullcontext() if keeps_store_order else _Lock(context)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._versions = self._shared.tensors[0].numpy()

    @property
    def version(self) -> int:
        """The newest complete version; 0 before the first publication."""
        with self._order:
            return int(self._versions[0])

    def publish(self, net: nn.Module) -> int:
        """Copy the state of `net`, on any device and of any dtype, into the older snapshot.

        Returns:
            Its version.

        Raises:
            ValueError: the parameters and buffers differ from those of the network given at construction.
        """
        tensors = _tensors_like(net, self.shapes)

        def copy_in(snapshot: list[Tensor]) -> None:
            for shared, own in zip(snapshot, tensors, strict=True):
                shared.copy_(own.detach())

        return self._publish(copy_in, [tensor.requires_grad for tensor in tensors])

    def publish_arrays(self, arrays: Sequence[np.ndarray], trained: Sequence[bool], number: int) -> None:
        """Copy what `arrays_of` made of a network into the older snapshot.

        Args:
            arrays: of a network like that given at construction, with its dtypes.
            trained: which of them are being trained.
            number: what readers are to call this version. They get numbers of another process this way, which need
                not follow each other.
        """

        def copy_in(snapshot: list[Tensor]) -> None:
            for shared, array in zip(snapshot, arrays, strict=True):
                np.copyto(_as_array(shared), array)

        self._publish(copy_in, trained, number)

    def _publish(
        self, copy_in: Callable[[list[Tensor]], None], trained: Sequence[bool], number: int | None = None
    ) -> int:
        version = self.version + 1
        _, marks, numbers = self._shared.tensors[:_HEADER]
        with self._order:
            self._versions[1 + version % 2] = version
        marks[version % 2] = torch.tensor(trained)
        numbers[version % 2] = version if number is None else number
        copy_in(self._snapshot(version))
        with self._order:
            self._versions[0] = version
        return version

    @torch.no_grad()
    def attach(self, net: nn.Module, version: int) -> None:
        """Make the tensors of `net` views of the snapshot that holds or will hold `version`; its own are released."""
        for own, shared in zip(tensors_of(net), self._snapshot(version), strict=True):
            own.set_(shared)  # type: ignore[call-overload]  # PyTorch's stubs lack the tensor form

    def number_of(self, version: int) -> int:
        """What readers call `version`; valid only while its snapshot is intact."""
        return int(self._shared.tensors[2][version % 2])

    def mark_trained(self, net: nn.Module, version: int) -> None:
        """Let exactly those tensors of `net` require gradients that do in the snapshot of `version`."""
        for own, is_trained in zip(tensors_of(net), self._shared.tensors[1][version % 2].tolist(), strict=True):
            if own.requires_grad != is_trained:
                own.requires_grad_(is_trained)

    def holds(self, version: int) -> bool:
        """Whether the snapshot of `version` is intact: no later version has been begun in it."""
        with self._order:
            return int(self._versions[1 + version % 2]) == version

    def _snapshot(self, version: int) -> list[Tensor]:
        first = _HEADER + (version % 2) * len(self.shapes)
        return self._shared.tensors[first : first + len(self.shapes)]


class _Lock:
    """A lock between processes that survives the death of its holder.

    What it protects is a single store or load, so the state is sound even if the holder died.
    """

    def __init__(self, context: BaseContext) -> None:
        self._lock = context.Lock()

    def __enter__(self) -> None:
        self._lock.acquire(timeout=_LOCK_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ValueError):  # another process released it for a holder that seemed dead
            self._lock.release()


@torch.no_grad()
def strip_weights(net: nn.Module) -> None:
    """Leave only the architecture, which `SharedWeights.attach` completes."""
    for tensor in tensors_of(net):
        tensor.set_(tensor.new_empty(0))  # type: ignore[call-overload]


def arrays_of(net: nn.Module, like: nn.Module) -> list[np.ndarray]:
    """The parameters and buffers of `net`, in the dtypes of `like`, for `SharedWeights.publish_arrays`.

    They are views of the network's own memory where its dtypes and device allow.

    Raises:
        ValueError: the networks have other parameters or buffers.
    """
    templates = tensors_of(like)
    tensors = _tensors_like(net, [template.shape for template in templates])
    return [_as_array(own.detach().to("cpu", template.dtype)) for own, template in zip(tensors, templates, strict=True)]


def trained_in(net: nn.Module) -> list[bool]:
    """Which of its parameters and buffers require gradients."""
    return [tensor.requires_grad for tensor in tensors_of(net)]


def _as_array(tensor: Tensor) -> np.ndarray:
    """A view; NumPy has no bfloat16, whose bits travel as those of integers."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _tensors_like(net: nn.Module, shapes: Sequence[torch.Size]) -> list[Tensor]:
    tensors = tensors_of(net)
    if [tensor.shape for tensor in tensors] != shapes:
        raise ValueError(
            f"network {type(net).__name__} has other parameters or buffers than when training began, "
            f"{len(tensors)} instead of {len(shapes)} or others in shape; workers cannot follow: freeze and "
            "unfreeze parameters instead, and add or replace them between two fits"
        )
    return tensors


def tensors_of(net: nn.Module) -> list[Tensor]:
    """Its parameters and buffers, in the order of a snapshot.

    By position, since wrappers such as `torch.compile` rename them. `state_dict` would leave out non-persistent
    buffers.
    """
    return [*net.parameters(), *net.buffers()]
