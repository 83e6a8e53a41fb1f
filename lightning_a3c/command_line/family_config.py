"""`--config auto`: the shipped configuration for environments of the same kind. Knows no trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_a3c.command_line.arguments import CONFIG_FLAGS, config_files, content_of, values_of
from lightning_a3c.environments.atari import is_atari
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.environments.task import describe_task

AUTO = "auto"
_ID = "--data.env.id"


def family_config(env_id: str) -> str:
    """The name of the configuration that all environments like `env_id` share.

    Raises:
        ValueError: the environment cannot be made, or not be learned.
    """
    if is_atari(spec_of(env_id)):
        return "suite/atari"
    task = describe_task(EnvConfig(env_id))
    is_vector = len(task.observation_shape) == 1 and task.observation_space is None
    if not is_vector or task.observation_dtype != "float32":
        return "suite/grid"
    return "suite/continuous" if _has_real_numbers(task.action_family) else "suite/discrete"


def wants_family_config(args: Sequence[str]) -> bool:
    """Whether a command line leaves the configuration to the environment; a file auto.yaml comes first."""
    return AUTO in values_of(args, *CONFIG_FLAGS) and not Path(f"{AUTO}.yaml").is_file()


def environment_of(args: Sequence[str]) -> str:
    """The id that a command line or the configuration files in it name.

    Raises:
        ValueError: they name none.
    """
    in_files = [_env_id(content_of(path)) for path in config_files(args)]
    ids = [*filter(None, in_files), *values_of(args, _ID)]
    if not ids:
        raise ValueError(f"--config {AUTO} goes by the environment, and none is named; add {_ID}")
    return ids[-1]


def _env_id(config: Mapping[str, Any]) -> str | None:
    for key in ("data", "env"):
        inner = config.get(key)
        config = inner if isinstance(inner, Mapping) else {}
    return config["id"] if isinstance(config.get("id"), str) else None


def with_family_config(args: Sequence[str], name: str) -> list[str]:
    """`args` with the configuration `name` in place of `auto`."""
    joined = [f"{flag}={AUTO}" for flag in CONFIG_FLAGS]
    named = [argument.replace(AUTO, name) if argument in joined else argument for argument in args]
    return [
        name if argument == AUTO and previous in CONFIG_FLAGS else argument
        for previous, argument in zip(["", *named], named, strict=False)
    ]


def _has_real_numbers(family: Mapping[str, Any] | None) -> bool:
    if family is None:
        return False
    return family["family"] == "box" or any(map(_has_real_numbers, family.get("parts", ())))
