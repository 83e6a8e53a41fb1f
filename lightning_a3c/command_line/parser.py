"""The parser of `fit`, `validate`, `test` and `predict`: arguments beyond Lightning's, and one-line errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter, methodcaller
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lightning_a3c.command_line.tools import COMMANDS
from lightning_a3c.command_line.usage_errors import PROGRAM, one_line, refuse
from lightning_a3c.learning.optimizers import DEFAULT_OPTIMIZER
from lightning_a3c.rl.networks import NetworkFactory

LINKED = ("network", "optimizer", "lr_scheduler")
"""Arguments of the model that stand at the top level of a config."""

_CONFIG_HELP = "a YAML file, or the name of a shipped one"
_MAX_CLASSES_IN_HELP = 16
_SEEDS = range(2**32)  # NumPy's range


class OneLineLightningParser(LightningArgumentParser):
    """Lightning's parser with one-line errors and without abbreviated options, which would hide some typing errors.

    With the environment variable JSONARGPARSE_DEBUG set, errors are jsonargparse's own, with a traceback.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        self.commands = super().add_subcommands(*args, **kwargs)
        """What commands can be added to; only on a parser that has some."""
        return self.commands

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help without long lists of classes: all of torch's modules could be a network."""
        text = re.sub(
            r"Path to a configuration\s+file in json or yaml format\.",
            _CONFIG_HELP,
            super().format_help(*args, **kwargs),
        )
        return re.sub(r",\s+known\s+subclasses:([^)]*)(?=\))", _unless_long, text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error or os.environ.get("JSONARGPARSE_DEBUG"):
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        words = parser.prog.replace("[options]", "").split()
        program = " ".join([PROGRAM, *words[1:]])  # the first may be `__main__.py`
        if message.startswith('expected "subcommand"'):
            message = "name a command"
        options = [*parser.get_defaults().keys(), "config", "print_config", "help"]
        refuse(program, one_line(message, options, COMMANDS))


def _unless_long(found: re.Match[str]) -> str:
    return found[0] if found[1].count(",") < _MAX_CLASSES_IN_HELP else ""


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Add options of the run itself."""
    parser.add_argument(
        "--name",
        type=str | None,
        default=None,
        help="the run's files go to runs/NAME/N, with the next free number N; default: the configuration's name, or "
        "the environment's without one",
    )
    parser.add_argument(
        "--seeds",
        type=int | None,
        default=None,
        help="fit only: train so many runs one after the other, with seeds from --seed_everything on, and summarize "
        "them; not in configuration files",
    )
    parser.add_argument(
        "--jobs",
        type=int | None,
        default=None,
        help="with --seeds: train so many runs at a time, each on its share of the cores",
    )


def add_spec_arguments(parser: LightningArgumentParser) -> None:
    """Add top-level options for network, optimizer and scheduler."""
    network: Any = parser.add_argument(
        "--network",
        type=NetworkFactory | None,
        default=None,
        help="built from the observation shape and the number of actions; the default depends on the shape",
    )
    network.complete = {}  # for shtab: minutes would go into all options of all of torch's modules
    parser.add_optimizer_args()
    parser.add_lr_scheduler_args()
    parser.set_defaults({"optimizer": DEFAULT_OPTIMIZER})


def link_arguments(parser: LightningArgumentParser, model: str) -> None:
    """Link the options of `add_spec_arguments` to the model, and the model to the data module's task.

    Args:
        parser: the parser of a subcommand.
        model: the key of the model's arguments.
    """
    for name in LINKED:
        parser.link_arguments(name, f"{model}.{name}", _plain_spec)
    for name in ("observation_shape", "num_actions"):
        parser.link_arguments("data.task", f"{model}.{name}", attrgetter(name), "instantiate")
    parser.link_arguments("data.task", f"{model}.task", methodcaller("to_dict"), "instantiate")


def require_run_arguments(config: Mapping[str, Any]) -> None:
    """Refuse a seed that NumPy cannot use, a name that is no folder's, and `seeds` or `jobs` where it has no effect."""
    seed, name = config["seed_everything"], config["name"]
    if not isinstance(seed, bool) and (seed is None or seed not in _SEEDS):
        refuse(PROGRAM, f"--seed_everything must be in 0 … {_SEEDS[-1]}, true (random) or false (unset), got {seed}")
    if name is not None and (name in ("", ".", "..") or "/" in name):
        refuse(PROGRAM, f"--name must be the name of a folder in runs, without a path, got {name!r}")
    if config["seeds"] is not None:
        refuse(
            PROGRAM, f"seeds must be given on the command line of fit, as in `{PROGRAM} fit --seeds {config['seeds']}`"
        )
    if config["jobs"] is not None:
        refuse(PROGRAM, f"jobs goes with --seeds, as in `{PROGRAM} fit --seeds 5 --jobs {config['jobs']}`")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the process with one line for a wrong value or a missing package, without a traceback."""
    try:
        yield
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"{PROGRAM}: {one_line(str(error), ()) if 'class_path' in str(error) else error}") from None


def _plain_spec(spec: Any) -> Any:
    """`spec` with dicts instead of namespaces and lists instead of tuples, as in the saved config."""
    if not hasattr(spec, "as_dict"):
        return spec
    content = spec.as_dict()
    arguments = content.get("init_args") or {}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return {**content, "init_args": lists}
