"""A3C and A2C for PyTorch Lightning and Gymnasium, data-parallel and gradient-parallel.

Each public name is imported on first use, so that worker processes, which use part of this package, load no Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_a3c import former_paths
from lightning_a3c.version import __version__

if TYPE_CHECKING:
    from lightning_a3c.collection.config import Supervision
    from lightning_a3c.collection.ray_cluster.config import RayCollectors
    from lightning_a3c.collection.stream import CollectorDataset
    from lightning_a3c.command_line.cli import A3CCLI
    from lightning_a3c.environments.atari import AtariConfig
    from lightning_a3c.environments.config import EnvConfig
    from lightning_a3c.environments.wrappers import ObserveElements, ObservePreviousStep
    from lightning_a3c.learning.data_module import CollectorDataModule
    from lightning_a3c.learning.gradient_parallel import GradientParallel
    from lightning_a3c.learning.module import A3CModule
    from lightning_a3c.learning.precision import AutoPrecision
    from lightning_a3c.learning.stopping import StopAfterEnvSteps, StopOnSignal, StopWhenSolved
    from lightning_a3c.rl.action_spec import ActionSpec, BoxSpec, seeded_by
    from lightning_a3c.rl.image_networks import DictNetwork, ImpalaResNet, SmallImageNetwork
    from lightning_a3c.rl.losses import A2CLoss, LossTerms
    from lightning_a3c.rl.networks import MLP, AtariA2C
    from lightning_a3c.rl.recurrent_networks import AtariLSTM, RecurrentNetwork
    from lightning_a3c.rl.targets import VTraceConfig
    from lightning_a3c.sharing.policy import LoadedPolicy, load_policy
    from lightning_a3c.viewing.grouped_tensorboard import GroupedTensorBoardLogger
    from lightning_a3c.viewing.progress_bar import ProgressLines, RunProgressBar
    from lightning_a3c.viewing.record_video import RecordVideo
    from lightning_a3c.viewing.test_results import SaveTestResults, WritePredictions

_HOMES = {
    "A2CLoss": "rl.losses",
    "A3CCLI": "command_line.cli",
    "A3CModule": "learning.module",
    "ActionSpec": "rl.action_spec",
    "AtariA2C": "rl.networks",
    "AtariConfig": "environments.atari",
    "AtariLSTM": "rl.recurrent_networks",
    "AutoPrecision": "learning.precision",
    "BoxSpec": "rl.action_spec",
    "CollectorDataModule": "learning.data_module",
    "CollectorDataset": "collection.stream",
    "DictNetwork": "rl.image_networks",
    "EnvConfig": "environments.config",
    "GradientParallel": "learning.gradient_parallel",
    "GroupedTensorBoardLogger": "viewing.grouped_tensorboard",
    "ImpalaResNet": "rl.image_networks",
    "LossTerms": "rl.losses",
    "LoadedPolicy": "sharing.policy",
    "MLP": "rl.networks",
    "ObserveElements": "environments.wrappers",
    "ObservePreviousStep": "environments.wrappers",
    "ProgressLines": "viewing.progress_bar",
    "RayCollectors": "collection.ray_cluster.config",
    "RecordVideo": "viewing.record_video",
    "RecurrentNetwork": "rl.recurrent_networks",
    "RunProgressBar": "viewing.progress_bar",
    "SaveTestResults": "viewing.test_results",
    "seeded_by": "rl.action_spec",
    "SmallImageNetwork": "rl.image_networks",
    "StopAfterEnvSteps": "learning.stopping",
    "StopOnSignal": "learning.stopping",
    "StopWhenSolved": "learning.stopping",
    "Supervision": "collection.config",
    "VTraceConfig": "rl.targets",
    "WritePredictions": "viewing.test_results",
    "load_policy": "sharing.policy",
}

__all__ = [
    "A3CCLI",
    "MLP",
    "A2CLoss",
    "A3CModule",
    "ActionSpec",
    "AtariA2C",
    "AtariConfig",
    "AtariLSTM",
    "AutoPrecision",
    "BoxSpec",
    "CollectorDataModule",
    "CollectorDataset",
    "DictNetwork",
    "EnvConfig",
    "GradientParallel",
    "GroupedTensorBoardLogger",
    "ImpalaResNet",
    "LoadedPolicy",
    "LossTerms",
    "ObserveElements",
    "ObservePreviousStep",
    "ProgressLines",
    "RayCollectors",
    "RecordVideo",
    "RecurrentNetwork",
    "RunProgressBar",
    "SaveTestResults",
    "SmallImageNetwork",
    "StopAfterEnvSteps",
    "StopOnSignal",
    "StopWhenSolved",
    "Supervision",
    "VTraceConfig",
    "WritePredictions",
    "__version__",
    "load_policy",
    "seeded_by",
]

former_paths.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
