"""Reading and completing a command line before it is parsed. Knows no trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lightning_a3c.command_line.shipped_configs import shipped_configs
from lightning_a3c.viewing.numbered_runs import ROOT, newest, newest_checkpoint, run_folder_of

CONFIG_FLAGS = ("-c", "--config")
SEEDS_FLAG = "--seeds"
JOBS_FLAG = "--jobs"

_OF_EVALUATIONS = {"verbose", "return_predictions"}  # options that `fit` lacks, as do other evaluations


def values_of(args: Sequence[str], *flags: str) -> list[str]:
    """The values that `args` give to an option, as `--flag value` or `--flag=value`, in order."""
    separate = [(at, value) for at, (flag, value) in enumerate(pairwise(args)) if flag in flags]
    joined = [
        (at, value)
        for at, (flag, equals, value) in enumerate(argument.partition("=") for argument in args)
        if equals and flag in flags and flag.startswith("--")
    ]
    return [value for _, value in sorted(separate + joined)]


def has_flag(args: Sequence[str], flag: str) -> bool:
    """Whether `args` hold an option, with a value or without."""
    return any(argument.partition("=")[0] == flag for argument in args)


def without(args: Sequence[str], flag: str) -> list[str]:
    """`args` without an option and its values."""
    kept, skips = [], False
    for argument in args:
        if skips or argument == flag:
            skips = not skips
        elif not argument.startswith(f"{flag}="):
            kept.append(argument)
    return kept


def find_config(name: str) -> str:
    """The path of a configuration: a file, the file `name.yaml`, or the shipped one so called; else `name` itself."""
    if "://" in name or name.lstrip().startswith("{") or Path(name).is_file():
        return name
    shipped = shipped_configs()
    if Path(name).name != name and name not in shipped:
        return name
    own = Path(f"{name}.yaml")
    return str(own if own.is_file() else shipped.get(name, name))


def with_paths_of_configs(args: Sequence[str]) -> list[str]:
    """`args` with the paths of configurations in place of their names."""
    previous, found = "", []
    for argument in args:
        flag, equals, value = argument.partition("=")
        if previous in CONFIG_FLAGS:
            argument = find_config(argument)
        elif equals and flag == "--config":
            argument = f"--config={find_config(value)}"
        found.append(argument)
        previous = argument
    return found


def config_files(args: Sequence[str]) -> list[Path]:
    """The configuration files in `args` that exist."""
    names = [name for name in values_of(args, *CONFIG_FLAGS) if "://" not in name and not name.lstrip().startswith("{")]
    return [path for path in map(Path, names) if path.is_file()]


def name_from_configs(args: Sequence[str]) -> str | None:
    """A run's name: that of its configuration files, joined by `+`; None without any."""
    return "+".join(path.stem for path in config_files(args)) or None


def with_config_of_run(args: Sequence[str]) -> list[str]:
    """`args` of an evaluation without a configuration, with that of the run whose checkpoint it names."""
    names = values_of(args, "--ckpt_path")
    if args[:1] not in (["validate"], ["test"], ["predict"]) or not names or values_of(args, *CONFIG_FLAGS):
        return [*args]
    path = newest_checkpoint(names[-1], Path(ROOT)) if names[-1] in ("last", "best") else Path(names[-1])
    run = run_folder_of(path) if path is not None and path.is_file() else None
    found = run.glob("csv/version_*/config.yaml") if run is not None else ()
    config = newest(path for path in found if _OF_EVALUATIONS.isdisjoint(content_of(path)))
    return [*args] if config is None else [args[0], f"--config={config}", *args[1:]]


def wants_seeds(args: Sequence[str]) -> bool:
    """Whether a command line asks for several runs."""
    is_fit = [*args[:1]] == ["fit"] and not {"-h", "--help", "--print_config"} & {*args}
    return is_fit and has_flag(args, SEEDS_FLAG)


def names_a_model(args: Sequence[str]) -> bool:
    """Whether `args` or the configuration files in them name the module's class, instead of options for it only."""
    return bool(values_of(args, "--model", "--model.class_path")) or any(
        (isinstance(model, Mapping) and "class_path" in model) or (isinstance(model, str) and not Path(model).exists())
        for model in (content_of(path).get("model") for path in config_files(args))
    )


def content_of(path: Path) -> Mapping[str, Any]:
    """The options in a file; empty if it is unreadable, which the parser reports."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}
