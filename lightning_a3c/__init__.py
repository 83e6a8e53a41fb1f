"""A3C and A2C for PyTorch Lightning and Gymnasium, data-parallel and gradient-parallel."""

from lightning_a3c.callbacks import GradientParallel, ProgressLines, StopAfterEnvSteps, StopWhenSolved
from lightning_a3c.data import CollectorDataModule, CollectorDataset
from lightning_a3c.envs import AtariConfig, EnvConfig
from lightning_a3c.module import A3CModule
from lightning_a3c.version import __version__

__all__ = [
    "A3CModule",
    "AtariConfig",
    "CollectorDataModule",
    "CollectorDataset",
    "EnvConfig",
    "GradientParallel",
    "ProgressLines",
    "StopAfterEnvSteps",
    "StopWhenSolved",
    "__version__",
]
