"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

import signal
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException  # type: ignore[attr-defined]

from lightning_a3c.callbacks import ProgressLines
from lightning_a3c.data import CollectorDataModule
from lightning_a3c.module import SEED_OPTIMIZER, A3CModule, CheckpointMismatch
from lightning_a3c.pool import WorkerError
from lightning_a3c.shared_tensors import NoFreeSharedMemory


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
        if not Path(path).exists():
            raise SystemExit(f"lightning-a3c: ckpt_path {path} does not exist")
        if Path(path).is_file() and not is_zipfile(path):
            raise SystemExit(f"lightning-a3c: ckpt_path {path} is not a whole checkpoint; was it cut off while copied?")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # a value out of range: the message says it all, a traceback would hide it
            raise SystemExit(f"lightning-a3c: {error}") from None


def _plain(spec: Any) -> dict[str, Any] | None:
    plain: dict[str, Any] | None = spec.as_dict() if hasattr(spec, "as_dict") else spec
    return plain


def main(args: Any = None) -> None:
    """Entry point of `lightning-a3c` and `python -m lightning_a3c`."""
    try:
        A3CCLI(
            A3CModule,
            CollectorDataModule,
            args=args,
            seed_everything_default=0,
            trainer_defaults={"callbacks": ProgressLines()},
            auto_configure_optimizers=False,
            parser_kwargs={"allow_abbrev": False},
            save_config_kwargs={"overwrite": True},
        )
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None  # Lightning alone would report success
    except (CheckpointMismatch, MisconfigurationException, NoFreeSharedMemory, WorkerError) as error:
        raise SystemExit(f"lightning-a3c: {error}") from None
