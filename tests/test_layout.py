"""Who may import whom: the rooms of the architecture, checked by parsing every import statement.

`only` is everything outside the standard library that a room may import, `never` what it must not.
The package's own modules go by their bare names.
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import lightning_a3c

PACKAGE = Path(lightning_a3c.__file__).parent
MODULES = {path.stem for path in PACKAGE.glob("*.py")}
REINFORCEMENT_LEARNING = frozenset(
    {"envs", "networks", "returns", "losses", "policies", "rollout", "payloads", "evaluation", "progress", "module"}
)
LIGHTNING = frozenset(
    {
        "pytorch_lightning",
        "lightning",
        "module",
        "data",
        "dataset",
        "callbacks",
        "recording",
        "evaluation_watch",
        "earlier_runs",
        "progress_bar",
        "onnx_export",
        "update_log",
        "cli",
    }
)
PROCESSES = frozenset(
    {"multiprocessing", "torch.multiprocessing", "pool", "worker", "worker_process", "channel", "shared_tensors"}
)


class Room(NamedTuple):
    only: frozenset[str] | None = None  # None: anything that `never` does not forbid
    never: frozenset[str] = frozenset()


def only(*names, never=()):
    return Room(frozenset(names), frozenset(never))


def never(*names):
    return Room(None, frozenset(names))


ROOMS = {
    "types": only("torch"),
    "envs": only("gymnasium", "numpy", "atari", "env_checks"),
    "atari": only("gymnasium", "ale_py", "numpy", "env_checks"),
    "registry": only("gymnasium", "cloudpickle"),
    "observation_file": only("numpy", "envs"),
    "env_checks": only("gymnasium", "numpy"),
    "replay": only("gymnasium", "ale_py", "numpy", "torch", never=["torch.multiprocessing"]),
    "supervision": only(),
    "fork_server": only(),
    "frozen": only("worker", "fork_server"),
    "settings": only("numpy", "torch"),
    "process_wide": only(),
    "trainer_command": never("envs", "rollout", "torch"),
    "networks": only("torch", "network_checks", "processor"),
    "network_checks": only("torch"),
    "network_pickling": only("cloudpickle", "torch"),
    "returns": only("torch"),
    "losses": only("torch"),
    "policies": only("torch"),
    "rollout": only("gymnasium", "numpy", "torch", "types", "returns", "policies", never=["torch.multiprocessing"]),
    "evaluation": only("numpy", "torch", "envs", "policies", "rollout", never=PROCESSES),
    "playback": only("gymnasium", "numpy", "atari", "env_checks", "envs", "policies", "rollout", never=PROCESSES),
    "evaluation_watch": only("pytorch_lightning", "lightning_utilities", "evaluation"),
    "earlier_runs": only("pytorch_lightning", "lightning_utilities", "files"),
    "video": only("imageio_ffmpeg", "PIL", "numpy", "torch", "envs", "files", "network_checks", "playback", "policies"),
    "files": only(),
    "summary": only("torch", "torchmetrics"),
    "progress": only("types"),
    "payloads": only("torch", "types", "losses", never=PROCESSES),
    "shared_tensors": only("torch"),
    "heap": only(),
    "processor": only("torch", "process_wide"),
    "precision": only("pytorch_lightning", "lightning_utilities", "torch", "processor"),
    "weights": only("torch", "shared_tensors"),
    "channel": only("torch", "types", "shared_tensors", never=REINFORCEMENT_LEARNING),
    "worker": never(*LIGHTNING),
    "pool": never(*LIGHTNING),
    "worker_process": never(*LIGHTNING),
    "collectors": never(*LIGHTNING),
    "dataset": never("torch.optim", "envs", "module", "data", "callbacks", "cli"),
    "auto": never("torch.optim", "envs", "module", "data", "callbacks", "cli"),
    "data": never("torch.optim", "module", "callbacks", "cli"),
    "checkpoints": only("torch", "lightning_fabric", "files"),
    "onnx_export": only("pytorch_lightning", "torch", "files", "network_checks"),
    "optimizers": only("torch", "networks", never=["torch.multiprocessing"]),
    "update_log": only("pytorch_lightning", "torch", "optimizers", never=["torch.multiprocessing"]),
    "module": never("envs", "rollout", "data", "callbacks", "cli", "gymnasium", "ale_py", *PROCESSES),
    "callbacks": never("rollout", "cli"),
    "recording": never("rollout", "cli", "optim"),
    "progress_bar": only("pytorch_lightning", "lightning_utilities", "callbacks", "evaluation", "module", "progress"),
    "runs": only("numpy", "yaml"),
    "plots": only("numpy", "matplotlib", "runs"),
    "report": only("numpy", "jinja2", "files", "plots", "progress", "runs"),
    "commands": never("pytorch_lightning", "matplotlib", "jinja2", "cli"),
    "usage": only("yaml"),
    "parser": only("pytorch_lightning", "commands", "module", "networks", "usage"),
    "keeping": only("pytorch_lightning", "lightning_utilities"),
    "trainer_checks": only("pytorch_lightning", "lightning_fabric"),
    "cli": only(
        *(
            "pytorch_lightning",
            "data",
            "files",
            "keeping",
            "trainer_checks",
            "module",
            "parser",
            "progress_bar",
            "recording",
        ),
        "usage",
        never=["multiprocessing"],
    ),
}
ENTRANCES = {"__init__", "__main__", "version"}


def imported(module):
    """Every name imported anywhere in `module`: `torch.nn`, or `pool.WorkerError` for this package's own."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {module}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {_short(name) for name in names}


def _short(name):
    parts = name.split(".")
    if parts[0] != "lightning_a3c":
        return name
    return ".".join(parts[1:]) if len(parts) > 1 and parts[1] in MODULES else "__init__"


def _is_or_is_in(name, names):
    """Whether `name` is, or is inside, any of `names`: torch.optim.Adam is in torch.optim and in torch."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts) + 1))


def _is_standard(name):
    first = name.split(".")[0]
    return first not in MODULES and first in sys.stdlib_module_names


@pytest.mark.parametrize("module", ROOMS)
def test_room_imports_only_what_it_may(module):
    allowed, forbidden = ROOMS[module]
    names = imported(module)
    assert {name for name in names if _is_or_is_in(name, forbidden)} == set()
    if allowed is not None:
        assert {name for name in names if not _is_standard(name) and not _is_or_is_in(name, allowed)} == set()


@pytest.mark.parametrize(
    "module", ["types", "envs", "networks", "network_checks", "returns", "losses", "rollout", "payloads"]
)
def test_room_knows_no_processes(module):
    assert {name for name in imported(module) if _is_or_is_in(name, PROCESSES)} == set()


def test_data_names_no_optimizer_of_torch():
    tree = ast.parse((PACKAGE / "data.py").read_text())
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "optim"] == []


def test_workers_do_without_lightning_and_all_that_draws() -> None:
    script = "import sys, lightning_a3c.collection.collector; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split())
    assert "lightning_a3c.collection.rollout" in loaded
    assert not loaded & {"pytorch_lightning", "torchmetrics", "matplotlib", "jinja2", "PIL.Image", "tensorboard"}


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(lightning_a3c, name) is not None for name in lightning_a3c.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = lightning_a3c.Nothing


def test_every_module_has_a_room():
    assert set(ROOMS) == MODULES - ENTRANCES


def test_command_line_is_under_80_lines():
    assert len((PACKAGE / "cli.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("module", sorted(MODULES - ENTRANCES))
def test_module_says_in_its_docstring_what_it_is(module):
    assert ast.get_docstring(ast.parse((PACKAGE / f"{module}.py").read_text()))
