"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lightning_a3c.command_line.default_outputs import default_outputs, resolve_checkpoint
from lightning_a3c.command_line.parser import (
    LINKED,
    OneLineLightningParser,
    add_linked_arguments,
    errors_in_one_line,
    require_seed,
)
from lightning_a3c.command_line.save_config import SaveConfigAndMachine
from lightning_a3c.command_line.usage_errors import check_configs
from lightning_a3c.learning.data_module import CollectorDataModule
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.learning.trainer_checks import require_supported_names, require_supported_strategy
from lightning_a3c.system.files import require_checkpoint
from lightning_a3c.viewing.progress_bar import bar_options


class A3CCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict` for `A3CModule` and `CollectorDataModule`, or subclasses of them.

    Takes LightningCLI's arguments. With `subclass_mode_model=True` the option `--model` names a subclass of
    `A3CModule`; with `subclass_mode_data=True` the option `--data` names one of `CollectorDataModule`.
    """

    def __init__(
        self, model_class: Any = A3CModule, datamodule_class: Any = CollectorDataModule, **options: Any
    ) -> None:
        defaults: dict[str, Any] = {
            "parser_class": OneLineLightningParser,
            "save_config_callback": SaveConfigAndMachine,
            "save_config_kwargs": {"save_to_log_dir": False},  # `write_beside` picks unused names
            "auto_configure_optimizers": False,
        }
        super().__init__(model_class, datamodule_class, **(defaults | options))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key, is_subclass, base in (
            ("model", self.subclass_mode_model, self.model_class),
            ("data", self.subclass_mode_data, self.datamodule_class),
        ):
            if is_subclass and base is not None:
                parser.set_defaults({key: {"class_path": f"{base.__module__}.{base.__qualname__}"}})
        add_linked_arguments(parser, "model.init_args" if self.subclass_mode_model else "model")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if args is None or not isinstance(args, Mapping):
            check_configs(sys.argv[1:] if args is None else args, LINKED)
        super().parse_arguments(parser, args)
        config = self.config.get(str(self.config.get("subcommand")), self.config)
        require_seed(config["seed_everything"])
        if config.get("ckpt_path") not in (None, "last", "best", "hpc", "registry"):
            with errors_in_one_line():
                require_checkpoint(config["ckpt_path"])

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration of `fit` in force, where Lightning lets the checkpoint's hyper-parameters win."""
        if self.config.get("subcommand") != "fit":
            super()._parse_ckpt_path()
        elif Path(self.config["fit"].get("ckpt_path") or "").is_file():
            torch.load(self.config["fit"]["ckpt_path"], map_location="meta", weights_only=True)  # refuses code at once

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init.get(str(self.subcommand), self.config_init)
        options = {**config["trainer"], **kwargs}
        if self.subcommand == "fit":
            options |= default_outputs(options)
        require_supported_names(options["strategy"], options["accelerator"])
        try:
            trainer = super().instantiate_trainer(**(options | bar_options(options)))
        except TypeError as error:  # `devices: two`
            raise ValueError(f"trainer: {error}") from error
        require_supported_strategy(trainer)
        if config.get("ckpt_path") is not None:
            config["ckpt_path"] = resolve_checkpoint(config["ckpt_path"], trainer, str(self.subcommand))
        return trainer

    def instantiate_classes(self) -> None:
        with errors_in_one_line():
            super().instantiate_classes()
            self.model.configure_optimizers()  # refuses wrong arguments before the run writes files
