"""Loggers and callbacks know the last update, however training ends; watchers wait for the first episode."""

import copy
import csv
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_a3c import (
    A3CModule,
    CollectorDataModule,
    EnvConfig,
    GradientParallel,
    StopAfterEnvSteps,
    StopOnSignal,
    StopWhenSolved,
)
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.learning.non_finite import NonFiniteLoss
from lightning_a3c.rl.types import Batch
from lightning_a3c.viewing.report import headline
from lightning_a3c.viewing.runs import read_run

MODES = ["data", "gradient"]
OF_MODE = {"data": {"grad_norm", "skipped_updates"}, "gradient": {"grad_norm", "worker_grad_norm", "dropped_gradients"}}


def data(**changes: object) -> CollectorDataModule:
    values = {"num_workers": 0, "micro_batch_size": 16, "batch_size": 32, "updates_per_epoch": 9, "seed": 0}
    return CollectorDataModule(EnvConfig("CartPole-v1", num_envs=4), **(values | changes))


def trainer(mode: str, folder: Path, *callbacks: pl.Callback, **changes: object) -> pl.Trainer:
    values = {
        "accelerator": "cpu",
        "max_epochs": -1,
        "logger": [CSVLogger(folder, name="", version=""), TensorBoardLogger(folder, name="board", version="")],
        "log_every_n_steps": 7,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    own = [GradientParallel()] if mode == "gradient" else []
    return pl.Trainer(callbacks=[*own, *callbacks], **(values | changes))


def rows(folder: Path) -> list[dict[str, float]]:
    """The rows of training, without what they lack."""
    with (folder / "metrics.csv").open(newline="") as file:
        table = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in table if "env_steps" in row]


class AfterUpdate(pl.Callback):
    """Calls `do` after one update, or before the next."""

    def __init__(self, do: Callable[[pl.Trainer], object], update: int = 23, before_next: bool = False) -> None:
        self.do = do
        self.update = update
        self.before_next = before_next

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if not self.before_next and trainer.global_step == self.update:
            self.do(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        if self.before_next and trainer.global_step == self.update:
            self.do(trainer)


def stop(trainer: pl.Trainer) -> None:
    trainer.should_stop = True


def fail(trainer: pl.Trainer) -> None:
    raise WorkerError("on purpose")


def send(number: int) -> Callable[[pl.Trainer], None]:
    return lambda trainer: os.kill(os.getpid(), number)


ENDS: dict[str, tuple[list[pl.Callback], dict[str, object], int]] = {  # with the number of updates
    "max_steps": ([], {"max_steps": 23}, 23),
    "max_steps where a row is due": ([], {"max_steps": 21}, 21),
    "max_epochs": ([], {"max_epochs": 3}, 27),
    "env steps": ([StopAfterEnvSteps(740)], {}, 23),
    "a callback": ([AfterUpdate(stop)], {}, 23),
    "early stopping": ([EarlyStopping("env_steps", patience=1, min_delta=1e9)], {}, 18),
    "early stopping in an epoch": (
        [EarlyStopping("env_steps", patience=2, min_delta=1e9, check_on_train_epoch_end=False)],
        {"val_check_interval": 4},
        13,
    ),
    "min_steps": ([AfterUpdate(stop)], {"min_steps": 26}, 26),
    "an error": ([AfterUpdate(fail)], {}, 23),
    "an error while the next batch comes": ([AfterUpdate(fail, before_next=True)], {}, 23),
    "SIGTERM": ([AfterUpdate(send(signal.SIGTERM))], {}, 23),
    "SIGUSR1": ([StopOnSignal(), AfterUpdate(send(signal.SIGUSR1))], {}, 23),
    "Ctrl-C": ([AfterUpdate(send(signal.SIGINT), before_next=True)], {}, 23),
}


def expected_error(end: str) -> AbstractContextManager[object]:
    errors = {"an error": WorkerError, "SIG": SIGTERMException, "Ctrl-C": SystemExit}
    return next((pytest.raises(error) for words, error in errors.items() if end.startswith(words)), nullcontext())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ENDS)
def test_the_last_row_is_the_last_updates_however_training_ends(end: str, mode: str, tmp_path: Path) -> None:
    callbacks, options, updates = ENDS[end]
    stream = data(validate_in_fit="val_check_interval" in options, eval_episodes=1)
    module = A3CModule.for_data(stream, mode=mode)
    run = trainer(mode, tmp_path, *copy.deepcopy(callbacks), **options)
    own_handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning replaces at Ctrl-C
    try:
        with expected_error(end):
            run.fit(module, datamodule=stream)
    finally:
        signal.signal(signal.SIGINT, own_handler)

    logged = rows(tmp_path)
    last = logged[-1]
    assert [row["step"] for row in logged] == sorted({row["step"] for row in logged})
    assert last["step"] == updates - 1
    assert last["epoch"] == (updates - 1) // 9
    assert last["env_steps"] == module.progress.env_steps == run.callback_metrics["env_steps"]
    assert last["return_100"] == pytest.approx(module.progress.mean_return)
    assert OF_MODE[mode] | {"loss_total", "policy_lag", "steps/s"} <= set(last)
    for name in set(last) & set(run.callback_metrics):
        assert run.callback_metrics[name].item() == pytest.approx(last[name], nan_ok=True), name
    board = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [point.step for point in board.Scalars("env_steps")] == [row["step"] for row in logged]
    assert board.Scalars("env_steps")[-1].value == module.progress.env_steps


def test_a_checkpoint_saved_for_an_error_is_named_after_the_last_update(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "saved", filename="{env_steps:.0f}", save_on_exception=True)
    stream = data()
    module = A3CModule.for_data(stream)
    with pytest.raises(WorkerError):
        trainer("data", tmp_path, AfterUpdate(fail), checkpoint).fit(module, datamodule=stream)
    assert (tmp_path / "saved" / f"env_steps={module.progress.env_steps}.ckpt").exists()


def test_checkpoints_by_steps_are_named_after_their_own_update(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "saved", filename="{env_steps:.0f}", every_n_train_steps=7, save_top_k=-1)
    stream = data()
    trainer("data", tmp_path, checkpoint, max_steps=21).fit(A3CModule.for_data(stream), datamodule=stream)
    saved = [torch.load(path, weights_only=True)["progress"]["env_steps"] for path in tmp_path.glob("saved/*.ckpt")]
    assert {path.name for path in tmp_path.glob("saved/*.ckpt")} == {
        f"env_steps={env_steps}.ckpt" for env_steps in saved
    }
    assert len(saved) == 3


def test_the_last_row_of_a_run_that_bad_gradients_end_counts_them(tmp_path: Path) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: A3CModule, batch: Batch, index: int) -> None:
            if trainer.global_step >= 5:
                batch.payload.returns.fill_(float("nan"))

    stream = data(updates_per_epoch=50)
    module = A3CModule.for_data(stream, max_skipped_in_a_row=3)
    with pytest.raises(NonFiniteLoss):
        trainer("data", tmp_path, Poison(), log_every_n_steps=50).fit(module, datamodule=stream)
    (last,) = rows(tmp_path)
    assert last["step"] == 7
    assert last["skipped_updates"] == 3
    assert last["env_steps"] == module.progress.env_steps


def test_a_report_calls_a_solved_run_solved(tmp_path: Path) -> None:
    config = "trainer: {callbacks: [{class_path: lightning_a3c.StopWhenSolved, init_args: {bound: 5}}]}"
    stream = data(updates_per_epoch=500)
    trainer("data", tmp_path, StopWhenSolved(5), log_every_n_steps=500).fit(
        A3CModule.for_data(stream), datamodule=stream
    )
    (tmp_path / "config.yaml").write_text(config)
    assert headline(read_run(tmp_path)).solved


def test_updates_that_nobody_sees_log_nothing(tmp_path: Path) -> None:
    class Count(A3CModule):
        logged = 0

        def log_dict(self, *args: Any, **kwargs: Any) -> None:
            self.logged += 1
            super().log_dict(*args, **kwargs)

    stream = data()
    module = Count.for_data(stream)
    run = trainer("data", tmp_path, max_steps=24)
    run.fit(module, datamodule=stream)
    assert [row["step"] for row in rows(tmp_path)] == [6, 13, 20, 23]
    seen = len({0, 6, 8, 9, 13, 17, 18, 20, 23})  # first and last of the epochs, and those with a row
    assert module.logged == 4 * seen + 4  # two dictionaries each for losses and clipping; of the last both once more


def test_nothing_is_logged_where_loggers_are_told_to_log_nothing(tmp_path: Path) -> None:
    stream = data()
    run = trainer("data", tmp_path, max_steps=3, log_every_n_steps=0)
    run.fit(A3CModule.for_data(stream), datamodule=stream)
    assert not (tmp_path / "metrics.csv").exists()
    assert run.callback_metrics["env_steps"] > 0


def test_a_solved_run_that_has_to_go_on_is_saved_once(tmp_path: Path) -> None:
    class Saved(A3CModule):
        times = 0

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.times += 1
            super().on_save_checkpoint(checkpoint)

    torch.manual_seed(0)  # some networks learn so fast that 100 episodes take more than 200 updates
    stream = data()
    module = Saved.for_data(stream)
    run = trainer("data", tmp_path, StopWhenSolved(5), min_steps=200, logger=False)
    run.fit(module, datamodule=stream)
    assert run.global_step == 200
    assert module.times == 1


def test_a_module_can_be_copied_while_it_is_trained(tmp_path: Path) -> None:
    copies: list[A3CModule] = []
    stream = data()
    module = A3CModule.for_data(stream)
    copying = AfterUpdate(lambda trainer: copies.append(pickle.loads(pickle.dumps(trainer.lightning_module))), update=2)
    trainer("data", tmp_path, copying, max_steps=3, logger=False).fit(module, datamodule=stream)
    assert copies[0].progress.env_steps < module.progress.env_steps


class SeesStopper(pl.Callback):
    """Notes whether an episode has ended, and how long early stopping has waited, before each epoch's check."""

    def __init__(self) -> None:
        self.waits: list[tuple[bool, int]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, A3CModule)
        (stopper,) = trainer.early_stopping_callbacks
        self.waits.append((bool(pl_module.progress.returns), stopper.wait_count))


@pytest.mark.parametrize(
    ("mode", "monitor", "validates"),
    [
        ("data", "return_100", False),
        ("data", "return_100", True),
        ("data", "return", False),
        ("data", "episode_length", False),
        ("gradient", "return_100", False),
        ("gradient", "return_100", True),
    ],
)
def test_watchers_of_episodes_wait_for_the_first_one(mode: str, monitor: str, validates: bool, tmp_path: Path) -> None:
    script = [([0.0] * 9, "terminated")] * 2  # an epoch is 2 steps of all environments
    stream = CollectorDataModule(
        EnvConfig("tests.scripted:Scripted-v0", num_envs=4, kwargs={"script": script}),
        num_workers=0,
        n_steps=1,
        micro_batch_size=4,
        batch_size=4,
        updates_per_epoch=2,
        validate_in_fit=validates,
        eval_episodes=1,
    )
    scheduler = {
        "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
        "init_args": {"monitor": monitor, "patience": 0, "factor": 0.5, "mode": "max", "threshold_mode": "abs"},
    }
    module = A3CModule.for_data(stream, mode=mode, lr_scheduler=scheduler)
    stopper = EarlyStopping(monitor, mode="max", patience=1)
    checkpoint = ModelCheckpoint(tmp_path, monitor=monitor, mode="max", save_last=True)
    sees = SeesStopper()
    run = trainer(mode, tmp_path, stopper, checkpoint, sees, max_epochs=6, logger=False)
    run.fit(module, datamodule=stream)
    assert [has_ended for has_ended, _ in sees.waits] == [False, False, False, False, True]
    assert all(wait <= 0 for _, wait in sees.waits)
    assert (run.current_epoch, stopper.wait_count, stopper.check_finite) == (5, 1, True)
    assert checkpoint.best_model_score == (9 if monitor == "episode_length" else 0)
    assert run.optimizers[0].param_groups[0]["lr"] == 0.5e-3  # one bad epoch, the one after the first with an episode
