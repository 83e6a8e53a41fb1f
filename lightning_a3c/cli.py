"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

from dataclasses import asdict
from operator import attrgetter
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lightning_a3c.files import require_checkpoint
from lightning_a3c.module import SEED_OPTIMIZER
from lightning_a3c.progress_bar import bar_options


class A3CCLI(LightningCLI):
    """`fit`, `validate` and `test` for `A3CModule` and `CollectorDataModule`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        parser.set_defaults({"optimizer": SEED_OPTIMIZER})
        parser.link_arguments("optimizer", "model.optimizer", _plain)
        parser.link_arguments("lr_scheduler", "model.lr_scheduler", _plain)
        for name in ("observation_shape", "num_actions"):
            parser.link_arguments("data.protocol", f"model.{name}", attrgetter(name), "instantiate")
        parser.link_arguments("data.protocol", "model.protocol", asdict, "instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        path = self.config[self.config["subcommand"]].get("ckpt_path")
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
        except ValueError as error:  # a value out of range: the message says it all, a traceback would hide it
            raise SystemExit(f"lightning-a3c: {error}") from None


def _plain(spec: Any) -> Any:
    """Dicts instead of namespaces, and lists instead of tuples, as the saved config will have them."""
    if not hasattr(spec, "as_dict"):
        return spec
    plain = spec.as_dict()
    arguments = plain.get("init_args") or {}
    plain["init_args"] = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return plain
