"""Observations to predict for come from a file that fits."""

from pathlib import Path

import numpy as np
import pytest
from lightning_fabric.utilities.exceptions import MisconfigurationException

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule
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
