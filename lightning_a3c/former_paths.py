"""Module paths of releases before the package had subpackages, such as `lightning_a3c.networks`.

Configs, checkpoints and scripts that name them keep working. Standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "lightning_a3c"
_NEW_PATHS = {
    "atari": ["environments.atari"],
    "callbacks": ["learning.gradient_parallel", "learning.stopping"],
    "cli": ["command_line.cli"],
    "data": ["learning.data_module"],
    "dataset": ["collection.stream"],
    "envs": ["environments.atari", "environments.config", "environments.making", "environments.task"],
    "losses": ["rl.losses"],
    "module": ["learning.module", "learning.restoring"],
    "networks": ["rl.networks"],
    "policies": ["rl.policies"],
    "precision": ["learning.precision"],
    "progress_bar": ["viewing.progress_bar"],
    "recording": ["command_line.save_config", "viewing.record_video", "viewing.test_results"],
    "rollout": ["collection.rollout"],
    "supervision": ["collection.config", "collection.processes.supervision"],
    "types": ["rl.types"],
}


_FORMER_NAMES = {"NetworkPolicy": "SoftmaxPolicy", "describe_task": "inspect"}


class _FormerPaths(MetaPathFinder, Loader):
    """Finds a former module and fills it with the names of those that replace it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if parent == _PACKAGE and name in _NEW_PATHS else None

    def exec_module(self, module: ModuleType) -> None:
        for path in _NEW_PATHS[module.__name__.rpartition(".")[2]]:
            new = vars(import_module(f"{_PACKAGE}.{path}"))
            names = {name: value for name, value in new.items() if not name.startswith("__")}
            vars(module).update(names | {_FORMER_NAMES[name]: names[name] for name in names.keys() & _FORMER_NAMES})


def install() -> None:
    """Let imports of former paths be found, after all others; a second call does nothing."""
    if not any(isinstance(finder, _FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(_FormerPaths())
