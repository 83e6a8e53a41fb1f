"""The package's layout: which package may import which, one table of rooms, public names, former paths."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from importlinter import api as importlinter

import lightning_a3c

PACKAGE = Path(lightning_a3c.__file__).parent
ROOT = PACKAGE.parent
ENTRANCES = {"__init__", "__main__", "former_paths", "version"}


def modules() -> set[str]:
    """Every module but the entrances, as `collection.rollout`."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.parts) for path in paths} - ENTRANCES


def test_the_table_of_rooms_names_every_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    assert set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)) == modules()


def test_the_page_and_the_import_rule_name_the_same_layers() -> None:
    contracts = importlinter.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    rule = " ← ".join(str(layer).replace("lightning_a3c.", "") for layer in reversed(layers))
    assert f"`{rule}`" in (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_says_in_its_docstring_what_it_is(module: str) -> None:
    path = (PACKAGE / module.replace(".", "/")).with_suffix(".py")
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_package_files_are_empty_except_the_first() -> None:
    files = [path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    assert [path for path in files if path.read_text()] == []


def test_a_worker_process_loads_no_lightning_and_nothing_that_draws() -> None:
    script = "import sys, lightning_a3c.collection.processes.preload; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split())
    assert "lightning_a3c.collection.rollout" in loaded
    assert not loaded & {"pytorch_lightning", "torchmetrics", "matplotlib", "jinja2", "PIL.Image", "tensorboard"}


def test_public_names_can_be_listed_and_imported() -> None:
    assert dir(lightning_a3c) == sorted(lightning_a3c.__all__)
    assert all(getattr(lightning_a3c, name) is not None for name in lightning_a3c.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = lightning_a3c.Nothing


@pytest.mark.parametrize(
    ("former", "name", "now"),
    [
        ("networks", "AtariA2C", "rl.networks"),
        ("networks", "MLP", "rl.networks"),
        ("callbacks", "GradientParallel", "learning.gradient_parallel"),
        ("envs", "EnvConfig", "environments.config"),
        ("envs", "make_vector_env", "environments.making"),
        ("rollout", "Rollout", "collection.rollout"),
        ("cli", "A3CCLI", "command_line.cli"),
    ],
)
def test_former_paths_give_the_same_objects(former: str, name: str, now: str) -> None:
    old, new = import_module(f"lightning_a3c.{former}"), import_module(f"lightning_a3c.{now}")
    assert getattr(old, name) is getattr(new, name)


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lightning_a3c\.nothing"):
        import_module("lightning_a3c.nothing")
