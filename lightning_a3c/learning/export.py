"""A LightningModule's network as an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_a3c.rl.agent_network import Observations
from lightning_a3c.rl.network_checks import evaluating
from lightning_a3c.system.files import atomic_write


def export_onnx(module: pl.LightningModule, path: str | Path, observations: Observations) -> None:
    """Write `module`, which maps observations to parameters of the action distribution and values.

    Args:
        module: each part of it is left in the mode, training or evaluation, that it is in.
        path: replaced once the file is whole.
        observations: [B >= 2, ...], an example on the module's device; any batch size will do later.

    Raises:
        ModuleNotFoundError: the packages onnx or onnxscript are missing.
        NotWritable: `path` cannot be written.
    """
    first: dict[int, Any] = {0: torch.export.Dim("batch")}
    is_one_array = not isinstance(observations, Mapping)
    sizes: Any = first if is_one_array else dict.fromkeys(observations, first)
    names = ["observations"] if is_one_array else [name or "observations" for name in observations]
    with evaluating(module), atomic_write(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")  # but for the first part
        module.to_onnx(
            partial,
            (observations, {}),  # a dict that stands last would be taken as keyword arguments
            input_names=names,
            output_names=["logits", "values"],
            dynamic_shapes=(sizes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
