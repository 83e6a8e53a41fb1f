"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c.callbacks import ProgressLines
from lightning_a3c.data import CollectorDataModule
from lightning_a3c.envs import Protocol
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
        parser.link_arguments("data.protocol", "model.observation_shape", _observation_shape, "instantiate")
        parser.link_arguments("data.protocol", "model.num_actions", _num_actions, "instantiate")
        parser.link_arguments("data.protocol", "model.protocol", asdict, "instantiate")

    def before_instantiate_classes(self) -> None:
        path = self.config[self.subcommand].get("ckpt_path")
        if path and Path(path).is_file() and not is_zipfile(path):
            raise SystemExit(
                f"ckpt_path {path} is not a whole checkpoint (cut off while it was copied?); choose another"
            )

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # a value out of range: the message says it all, a traceback would hide it
            raise SystemExit(f"lightning-a3c: {error}") from None


def _plain(spec: Any) -> dict[str, Any] | None:
    plain: dict[str, Any] | None = spec.as_dict() if hasattr(spec, "as_dict") else spec
    return plain


def _observation_shape(protocol: Protocol) -> tuple[int, ...]:
    return protocol.observation_shape


def _num_actions(protocol: Protocol) -> int:
    return protocol.num_actions


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
