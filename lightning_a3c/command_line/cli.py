"""The command line: LightningCLI with this package's classes linked together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lightning_a3c.command_line.arguments import (
    CONFIG_FLAGS,
    name_from_configs,
    names_a_model,
    values_of,
    with_config_of_run,
    with_paths_of_configs,
)
from lightning_a3c.command_line.default_outputs import default_outputs, open_run_folder, resolve_checkpoint
from lightning_a3c.command_line.family_config import (
    environment_of,
    family_config,
    wants_family_config,
    with_family_config,
)
from lightning_a3c.command_line.parser import (
    LINKED,
    OneLineLightningParser,
    add_run_arguments,
    add_spec_arguments,
    errors_in_one_line,
    link_arguments,
    require_run_arguments,
)
from lightning_a3c.command_line.save_config import SaveConfigAndMachine
from lightning_a3c.command_line.usage_errors import check_configs
from lightning_a3c.learning.data_module import CollectorDataModule
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.learning.restoring import require_same_agent
from lightning_a3c.learning.trainer_checks import (
    require_started_learners,
    require_supported_names,
    require_supported_strategy,
)
from lightning_a3c.system.files import require_checkpoint
from lightning_a3c.viewing.numbered_runs import ROOT, RunFolder
from lightning_a3c.viewing.progress_bar import bar_options


class A3CCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict` for `A3CModule` and `CollectorDataModule`, or subclasses of them.

    Takes LightningCLI's arguments. Arguments and configuration files may name a subclass of `A3CModule` for `model`;
    `subclass_mode_model` makes them. With `subclass_mode_data=True` the option `--data` names a subclass of
    `CollectorDataModule`.

    Each run gets a folder of its own, `runs/NAME/N`, and holds it until it ends; with `run=False`, as long as the
    object lives.
    """

    def __init__(
        self, model_class: Any = A3CModule, datamodule_class: Any = CollectorDataModule, **options: Any
    ) -> None:
        args = options.get("args")
        words = None if isinstance(args, Mapping) else sys.argv[1:] if args is None else args
        self._family: str | None = None  # the configuration that `auto` stands for
        if words is not None and wants_family_config(words):
            with errors_in_one_line():
                self._family = family_config(environment_of(with_paths_of_configs(words)))
            words = with_family_config(words, self._family)
        self._args = None if words is None else with_config_of_run(with_paths_of_configs(words))
        self.run_folder: RunFolder | Path | None = None
        """The folder of the run, or that of the run whose checkpoint is evaluated."""
        defaults: dict[str, Any] = {
            "parser_class": OneLineLightningParser,
            "save_config_callback": SaveConfigAndMachine,
            "save_config_kwargs": {"save_to_log_dir": False},  # `write_beside` picks unused names
            "auto_configure_optimizers": False,
            "subclass_mode_model": self._args is not None and names_a_model(self._args),
        }
        try:
            super().__init__(model_class, datamodule_class, **(defaults | options))
        except BaseException:
            self._close_run_folder()
            raise
        if options.get("run", True):
            self._close_run_folder()

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_run_arguments(parser)
        super().add_default_arguments_to_parser(parser)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments of data, module and trainer; help and printed configurations show them in this order."""
        parser.add_lightning_class_args(self._datamodule_class, "data", subclass_mode=self.subclass_mode_data)
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=self.subclass_mode_model)
        add_spec_arguments(parser)
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults(
            {f"trainer.{name}": value for name, value in self.trainer_defaults.items() if name != "callbacks"}
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key, is_subclass, base in (
            ("model", self.subclass_mode_model, self.model_class),
            ("data", self.subclass_mode_data, self.datamodule_class),
        ):
            if is_subclass and base is not None:
                parser.set_defaults({key: {"class_path": f"{base.__module__}.{base.__qualname__}"}})
        link_arguments(parser, "model.init_args" if self.subclass_mode_model else "model")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if self._args is None:
            super().parse_arguments(parser, args)
        else:
            check_configs(self._args, LINKED)
            self.config = parser.parse_args(self._args)
        config = self.config.get(str(self.config.get("subcommand")), self.config)
        require_run_arguments(config)
        if config.get("ckpt_path") not in (None, "last", "best", "hpc", "registry"):
            with errors_in_one_line():
                require_checkpoint(config["ckpt_path"])
        configs = None if self._family else name_from_configs(self._args or ())
        of_config = configs or _name_of_environment(config["data"])
        config["name"] = config["name"] or of_config
        self.save_config_kwargs["name_of_config"] = of_config
        self._tell_of_family(config)

    def _tell_of_family(self, config: Any) -> None:
        if self._family:
            rank_zero_info(f"--config auto takes {self._family} for {config['data']['env']['id']}")
        elif self.config.get("subcommand") == "fit" and self._args and not values_of(self._args, *CONFIG_FLAGS):
            rank_zero_info("No configuration is named; --config auto takes values for environments of this kind")

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration of `fit` in force, where Lightning lets the checkpoint's hyper-parameters win."""
        if self.config.get("subcommand") != "fit":
            super()._parse_ckpt_path()
        elif Path(self.config["fit"].get("ckpt_path") or "").is_file():
            torch.load(self.config["fit"]["ckpt_path"], map_location="meta", weights_only=True)  # refuses code at once

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init.get(str(self.subcommand), self.config_init)
        command = str(self.subcommand or "fit")
        options = {**config["trainer"], **kwargs}
        require_supported_names(options["strategy"], options["accelerator"])
        require_started_learners(options["devices"], options["num_nodes"])
        parent = Path(options["default_root_dir"] or ROOT) / config["name"]
        if config.get("ckpt_path") is not None:
            config["ckpt_path"] = resolve_checkpoint(config["ckpt_path"], options, parent, command)
        if not options["fast_dev_run"]:
            self.run_folder = open_run_folder(config.get("ckpt_path"), parent, command)
            path = self.run_folder.path if isinstance(self.run_folder, RunFolder) else self.run_folder
            options |= default_outputs(options, path, command)
            if command == "fit":
                rank_zero_info(f"Run folder: {path}")
            self.on_run_folder(path)
        try:
            trainer = super().instantiate_trainer(**(options | bar_options(options)))
        except TypeError as error:  # `devices: two`
            raise ValueError(f"trainer: {error}") from error
        require_supported_strategy(trainer)
        return trainer

    def on_run_folder(self, folder: Path) -> None:
        """Implement to learn the run's folder; nothing has been written there yet."""

    def instantiate_classes(self) -> None:
        with errors_in_one_line():
            super().instantiate_classes()
            # what is refused here is refused before the run writes files
            self.model.configure_optimizers()
            self._require_fitting_checkpoint()

    def _require_fitting_checkpoint(self) -> None:
        if self.subcommand != "fit" or not isinstance(self.model, A3CModule):
            return
        path = Path(self.config_init["fit"].get("ckpt_path") or "")
        if path.is_file():
            require_same_agent(torch.load(path, map_location="meta", weights_only=True), self.model)

    def _close_run_folder(self) -> None:
        if isinstance(self.run_folder, RunFolder):
            self.run_folder.close()


def _name_of_environment(data: Mapping[str, Any]) -> str:
    """A run's name where no configuration has one: `Pong-v5` of `ale_py:ALE/Pong-v5`."""
    return str(data.get("init_args", data)["env"]["id"]).rpartition(":")[2].rpartition("/")[2]
