"""Observations to predict for come from a file that fits."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

import tests.scripted
import tests.test_encoding  # noqa: F401  registers Nested-v0
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, WritePredictions
from tests.small_runs import serial_data, trainer


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 5), np.float32), r"holds float32 \(3, 5\); CartPole-v1 has observations float32 \(n, 4\)"),
        (np.zeros((3, 4), np.int64), r"holds int64 \(3, 4\); CartPole-v1 has observations float32 \(n, 4\)"),
        (np.array([{"code": "run me"}], dtype=object), "cannot be read as a NumPy file"),
    ],
)
def test_observations_that_do_not_fit_are_refused(content: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        serial_data(predict_observations=str(tmp_path / "o.npy"))


def test_a_cut_off_or_missing_file_of_observations_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((100, 4), np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "o.npy").read_bytes()[:500])
    for name in ("cut.npy", "no.npy"):
        with pytest.raises(ValueError, match=f"data.predict_observations .*{name} cannot be read as a NumPy file"):
            serial_data(predict_observations=str(tmp_path / name))


def test_predict_without_observations_says_what_is_missing(tmp_path: Path) -> None:
    stream = serial_data()
    with pytest.raises(MisconfigurationException, match=r"data.predict_observations is not set"):
        trainer(tmp_path).predict(A3CModule.for_data(stream), datamodule=stream)


def test_observations_of_several_parts_come_from_an_archive(tmp_path: Path) -> None:
    """As the environment gives them, and as `encode` does, they are predicted alike."""
    config = EnvConfig("Nested-v0", num_envs=2)
    env = gymnasium.make("Nested-v0")
    seen = [env.reset(seed=seed)[0] for seed in range(5)]
    np.savez(
        tmp_path / "parts.npz",
        **{
            "sight": np.stack([o["sight"] for o in seen]),
            "body.0": np.stack([o["body"][0] for o in seen]),
            "body.1.arm": np.stack([o["body"][1]["arm"] for o in seen]),
            "keys": np.stack([o["keys"] for o in seen]),
        },
    )
    module = A3CModule.for_data(CollectorDataModule(config, num_workers=0))
    encoded = torch.cat([module.encode(observation) for observation in seen])
    np.save(tmp_path / "encoded.npy", encoded.numpy())
    for name in ("parts.npz", "encoded.npy"):
        data = CollectorDataModule(config, num_workers=0, predict_observations=str(tmp_path / name))
        with pytest.warns(UserWarning, match="predict plays untrained weights"):
            trainer(tmp_path, WritePredictions()).predict(module, datamodule=data)
    of_parts, of_encoded = (np.load(tmp_path / f"{name}.predictions.npz") for name in ("parts", "encoded"))
    for field in of_parts.files:
        np.testing.assert_array_equal(of_parts[field], of_encoded[field])
    np.testing.assert_allclose(of_parts["values"], module.eval()(encoded)[1].detach(), rtol=1e-5)


def test_numbers_and_masks_come_as_the_environment_gives_them(tmp_path: Path) -> None:
    np.save(tmp_path / "tiles.npy", np.array([0, 3, 15]))
    assert serial_data("FrozenLake-v1", predict_observations=str(tmp_path / "tiles.npy")).num_predict_observations == 3
    np.savez(tmp_path / "taxi.npz", observations=[1, 499], action_mask=np.ones((2, 6), np.int8))
    taxi = EnvConfig("Taxi-v4", action_mask="info")
    assert CollectorDataModule(taxi, predict_observations=str(tmp_path / "taxi.npz")).num_predict_observations == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"observations": [1, 2]}, "holds the arrays observations; observations of Taxi-v4 are observations, action_m"),
        ({"observations": [1, 2], "action_mask": np.ones((3, 6))}, "different lengths"),
        ({"observations": [1, 500], "action_mask": np.ones((2, 6))}, "it is out of range"),
        ({"observations": [1.5, 2], "action_mask": np.ones((2, 6))}, "it is float64"),
        ({"observations": [1, 2], "action_mask": np.zeros((2, 6))}, "allows no action"),
        ({"observations": np.zeros(0, int), "action_mask": np.ones((0, 6))}, "holds no observations"),
        ({"observations": np.array([{}]), "action_mask": np.ones((1, 6))}, "cannot be read as a NumPy file"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", **arrays)
    with pytest.raises(ValueError, match=rf"data.predict_observations .*o.npz.*{message}"):
        CollectorDataModule(EnvConfig("Taxi-v4", action_mask="info"), predict_observations=str(tmp_path / "o.npz"))
