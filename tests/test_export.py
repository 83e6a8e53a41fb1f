"""Networks as ONNX files."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule
from tests.small_runs import serial_data


@pytest.mark.parametrize("env_id", ["CartPole-v1", "PongNoFrameskip-v4"])
def test_an_exported_network_gives_equal_outputs_in_onnxruntime(env_id: str, tmp_path: Path) -> None:
    module = A3CModule.for_data(serial_data(env_id))
    path = tmp_path / "net.onnx"
    module.export_onnx(path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(path)
    shape = module.hparams["observation_shape"]
    for batch in (1, 5):
        observations = (torch.rand(batch, *shape) * 255).to(torch.uint8 if len(shape) == 3 else torch.float32)
        logits, values = session.run(["logits", "values"], {"observations": observations.numpy()})
        expected_logits, expected_values = module(observations)
        np.testing.assert_allclose(logits, expected_logits.detach(), atol=1e-4)
        np.testing.assert_allclose(values, expected_values.detach(), atol=1e-4)
