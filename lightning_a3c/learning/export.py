"""A LightningModule's network as an ONNX file."""

from __future__ import annotations

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
    sizes: Any = dict.fromkeys(observations, first) if isinstance(observations, Mapping) else first
    with evaluating(module), atomic_write(path) as partial:
        module.to_onnx(
            partial,
            (observations,),
            input_names=list(observations) if isinstance(observations, Mapping) else ["observations"],
            output_names=["logits", "values"],
            dynamic_shapes=(sizes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
