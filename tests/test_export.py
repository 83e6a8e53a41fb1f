"""Networks as ONNX files."""

from contextlib import closing
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig
from tests.small_runs import serial_data


@pytest.mark.parametrize(
    ("env", "names"),
    [
        (EnvConfig("Blackjack-v1", num_envs=2), {"0", "1", "2"}),
        (EnvConfig("Taxi-v4", num_envs=2, action_mask="info"), {"observations", "action_mask"}),
    ],
)
def test_observations_of_several_parts_go_in_by_part(env: EnvConfig, names: set[str], tmp_path: Path) -> None:
    data = CollectorDataModule(env, num_workers=0)
    module = A3CModule.for_data(data)
    module.export_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert {given.name for given in session.get_inputs()} == names
    with closing(data.dataset(module.net)) as stream:
        packed = next(iter(stream)).payload.observations
    parts = module.net.unpack(packed)
    inputs = {name or "observations": part.numpy() for name, part in parts.items()}
    logits, values = session.run(["logits", "values"], inputs)
    expected_logits, expected_values = module(packed)
    np.testing.assert_allclose(logits, expected_logits.detach(), atol=1e-4)
    np.testing.assert_allclose(values, expected_values.detach(), atol=1e-4)


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
