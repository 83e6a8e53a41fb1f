"""A3C and A2C for PyTorch Lightning and Gymnasium, data-parallel and gradient-parallel.

Names are imported when they are asked for: collectors, which import a part of this package, do without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_a3c.atari import AtariConfig
    from lightning_a3c.callbacks import GradientParallel, StopAfterEnvSteps, StopOnSignal, StopWhenSolved
    from lightning_a3c.data import CollectorDataModule
    from lightning_a3c.dataset import CollectorDataset
    from lightning_a3c.envs import EnvConfig
    from lightning_a3c.module import A3CModule
    from lightning_a3c.precision import AutoPrecision
    from lightning_a3c.progress_bar import ProgressLines, RunProgressBar
    from lightning_a3c.recording import RecordVideo, SaveTestResults, WritePredictions
    from lightning_a3c.supervision import Supervision

from lightning_a3c.version import __version__

__all__ = [
    "A3CModule",
    "AtariConfig",
    "AutoPrecision",
    "CollectorDataModule",
    "CollectorDataset",
    "EnvConfig",
    "GradientParallel",
    "ProgressLines",
    "RecordVideo",
    "RunProgressBar",
    "SaveTestResults",
    "StopAfterEnvSteps",
    "StopOnSignal",
    "StopWhenSolved",
    "Supervision",
    "WritePredictions",
    "__version__",
]

_HOMES = {
    "A3CModule": "module",
    "AtariConfig": "atari",
    "AutoPrecision": "precision",
    "CollectorDataModule": "data",
    "CollectorDataset": "dataset",
    "EnvConfig": "envs",
    "GradientParallel": "callbacks",
    "ProgressLines": "progress_bar",
    "RecordVideo": "recording",
    "RunProgressBar": "progress_bar",
    "SaveTestResults": "recording",
    "StopAfterEnvSteps": "callbacks",
    "StopOnSignal": "callbacks",
    "StopWhenSolved": "callbacks",
    "Supervision": "supervision",
    "WritePredictions": "recording",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
