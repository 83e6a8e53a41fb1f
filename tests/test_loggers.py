"""What loggers get: hyper-parameters of module and data, and TensorBoard's tags."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import CSVLogger, Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GroupedTensorBoardLogger
from lightning_a3c.learning.hyper_parameters import plain
from lightning_a3c.viewing.grouped_tensorboard import SECTIONS, tag_of
from tests.command_line import lightning_a3c

HALF = np.float32(0.5)
METRICS_PAGE = Path(__file__).parents[1] / "docs/metrics.md"


class Tracker(Logger):
    """A logger that keeps what it gets in memory, as a client of a server does; parameters may not change."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Any] = {}
        self.metrics: set[str] = set()

    name = "tracker"
    version = 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        changed = {name for name in params if name in self.params and self.params[name] != params[name]}
        if changed:
            raise ValueError(f"changing {changed} is not allowed")  # as MLflow does
        self.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics.keys()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Trains CartPole for a few updates with loggers, and tests it with another data module."""

    def fit(*loggers: Logger, tests: bool = False, module: Any = A3CModule) -> pl.Trainer:
        env = EnvConfig("CartPole-v1", num_envs=2, backend="gymnasium")
        sizes: dict[str, Any] = {"micro_batch_size": 32, "batch_size": 32, "num_workers": 0}
        data = CollectorDataModule(env, **sizes)
        pl.seed_everything(7, verbose=False)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=8,
            log_every_n_steps=2,
            logger=list(loggers),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        agent = module.for_data(data)
        trainer.fit(agent, datamodule=data)
        if tests:
            trainer.test(agent, datamodule=CollectorDataModule(env, eval_episodes=2, num_workers=2), verbose=False)
        return trainer

    return fit


def test_hyper_parameters_are_those_of_module_and_data_as_plain_lists_and_values(run, tmp_path: Path) -> None:
    tracker = Tracker()
    run(CSVLogger(tmp_path), tracker)
    text = next(tmp_path.rglob("hparams.yaml")).read_text()
    assert "!!python" not in text
    saved = yaml.safe_load(text)
    assert saved == tracker.params
    assert saved["observation_shape"] == [4]
    assert saved["value_weight"] == 1.0
    assert saved["task"]["env_id"] == "CartPole-v1"
    assert saved["data"]["env"]["num_envs"] == 2
    assert saved["data"]["num_workers"] == 0
    assert saved["data"]["slots_per_worker"] >= 1  # the number in force, where the argument is None
    assert saved["data"]["seed"] == 7
    assert saved["data"]["supervision"]["max_restarts"] == 3
    assert not [name for name in saved if name.startswith("_")]


def test_a_test_after_training_changes_no_hyper_parameter(run) -> None:
    tracker = Tracker()
    run(tracker, tests=True)
    assert tracker.params["data"]["num_workers"] == 0
    assert "test/return_mean" in tracker.metrics


def test_arguments_of_a_subclass_are_logged_whatever_their_type(run, tmp_path: Path) -> None:
    class Own(A3CModule):
        def __init__(self, *args: Any, scale: Any = HALF, step: Any = math.sqrt, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.save_hyperparameters("scale", "step")

    run(CSVLogger(tmp_path), module=Own)
    saved = yaml.safe_load(next(tmp_path.rglob("hparams.yaml")).read_text())
    assert (saved["scale"], saved["step"]) == (0.5, "math.sqrt")


def test_values_that_are_neither_numbers_nor_texts_become_text() -> None:
    assert plain({1: {"a": None, "b": True}, "c": int}) == {"1": {"a": None, "b": True}, "c": "builtins.int"}
    assert plain(slice(3)) == "slice(None, 3, None)"


def test_tensorboard_shows_a_handful_of_sections_and_a_table_of_hyper_parameters(run, tmp_path: Path) -> None:
    trainer = run(GroupedTensorBoardLogger(tmp_path))
    assert "return_100" in trainer.callback_metrics  # monitors keep the keys
    events = EventAccumulator(trainer.logger.log_dir)
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {tag.partition("/")[0] for tag in tags} == SECTIONS.keys()
    assert all(not math.isnan(event.value) for tag in tags for event in events.Scalars(tag))
    plugin = {tag: data.plugin_data.content for tag, data in events.summary_metadata.items() if "hparams" in tag}
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["data/num_workers"].number_value == 0
    assert start.hparams["value_weight"].number_value == 1
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["episode/return_100"]
    assert "episode/return_100" in tags


def test_every_documented_metric_of_training_has_a_section() -> None:
    training = METRICS_PAGE.read_text().partition("## Evaluation")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", training, re.MULTILINE))
    assert documented == {key for keys in SECTIONS.values() for key in keys} - {"epoch"}
    table = METRICS_PAGE.read_text().partition("## In TensorBoard")[2]
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", table, re.MULTILINE)
    assert {section: tuple(re.findall(r"`(.+?)`", keys)) for section, keys in rows} == SECTIONS


def test_learning_rates_join_the_optimizer_and_other_keys_stay() -> None:
    keys = ("lr-Adam", "lr-Adam/pg1", "val/return_mean", "my_metric", "episode/return_100")
    assert [tag_of(key) for key in keys] == ["optimizer/lr-Adam", "optimizer/lr-Adam/pg1", *keys[2:]]


def test_a_tracker_on_the_command_line_leaves_the_run_folder_as_it_is(tmp_path: Path) -> None:
    small = ["--data.num_workers=0", "--data.micro_batch_size=8", "--data.batch_size=8", "--trainer.accelerator=cpu"]
    tracker = "--trainer.logger=tests.test_loggers.Tracker"
    done = lightning_a3c("fit", *small, "--trainer.max_steps=2", tracker, "--name=tracked", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/tracked/1"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (run / "checkpoints/last.ckpt").exists()
    assert {path.name for path in (run / "csv/version_0").iterdir()} == {
        *("config.yaml", "hparams.yaml", "machine.json", "metrics.csv"),
    }
