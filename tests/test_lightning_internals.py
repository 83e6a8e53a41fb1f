"""The private names of Lightning and multiprocessing that this package uses do what it assumes, as installed."""

import subprocess
import sys
from datetime import timedelta
from multiprocessing import forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy

from lightning_a3c import A3CModule, CollectorDataModule
from lightning_a3c.learning.lightning_internals import (
    finds_unused_parameters,
    leave_out_sigterm_broadcast,
    logger_step,
    loggers_are_due,
    logging_as,
    receive_sigterm,
    starts_learner_elsewhere,
    timeout_of,
)

SILENT = {"accelerator": "cpu", "enable_checkpointing": False, "enable_progress_bar": False}


@pytest.mark.parametrize(
    ("strategy", "elsewhere"), [("auto", False), ("ddp", False), ("ddp_spawn", True), ("ddp_notebook", True)]
)
def test_strategies_that_start_the_learner_in_another_process_are_known(strategy: str, elsewhere: bool) -> None:
    devices = 1 if strategy == "auto" else 2
    assert starts_learner_elsewhere(pl.Trainer(**SILENT, logger=False, strategy=strategy, devices=devices)) is elsewhere


def test_the_timeout_and_the_search_for_unused_parameters_are_those_of_the_strategy() -> None:
    def trainer(**options: object) -> pl.Trainer:
        return pl.Trainer(**SILENT, logger=False, devices=2, strategy=DDPStrategy(**options))

    assert timeout_of(trainer(timeout=timedelta(seconds=7))) == timedelta(seconds=7)
    assert not finds_unused_parameters(trainer())
    assert finds_unused_parameters(trainer(find_unused_parameters=True))


def test_the_collective_for_sigterm_is_left_out_and_sigterm_is_received_without_it() -> None:
    trainer = pl.Trainer(**SILENT, logger=False)
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)
    leave_out_sigterm_broadcast(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None
    assert not trainer.received_sigterm
    receive_sigterm(trainer)
    assert trainer.received_sigterm


class Observer(pl.Callback):
    """Notes of each update what the functions say, and logs one metric from two hooks."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, int]] = []
        self.keys: list[str] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *args: object) -> None:
        self.seen.append((loggers_are_due(trainer), logger_step(trainer)))
        module.log("metric", 1.0)
        with logging_as(module, "training_step"):
            module.log("metric", 2.0)
        self.keys = sorted(key for key in trainer._results or {} if key.endswith(".metric"))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observer, pl.Trainer]:
    """Of six updates of which every third is logged."""
    data = CollectorDataModule(num_workers=0, micro_batch_size=8, batch_size=8)
    observer = Observer()
    trainer = pl.Trainer(
        **SILENT,
        enable_model_summary=False,
        max_steps=6,
        log_every_n_steps=3,
        logger=CSVLogger(tmp_path_factory.mktemp("logs"), name="", version=""),
        callbacks=[observer],
    )
    trainer.fit(A3CModule.for_data(data), datamodule=data)
    return observer, trainer


def test_loggers_are_due_at_every_so_many_updates(observed: tuple[Observer, pl.Trainer]) -> None:
    assert [is_due for is_due, _ in observed[0].seen] == [False, False, True, False, False, True]


def test_the_loggers_step_counts_updates_that_are_complete(observed: tuple[Observer, pl.Trainer]) -> None:
    observer, trainer = observed
    assert [step for _, step in observer.seen] == [*range(6)]
    assert logger_step(trainer) == 6


def test_a_metric_is_kept_once_for_each_hook_that_it_is_logged_as(observed: tuple[Observer, pl.Trainer]) -> None:
    assert observed[0].keys == ["on_train_batch_end.metric", "training_step.metric"]


def test_the_hook_is_the_old_one_again_after_an_error() -> None:
    module = A3CModule((4,), 2)
    before = module._current_fx_name
    with pytest.raises(EOFError), logging_as(module, "training_step"):
        raise EOFError
    assert module._current_fx_name == before


SERVER_STARTED = """
import os
from multiprocessing import forkserver, resource_tracker

server, tracker = forkserver._forkserver, resource_tracker._resource_tracker
print(server._forkserver_pid, tracker._pid, tracker._fd)
tracker.ensure_running()
forkserver.ensure_running()
os.kill(server._forkserver_pid, 0)
os.kill(tracker._pid, 0)
os.fstat(server._forkserver_alive_fd)
os.fstat(tracker._fd)
server._stop()
print(server._forkserver_pid)
server.__init__()
print(server._forkserver_pid, server._forkserver_alive_fd)
"""


def test_multiprocessing_keeps_its_helpers_under_the_names_that_the_fork_server_module_uses() -> None:
    done = subprocess.run([sys.executable, "-c", SERVER_STARTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None None None\nNone\nNone None\n", "")


def test_multiprocessing_pickles_a_process_after_it_has_looked_for_the_script() -> None:
    """`ForkedProcess.__getstate__`, which is then called, shows the script again."""
    source = Path(popen_forkserver.__file__).read_text()
    assert source.index("spawn.get_preparation_data(") < source.index("reduction.dump(process_obj")
    assert hasattr(ForkServerProcess, "_Popen")
    assert hasattr(forkserver._forkserver, "ensure_running")
    assert hasattr(resource_tracker._resource_tracker, "ensure_running")
