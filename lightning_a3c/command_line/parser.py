"""The parser of `fit`, `validate`, `test` and `predict`: its arguments beyond Lightning's, and errors in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter, methodcaller
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lightning_a3c.command_line.tools import COMMANDS
from lightning_a3c.command_line.usage_errors import PROGRAM, one_line, refuse
from lightning_a3c.learning.module import DEFAULT_OPTIMIZER
from lightning_a3c.rl.networks import NetworkFactory

LINKED = ("network", "optimizer", "lr_scheduler")
"""Arguments of the model that a config has at its top level."""

_SEEDS = range(2**32)  # what NumPy takes


class OneLineLightningParser(LightningArgumentParser):
    """Lightning's parser without abbreviations of options, which would let some typing errors pass.

    With the environment variable JSONARGPARSE_DEBUG set, errors are jsonargparse's own, with a traceback.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error or os.environ.get("JSONARGPARSE_DEBUG"):
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        words = parser.prog.replace("[options]", "").split()
        program = " ".join([PROGRAM, *words[1:]])  # the first is __main__.py, say
        if message.startswith('expected "subcommand"'):
            message = "name a command"
        options = [*parser.get_defaults().keys(), "config", "print_config", "help"]
        refuse(program, one_line(message, options, COMMANDS))


def add_linked_arguments(parser: LightningArgumentParser, model: str) -> None:
    """Network, optimizer and scheduler as options of the top level, and what the model takes from the data module.

    Args:
        parser: of a subcommand.
        model: the key under which the model's arguments lie.
    """
    parser.add_argument(
        "--network",
        type=NetworkFactory | None,
        default=None,
        help="built with the observation's shape and the number of actions; by default what suits the shape",
    )
    parser.add_optimizer_args()
    parser.add_lr_scheduler_args()
    parser.set_defaults({"optimizer": DEFAULT_OPTIMIZER})
    for name in LINKED:
        parser.link_arguments(name, f"{model}.{name}", _plain)
    for name in ("observation_shape", "num_actions"):
        parser.link_arguments("data.task", f"{model}.{name}", attrgetter(name), "instantiate")
    parser.link_arguments("data.task", f"{model}.task", methodcaller("to_dict"), "instantiate")


def require_seed(seed: bool | int | None) -> None:
    """Refuse a seed that NumPy would not take."""
    if not isinstance(seed, bool) and (seed is None or seed not in _SEEDS):
        refuse(
            PROGRAM, f"--seed_everything must be in 0 … {_SEEDS[-1]}, or true for any, or false for none, got {seed}"
        )


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """A value out of range, or a package that is missing: the message says it all, a traceback would hide it."""
    try:
        yield
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"{PROGRAM}: {one_line(str(error), ()) if 'class_path' in str(error) else error}") from None


def _plain(spec: Any) -> Any:
    """Dicts instead of namespaces, and lists instead of tuples, as the saved config will have them."""
    if not hasattr(spec, "as_dict"):
        return spec
    plain = spec.as_dict()
    arguments = plain.get("init_args") or {}
    plain["init_args"] = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return plain
