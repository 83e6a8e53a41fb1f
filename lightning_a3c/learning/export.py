"""A LightningModule's network as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_a3c.rl.network_checks import evaluating
from lightning_a3c.system.files import atomic_write


def export_onnx(module: pl.LightningModule, path: str | Path, observations: Tensor) -> None:
    """Write `module`, which maps observations to logits and values, as it is in evaluation.

    Args:
        module: each part of it is left in the mode, training or evaluation, that it is in.
        path: replaced once the file is whole.
        observations: [B >= 2, ...], an example on the module's device; any batch size will do later.

    Raises:
        ModuleNotFoundError: the packages onnx or onnxscript are missing.
        NotWritable: `path` cannot be written.
    """
    with evaluating(module), atomic_write(path) as partial:
        module.to_onnx(
            partial,
            observations,
            input_names=["observations"],
            output_names=["logits", "values"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
