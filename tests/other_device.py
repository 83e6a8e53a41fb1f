"""A device other than the CPU where there is none: it computes on the CPU but keeps tensors apart as a GPU does.

Within `OtherDevice` tensors that are moved to or made on `OTHER` say so, and computing with one of them and one of
the CPU's raises, scalars excepted. It tells nothing of a GPU's speed, memory or kernels.
"""

from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

OTHER = torch.device("ipu:0")  # a name that PyTorch knows, and has no kernels for

_MOVES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
_INDEXES = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}  # take indices from the CPU on GPUs too


class OtherTensor(torch.Tensor):
    """A tensor on `OTHER`; `held` is what it is on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OtherTensor":
        tensor: OtherTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        tensor.held = held
        return tensor

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return OTHER

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OtherTensor({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run `func` on what the tensors hold, and put the result where a GPU would put it."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_other = [leaf for leaf in leaves if isinstance(leaf, OtherTensor)]
    on_cpu = [leaf for leaf in leaves if not isinstance(leaf, OtherTensor)]
    if on_other and func not in _MOVES | _INDEXES and any(leaf.dim() for leaf in on_cpu):
        raise RuntimeError(f"{func} expected all tensors to be on the same device, but found {OTHER} and cpu")
    wanted = kwargs.get("device")
    # autograd takes the wrapper for a meta tensor, and asks for more of them
    is_other = bool(on_other) if wanted is None else torch.device(wanted).type in (OTHER.type, "meta")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, OtherTensor) else x, (args, kwargs))
    result = func(*held_args, **held_kwargs)
    if func._schema.is_mutable:
        return args[0] if func._schema.returns else None
    return tree_map(lambda x: OtherTensor(x) if isinstance(x, torch.Tensor) else x, result) if is_other else result


class _Moves(TorchFunctionMode):
    """`torch.tensor` makes its tensor where it is wanted past any dispatch mode; here it is moved there instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == OTHER.type:
            return func(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        return func(*args, **kwargs)


class OtherDevice(TorchDispatchMode):
    """Where `OTHER` exists."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __enter__(self) -> Any:
        self._moves = _Moves()
        self._moves.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._moves.__exit__(*exception)


class OtherAccelerator(CPUAccelerator):
    """Has Lightning train on `OTHER`."""

    def setup_device(self, device: torch.device) -> None:
        assert device == OTHER

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [OTHER] * devices
