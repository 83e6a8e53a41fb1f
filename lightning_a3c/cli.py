"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

from operator import attrgetter, methodcaller
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lightning_a3c.files import require_checkpoint
from lightning_a3c.module import SEED_OPTIMIZER
from lightning_a3c.networks import NetworkFactory
from lightning_a3c.progress_bar import bar_options

_LINKED = ("network", "optimizer", "lr_scheduler")  # arguments of the model that a config has at its top level


class A3CCLI(LightningCLI):
    """`fit`, `validate` and `test` for `A3CModule` and `CollectorDataModule`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--network",
            type=NetworkFactory | None,
            default=None,
            help="built with the observation's shape and the number of actions; by default what suits the shape",
        )
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        parser.set_defaults({"optimizer": SEED_OPTIMIZER})
        for name in _LINKED:
            parser.link_arguments(name, f"model.{name}", _plain)
        for name in ("observation_shape", "num_actions"):
            parser.link_arguments("data.protocol", f"model.{name}", attrgetter(name), "instantiate")
        parser.link_arguments("data.protocol", "model.protocol", methodcaller("plain"), "instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        config = self.config[self.config["subcommand"]]
        for file in config.get("config") or ():
            _refuse_linked(str(file), yaml.safe_load(file.get_content()))
        path = config.get("ckpt_path")
        if path in (None, "last", "best", "hpc", "registry"):
            return
        try:
            require_checkpoint(path)
        except ValueError as error:
            raise SystemExit(f"lightning-a3c: {error}") from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        return super().instantiate_trainer(**kwargs, **bar_options(self.config_init[self.subcommand]["trainer"]))

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
            self.model.configure_optimizers()  # what is wrong with them is told before any file is written
        except ValueError as error:  # a value out of range: the message says it all, a traceback would hide it
            raise SystemExit(f"lightning-a3c: {error}") from None


def _refuse_linked(path: str, config: Any) -> None:
    """jsonargparse would overwrite these without a word."""
    for name in _LINKED:
        if isinstance(config, dict) and name in (config.get("model") or {}):
            raise SystemExit(
                f"lightning-a3c: {path} sets model.{name}; write {name} at the top level of the file instead"
            )


def _plain(spec: Any) -> Any:
    """Dicts instead of namespaces, and lists instead of tuples, as the saved config will have them."""
    if not hasattr(spec, "as_dict"):
        return spec
    plain = spec.as_dict()
    arguments = plain.get("init_args") or {}
    plain["init_args"] = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return plain
