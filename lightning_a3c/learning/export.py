"""A network as an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_a3c.rl.agent_network import Observations
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.network_checks import evaluating
from lightning_a3c.system.files import atomic_write


def export_onnx(net: nn.Module, path: str | Path, observations: Observations, memory: Memory | None = None) -> None:
    """Write `net`, which maps observations to parameters of the action distribution and values.

    A network with memory also maps `state` [B, H] and `starts` [B] to `next_state` [B, H], one step at a time.

    Args:
        net: each part of it is left in the mode, training or evaluation, that it is in.
        path: replaced once the file is whole.
        observations: [B >= 2, ...], an example on the network's device; any batch size will do later.
        memory: an example of it; None for a network without.

    Raises:
        ModuleNotFoundError: the packages onnx or onnxscript are missing.
        NotWritable: `path` cannot be written.
    """
    first: dict[int, Any] = {0: torch.export.Dim("batch")}
    is_one_array = not isinstance(observations, Mapping)
    sizes: Any = first if is_one_array else dict.fromkeys(observations, first)
    names = ["observations"] if is_one_array else [name or "observations" for name in observations]
    inputs: tuple[Any, ...] = (observations, *(memory or ()))
    exported = net if memory is None else _OneStep(net)
    with evaluating(exported), atomic_write(path) as partial, warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")  # but for the first part
        torch.onnx.export(
            exported,
            (*inputs, {}),  # a dict that stands last would be taken as keyword arguments
            str(partial),
            input_names=names if memory is None else [*names, "state", "starts"],
            output_names=["logits", "values"] if memory is None else ["logits", "values", "next_state"],
            dynamic_shapes=(sizes, *(first for _ in memory or ())),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


class _OneStep(nn.Module):
    """A network with memory for one step: no axis of time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, observations: Any, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(observations, Mapping):
            observations = {name: part.unsqueeze(1) for name, part in observations.items()}
        else:
            observations = observations.unsqueeze(1)
        parameters, values, state = self.net(observations, state, starts.unsqueeze(1))
        return parameters[:, 0], values[:, 0], state
