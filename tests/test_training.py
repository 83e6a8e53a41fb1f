"""Training as users run it: trainer.fit with real collectors."""

import gc
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_a3c import (
    A3CModule,
    CollectorDataModule,
    EnvConfig,
    GradientParallel,
    StopAfterEnvSteps,
    StopOnSignal,
    StopWhenSolved,
)
from lightning_a3c.learning.non_finite import NonFiniteLoss
from lightning_a3c.learning.restoring import CheckpointMismatch
from tests.command_line import lightning_a3c

MODES = ["data", "gradient"]
GRADIENT_ONLY = ["worker_grad_norm", "dropped_gradients"]


def data(**changes: object) -> CollectorDataModule:
    values = {
        "env": EnvConfig("CartPole-v1", num_envs=4),
        "num_workers": 0,
        "micro_batch_size": 16,
        "batch_size": 32,
        "updates_per_epoch": 10,
        "seed": 3,
    }
    return CollectorDataModule(**(values | changes))


def trainer(mode: str, folder: Path, *callbacks: pl.Callback, **changes: object) -> pl.Trainer:
    own = [GradientParallel()] if mode == "gradient" else []
    values = {
        "accelerator": "cpu",
        "max_steps": 25,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    }
    return pl.Trainer(callbacks=[*own, *callbacks], **(values | changes))


@pytest.mark.parametrize("mode", MODES)
def test_an_update_is_a_global_step_and_moves_the_weights(mode: str, tmp_path: Path) -> None:
    stream = data(num_workers=2)
    module = A3CModule.for_data(stream, mode=mode)
    before = [parameter.clone() for parameter in module.parameters()]
    run = trainer(mode, tmp_path)
    run.fit(module, datamodule=stream)
    assert run.global_step == 25
    assert module.progress.env_steps >= 25 * 32
    assert all(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_every_documented_metric_is_logged(mode: str, tmp_path: Path) -> None:
    stream = data()
    module = A3CModule.for_data(stream, mode=mode)
    run = trainer(mode, tmp_path)
    run.fit(module, datamodule=stream)
    documented = Path(__file__).parents[1].joinpath("docs/metrics.md").read_text()
    logged = {name for name in run.callback_metrics if not name.endswith(("_step", "_epoch"))}
    expected = {"return", "return_100", "steps/s", "advantage", "value", "batch_return", "loss_entropy", "loss_policy"}
    expected |= {"loss_value", "loss_total", "entropy", "grad_norm", "explained_variance", "policy_lag", "queue_fill"}
    expected |= {"policy_lag_worst"}
    expected |= {"policy_kl", "importance_ratio", "train_seconds", "env_steps", "frames", "episodes", "episode_length"}
    expected |= {"worker_restarts", *(GRADIENT_ONLY if mode == "gradient" else ["skipped_updates"])}
    assert logged == expected
    assert [name for name in logged if f"`{name}`" not in documented] == []


@pytest.mark.parametrize(("mode", "num_workers"), [("data", 0), ("gradient", 0), ("data", 2)])
def test_a_resumed_run_continues_optimizer_counters_and_window(mode: str, num_workers: int, tmp_path: Path) -> None:
    stream = data(num_workers=num_workers)
    module = A3CModule.for_data(stream, mode=mode)
    run = trainer(mode, tmp_path)
    run.fit(module, datamodule=stream)
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = module.progress.state_dict()
    assert 0 < len(saved["returns"]) < 90  # the window has room for what the next update adds

    stream = data(num_workers=num_workers)
    resumed = A3CModule.for_data(stream, mode=mode)
    again = trainer(mode, tmp_path, max_steps=26)
    again.fit(resumed, datamodule=stream, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert again.global_step == 26
    assert saved["env_steps"] < resumed.progress.env_steps <= saved["env_steps"] + 3 * 32
    assert resumed.progress.episodes >= saved["episodes"]
    assert list(resumed.progress.returns)[: len(saved["returns"])] == saved["returns"]
    assert {int(state["step"]) for state in again.optimizers[0].state.values()} == {26}


@pytest.mark.parametrize("mode", MODES)
def test_checkpoints_schedules_and_loggers_follow_the_updates(mode: str, tmp_path: Path) -> None:
    stream = data()
    scheduler = {"class_path": "torch.optim.lr_scheduler.LinearLR", "init_args": {"total_iters": 25, "end_factor": 0.1}}
    module = A3CModule.for_data(stream, mode=mode, lr_scheduler=scheduler)
    checkpoints = ModelCheckpoint(dirpath=tmp_path / "ckpt", every_n_train_steps=10, save_top_k=-1, filename="{step}")
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    run = trainer(
        mode,
        tmp_path,
        checkpoints,
        LearningRateMonitor(logging_interval="step"),
        logger=logger,
        log_every_n_steps=5,
    )
    run.fit(module, datamodule=stream)
    assert {path.name for path in (tmp_path / "ckpt").iterdir()} == {"step=10.ckpt", "step=20.ckpt"}
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)
    rows = Path(logger.log_dir, "metrics.csv").read_text().splitlines()
    step = rows[0].split(",").index("step")
    loss = rows[0].split(",").index("loss_total")
    assert [int(row.split(",")[step]) for row in rows[1:] if row.split(",")[loss]] == [4, 9, 14, 19, 24]


@pytest.mark.parametrize("mode", MODES)
def test_validation_runs_between_epochs_when_asked(mode: str, tmp_path: Path) -> None:
    stream = data(validate_in_fit=True, eval_episodes=3)
    module = A3CModule.for_data(stream, mode=mode)
    run = trainer(mode, tmp_path, num_sanity_val_steps=0)
    run.fit(module, datamodule=stream)
    assert run.callback_metrics["val/return_mean"] == run.callback_metrics["val/length_mean"] > 5


def test_test_logs_statistics_of_return_and_length(tmp_path: Path) -> None:
    stream = data(eval_episodes=5)
    with pytest.warns(match="test plays untrained weights"):
        (metrics,) = trainer("data", tmp_path).test(A3CModule.for_data(stream), datamodule=stream, verbose=False)
    hows = ("mean", "std", "median", "min", "max")
    names = {f"test/{what}_{how}" for what in ("return", "length") for how in hows}
    assert set(metrics) == names | {"test/return_mean_low", "test/return_mean_high"}
    assert metrics["test/return_min"] <= metrics["test/return_mean_low"] <= metrics["test/return_mean"]
    assert metrics["test/return_mean"] <= metrics["test/return_mean_high"] <= metrics["test/return_max"]


class Trained(NamedTuple):
    """A module after one update, and its checkpoint."""

    module: A3CModule
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """For tests that only read it."""
    folder = tmp_path_factory.mktemp("trained")
    stream = data()
    module = A3CModule.for_data(stream)
    run = trainer("data", folder, max_steps=1)
    run.fit(module, datamodule=stream)
    run.save_checkpoint(folder / "a.ckpt")
    return Trained(module, folder / "a.ckpt")


def test_a_checkpoint_opens_without_executing_code_and_acts(trained: Trained) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    assert content["hyper_parameters"]["task"]["env_id"] == "CartPole-v1"
    loaded = A3CModule.load_from_checkpoint(trained.checkpoint, weights_only=True)
    observations = torch.randn(7, 4)
    assert torch.equal(loaded(observations)[0], trained.module(observations)[0])
    assert loaded.act(observations, greedy=True).shape == (7,)


def test_a_checkpoint_of_another_environment_is_refused_by_name(trained: Trained, tmp_path: Path) -> None:
    other = data(env=EnvConfig("Acrobot-v1", num_envs=4))
    with pytest.raises(CheckpointMismatch, match=r"trained with observation_shape .*4.* this run has .*6"):
        trainer("data", tmp_path).fit(A3CModule.for_data(other), datamodule=other, ckpt_path=trained.checkpoint)


def test_a_checkpoint_of_another_network_is_refused_by_name(trained: Trained, tmp_path: Path) -> None:
    network = {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"hidden_sizes": [8]}}
    module = A3CModule.for_data(data(), network=network)
    with pytest.raises(CheckpointMismatch, match="holds another network than MLP as configured here"):
        trainer("data", tmp_path).fit(module, datamodule=data(), ckpt_path=trained.checkpoint)


def test_training_stops_after_the_env_steps_asked_for(tmp_path: Path) -> None:
    stream = data()
    module = A3CModule.for_data(stream)
    trainer("data", tmp_path, StopAfterEnvSteps(500), max_steps=-1, max_epochs=-1).fit(module, datamodule=stream)
    assert 500 <= module.progress.env_steps < 500 + 2 * 32


def test_solved_needs_a_hundred_episodes_and_saves_a_checkpoint(tmp_path: Path) -> None:
    stream = data()
    module = A3CModule.for_data(stream)
    trainer("data", tmp_path, StopWhenSolved(bound=5), max_steps=2000).fit(module, datamodule=stream)
    assert 100 <= module.progress.episodes < 110
    assert torch.load(tmp_path / "solved.ckpt", weights_only=True)["progress"]["episodes"] == module.progress.episodes


def test_an_exception_in_training_ends_the_workers_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
            if trainer.global_step == 7:
                raise RuntimeError("broken on purpose")

    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_on_exception=True)
    stream = data(num_workers=2)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        trainer("data", tmp_path, Breaks(), checkpoint).fit(A3CModule.for_data(stream), datamodule=stream)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 7


class WatchNorms(pl.Callback):
    """Keeps the norms of the gradients that optimizers get."""

    def __init__(self, order: float = 2.0) -> None:
        self.order = order
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: A3CModule, *args: object) -> None:
        self.norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters()]).norm(self.order)))


@pytest.mark.parametrize(("algorithm", "order"), [("norm", 2.0), ("value", float("inf"))])
def test_gradients_are_clipped_as_the_trainer_says(algorithm: str, order: float, tmp_path: Path) -> None:
    watch = WatchNorms(order)
    clip = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    stream = data()
    trainer("data", tmp_path, watch, max_steps=3, **clip).fit(A3CModule.for_data(stream), datamodule=stream)
    assert watch.norms == pytest.approx([1e-3] * 3, rel=1e-3)


def test_gradients_are_clipped_where_the_trainer_says_nothing_and_not_where_it_says_zero(tmp_path: Path) -> None:
    for clip, is_clipped in (({}, True), ({"gradient_clip_val": 0.0}, False)):
        watch, stream = WatchNorms(), data()
        module = A3CModule.for_data(stream, value_weight=1e3)
        trainer("data", tmp_path, watch, max_steps=3, **clip).fit(module, datamodule=stream)
        assert [norm == pytest.approx(0.5, rel=1e-3) for norm in watch.norms] == [is_clipped] * 3


def poison(monkeypatch: pytest.MonkeyPatch, updates: set[int]) -> None:
    """Make the returns of these updates, counted from 0, NaN."""
    step = A3CModule.training_step

    def poisoned(self: A3CModule, batch: object, batch_idx: int) -> object:
        if batch_idx in updates:
            batch.payload.returns.fill_(float("nan"))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(A3CModule, "training_step", poisoned)


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2, 3, 7})
    stream = data()
    module = A3CModule.for_data(stream, max_skipped_in_a_row=3)
    run = trainer("data", tmp_path, max_steps=10)
    run.fit(module, datamodule=stream)
    assert module.skipped_updates == run.callback_metrics["skipped_updates"] == 3
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert {int(state["step"]) for state in run.optimizers[0].state.values()} == {7}


def test_too_many_skipped_updates_in_a_row_end_training_with_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {4, 5, 6})
    stream = data()
    module = A3CModule.for_data(stream, max_skipped_in_a_row=3)
    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_on_exception=True)
    with pytest.raises(NonFiniteLoss, match=r"3 in a row: .*gradient norm nan; .*lower the learning rate"):
        trainer("data", tmp_path, checkpoint, max_steps=10).fit(module, datamodule=stream)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {int(state["step"]) for state in saved["optimizer_states"][0]["state"].values()} == {4}
    assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values())


class Interrupting(io.RawIOBase):
    """A stream in the middle of whose first write SIGTERM arrives."""

    def __init__(self) -> None:
        self.signals = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if not self.signals:
            self.signals += 1
            os.kill(os.getpid(), signal.SIGTERM)
        return len(content)


class LogsToInterrupting(pl.Callback):
    """Logs lines to a standard error whose first write SIGTERM interrupts."""

    def __init__(self) -> None:
        self.raw = Interrupting()
        self.errors = io.TextIOWrapper(io.BufferedWriter(self.raw), line_buffering=True)

    def on_train_batch_end(self, *args: object) -> None:
        logger, handler = logging.getLogger("pytorch_lightning"), logging.StreamHandler(self.errors)
        logger.addHandler(handler)
        with redirect_stderr(self.errors):
            logger.warning("a line")
        logger.removeHandler(handler)


def test_sigterm_in_the_middle_of_a_log_line_ends_training(tmp_path: Path) -> None:
    stream = data()
    module = A3CModule.for_data(stream)
    callback = LogsToInterrupting()
    with pytest.raises(SIGTERMException):
        trainer("data", tmp_path, callback, StopOnSignal(), max_steps=10).fit(module, datamodule=stream)
    assert callback.raw.signals == 1


class Sends(pl.Callback):
    """Sends a signal to its own process after the third update."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), self.number)


def endless(folder: Path, *callbacks: str) -> list[str]:
    """Arguments of a run without end that leaves a checkpoint when it is interrupted."""
    saves = f"{{dirpath: {folder}, save_last: true, save_on_exception: true}}"
    saver = f"{{class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args: {saves}}}"
    options = ["--trainer.max_epochs=-1", "--trainer.logger=false", "--data.num_workers=2"]
    return ["fit", *options, f"--trainer.callbacks=[{', '.join([saver, *callbacks])}]"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_command_line_with_its_code_and_leaves_a_checkpoint(
    sent: signal.Signals, tmp_path: Path
) -> None:
    sends = f"{{class_path: tests.test_training.Sends, init_args: {{number: {int(sent)}}}}}"
    done = lightning_a3c(*endless(tmp_path, sends), folder=tmp_path)
    assert done.returncode == 128 + sent, done.stderr
    assert "Traceback" not in done.stderr
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


OTHER_SIGNALS = [  # they share their handler with the first
    pytest.param(sent, send, marks=pytest.mark.slow)
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    for send in (os.kill, os.killpg)
    if (sent, send) != (signal.SIGINT, os.killpg)
]


@pytest.mark.parametrize(("sent", "send"), [(signal.SIGINT, os.killpg), *OTHER_SIGNALS])
def test_a_signal_to_the_whole_group_or_the_learner_alone_ends_every_process(
    sent: signal.Signals, send: Callable[[int, int], None], tmp_path: Path
) -> None:
    # terminals and schedulers send to the whole group
    command = [sys.executable, "-m", "lightning_a3c", *endless(tmp_path)]
    # a shell's background job is born with Ctrl-C ignored, and so would its children be
    own_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, own_handler)
    try:
        assert run.stderr is not None
        next(line for line in run.stderr if "updates" in line)
        helpers = children_of(run.pid)  # multiprocessing's fork server, whose children the workers are, and another
        workers = [worker for helper in helpers for worker in children_of(helper)]
        assert holds(lambda: all(unmasked(worker) for worker in workers))  # soon after they have started
        assert not any(unmasked(helper) for helper in helpers)
        send(run.pid, sent)
        errors = run.stderr.read()
        assert run.wait(timeout=100) == 128 + sent
    finally:
        run.kill()
        run.communicate()
    assert len(workers) == 2
    assert "Traceback" not in errors
    assert holds(lambda: all(gone(pid) for pid in helpers + workers))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] > 0


SLOW_TO_STOP = """
import time

import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, StopOnSignal


class Slow(pl.Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 1:
            print("training", flush=True)

    def on_exception(self, trainer, pl_module, exception):
        print("stopping", flush=True)
        time.sleep(60)


if __name__ == "__main__":
    data = CollectorDataModule(num_workers=1)
    trainer = pl.Trainer(
        max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[StopOnSignal(), Slow()],
    )
    trainer.fit(A3CModule.for_data(data), datamodule=data)
"""


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SLOW_TO_STOP)
    own_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, own_handler)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "training\n"
        helpers = children_of(run.pid)
        workers = [worker for helper in helpers for worker in children_of(helper)]
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == "stopping\n"
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=40) == -signal.SIGINT  # sooner than it would stop by itself
    finally:
        run.kill()
        run.communicate()
    assert holds(lambda: all(gone(pid) for pid in workers + helpers))
    assert len(workers) == 1


class StopsWorkers(pl.Callback):
    """Stops all workers after the third update; SIGTERM comes while the learner waits for them."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == 3:
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            for worker in workers:
                os.kill(worker.pid, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()


def test_sigterm_is_heard_while_no_worker_sends_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_a3c.collection.processes.pool._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("lightning_a3c.collection.processes.pool._STOP_SECONDS", 0.1)
    saves = ModelCheckpoint(tmp_path, save_last=True, save_on_exception=True)
    stream = data(num_workers=2)
    with pytest.raises(SIGTERMException):
        trainer("data", tmp_path, saves, StopsWorkers(), max_steps=-1, max_epochs=-1).fit(
            A3CModule.for_data(stream), datamodule=stream
        )
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] >= 3


def holds(condition: Callable[[], bool]) -> bool:
    """Whether it is true within a minute."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def unmasked(pid: int) -> bool:
    """Whether signals that end a process would reach it, rather than be blocked or ignored."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    bit = 1 << (signal.SIGTERM - 1)
    return not (int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) & bit


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


CONFIGS = Path(__file__).parents[1] / "configs"


def returns_of_run(folder: Path, config: str, checkpoint: str, *options: str) -> list[float]:
    """Train by the command line as `config` says; the last returns that `checkpoint` has kept."""
    command = [sys.executable, "-m", "lightning_a3c", "fit", f"--config={CONFIGS / config}", *options]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    (path,) = folder.rglob(checkpoint)
    returns: list[float] = torch.load(path, weights_only=True)["progress"]["returns"]
    return returns


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("config", ["cartpole_data.yaml", "cartpole_grad.yaml"])
def test_cartpole_is_solved_by_real_workers(config: str, tmp_path: Path) -> None:
    returns = returns_of_run(tmp_path, config, "solved.ckpt", "--trainer.max_time=00:00:09:00")
    assert len(returns) == 100
    assert sum(returns) / 100 > 475


def test_three_fits_at_once_all_train_and_leave_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True}, raising=False)
    before = process_state()
    made = {}

    def fit(number: int, mode: str, updates: int) -> None:
        played = data(num_workers=2, seed=number)
        module = A3CModule.for_data(played, mode=mode)
        own = trainer(mode, tmp_path, max_steps=updates)
        own.fit(module, datamodule=played)
        made[number] = own.global_step

    fits = [threading.Thread(target=fit, args=args) for args in ((0, "data", 10), (1, "gradient", 20), (2, "data", 30))]
    for thread in fits:
        thread.start()
    for thread in fits:
        thread.join()
    assert made == {0: 10, 1: 20, 2: 30}
    assert process_state() == before


def process_state() -> dict[str, Any]:
    """Settings that a process has one of, though any of its threads may change them."""
    script = sys.modules["__main__"]
    threads: list[int] = []
    fresh = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    return {
        "script": (id(script), script.__file__, script.__spec__),
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "threads": [torch.get_num_threads(), *threads],
        "matmul": torch.get_float32_matmul_precision(),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "warnings": list(warnings.filters),
        "garbage": gc.isenabled(),
    }
