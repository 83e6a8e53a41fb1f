"""A3C and A2C for PyTorch Lightning and Gymnasium, data-parallel and gradient-parallel."""

from lightning_a3c.callbacks import GradientParallel, StopAfterEnvSteps, StopOnSignal, StopWhenSolved
from lightning_a3c.data import CollectorDataModule
from lightning_a3c.dataset import CollectorDataset
from lightning_a3c.envs import AtariConfig, EnvConfig
from lightning_a3c.module import A3CModule
from lightning_a3c.progress_bar import ProgressLines, RunProgressBar
from lightning_a3c.recording import RecordVideo, SaveTestResults, WritePredictions
from lightning_a3c.supervision import Supervision
from lightning_a3c.version import __version__

__all__ = [
    "A3CModule",
    "AtariConfig",
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
