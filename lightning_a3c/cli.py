"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException  # type: ignore[attr-defined]

from lightning_a3c.commands import COMMANDS, run
from lightning_a3c.data import CollectorDataModule
from lightning_a3c.files import NotWritable, require_checkpoint
from lightning_a3c.module import SEED_OPTIMIZER, A3CModule, CheckpointMismatch
from lightning_a3c.pool import WorkerError
from lightning_a3c.progress_bar import ProgressLines, bar_options
from lightning_a3c.recording import SaveConfigAndMachine, SaveTestResults, WritePredictions
from lightning_a3c.shared_tensors import NoFreeSharedMemory

ERRORS = (CheckpointMismatch, MisconfigurationException, NoFreeSharedMemory, NotWritable, WorkerError)
DESCRIPTION = f"A3C and A2C with PyTorch Lightning. Beside the subcommands below: {', '.join(COMMANDS)}."


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

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        return super().instantiate_trainer(**kwargs, **bar_options(self.config_init[self.subcommand]["trainer"]))

    def instantiate_classes(self) -> None:
        path = self.config[self.subcommand].get("ckpt_path")
        try:
            if path not in (None, "last", "best", "hpc", "registry"):
                require_checkpoint(path)
            super().instantiate_classes()
        except ValueError as error:  # a value out of range: the message says it all, a traceback would hide it
            raise SystemExit(f"lightning-a3c: {error}") from None


def _plain(spec: Any) -> dict[str, Any] | None:
    plain: dict[str, Any] | None = spec.as_dict() if hasattr(spec, "as_dict") else spec
    return plain


def main(args: list[str] | None = None) -> None:
    """Entry point of `lightning-a3c` and `python -m lightning_a3c`."""
    given = sys.argv[1:] if args is None else args
    if given and given[0] in COMMANDS:
        return run(*given)
    try:
        A3CCLI(
            A3CModule,
            CollectorDataModule,
            args=args,
            seed_everything_default=0,
            trainer_defaults={"callbacks": [ProgressLines(), SaveTestResults(), WritePredictions()]},
            auto_configure_optimizers=False,
            parser_kwargs={"allow_abbrev": False, "description": DESCRIPTION},
            save_config_callback=SaveConfigAndMachine,
            save_config_kwargs={"overwrite": True},
        )
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None  # Lightning alone would report success
    except ERRORS as error:
        raise SystemExit(f"lightning-a3c: {error}") from None
