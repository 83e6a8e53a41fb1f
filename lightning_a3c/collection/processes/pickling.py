"""Pickling networks for other processes, with what their scripts define and how they are parametrized."""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle
import torch
from torch import nn
from torch.nn.utils import parametrize


def dumps(value: Any) -> bytes:
    """`value` pickled by `cloudpickle`, which loads it too.

    PyTorch refuses to pickle parametrized modules, such as `nn.utils.parametrizations.spectral_norm` makes, since their
    classes are made at run time. They are made again where they are loaded.

    Raises:
        TypeError, RuntimeError, PicklingError: something of it cannot be pickled.
    """
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def unpicklable(net: nn.Module) -> str | None:
    """Where in `net` the innermost module is that cannot be pickled, and of what class; None if all can."""
    for name, child in net.named_children():
        found = unpicklable(child)
        if found is not None:
            return f"{name}.{found}" if found[0] != "(" else f"{name} {found}"
    try:
        dumps(net)
    except (TypeError, RuntimeError, pickle.PicklingError):
        return f"({type(net).__name__})"
    return None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, nn.Module) and parametrize.is_parametrized(obj):
            names = list(obj.parametrizations)  # type: ignore[arg-type]
            return _parametrized, (parametrize.type_before_parametrizations(obj), names), vars(obj)
        return super().reducer_override(obj)


def _parametrized(cls: type[nn.Module], names: list[str]) -> nn.Module:
    """An empty module of a class whose tensors `names` are computed by the parametrizations that it will be given."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(module, name, nn.Identity(), unsafe=True)
    return module
