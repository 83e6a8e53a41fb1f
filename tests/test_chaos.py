"""Workers are killed, stopped, delayed and broken at random, and nothing is lost, doubled, torn or leaked."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel, Supervision
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.rl.types import Batch, Payload, Transitions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENT = Supervision(max_restarts=1000, window=4.0, first_delay=0.05, timeout=8.0)


@contextmanager
def chaos(pids: Callable[[], list[int]], seed: int, pause: float) -> Iterator[list[str]]:
    """Kills or stops a random worker about every `pause` seconds; yields what it did."""
    done: list[str] = []
    ends = threading.Event()

    def disturb() -> None:
        chance = random.Random(seed)
        while not ends.wait(chance.uniform(0.5, 1.5) * pause):
            running = pids()
            if not running:
                continue
            pid = chance.choice(running)
            what = chance.choice(["kill", "stop for a step", "stop"])
            try:
                os.kill(pid, signal.SIGKILL if what == "kill" else signal.SIGSTOP)
                if what == "stop for a step":
                    ends.wait(chance.uniform(0, 1))
                    os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
            done.append(what)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield done
    finally:
        ends.set()
        thread.join()


def constant_payload(
    net: nn.Module, transitions: Transitions, rank: int, update: int, out: Payload | None = None
) -> Transitions:
    """Transitions that are the same number everywhere: a mixture of two messages would show."""
    number = random.randrange(1_000_000)
    return Transitions(
        torch.full((len(transitions.actions), 4), float(number)),
        torch.full_like(transitions.actions, number),
        torch.full_like(transitions.returns, float(number)),
        torch.full_like(transitions.log_probs, float(number)),
    )


def test_messages_stay_whole_and_nothing_leaks_while_workers_are_killed_and_stopped() -> None:
    data = CollectorDataModule(
        EnvConfig("CartPole-v1", num_envs=2),
        num_workers=3,
        micro_batch_size=64,
        batch_size=128,
        updates_per_epoch=1_000_000,
        supervision=PATIENT,
    )
    data.make_payload = constant_payload
    stream = data.dataset(A3CModule.for_data(data).net)
    batches = iter(stream)
    next(batches)
    pool = stream._backend
    assert isinstance(pool, WorkerPool)
    learner, shared = psutil.Process(), set(os.listdir("/dev/shm"))
    memory, descriptors = [], []
    with chaos(lambda: pool.pids, seed=1, pause=1.0) as done:
        for phase in range(3):
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                batch = next(batches)
                for message in range(2):
                    part = slice(64 * message, 64 * (message + 1))
                    numbers = {float(batch.payload.actions[part][0])}
                    for tensor in batch.payload:
                        assert set(tensor[part].flatten().double().tolist()) == numbers
            memory.append(learner.memory_info().rss / 2**20)
            descriptors.append(learner.num_fds())
            assert len(done) >= 3 * (phase + 1)
    restarts = pool.restarts
    stream.close()
    assert restarts >= 5
    assert set(done) == {"kill", "stop for a step", "stop"}
    assert memory[-1] - memory[0] < 50
    assert max(descriptors) - min(descriptors) <= 3 * 2  # a worker that waits for its new start has none
    assert set(os.listdir("/dev/shm")) <= shared


class Ledger(pl.Callback):
    """Counts what the trainer was given and what it applied."""

    def __init__(self) -> None:
        self.batches = 0
        self.env_steps = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self.batches += 1
        self.env_steps += int(batch.stats.env_steps.sum())
        assert len(batch.stats.env_steps) == 2
        assert trainer.global_step == self.batches


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_every_batch_is_one_update_though_workers_break_and_are_killed(mode: str, tmp_path: Path) -> None:
    data = CollectorDataModule(
        EnvConfig("tests.scripted:ChaoticCartPole-v0", num_envs=4),
        num_workers=2,
        micro_batch_size=16,
        batch_size=32,
        updates_per_epoch=50,
        supervision=PATIENT,
    )
    module = A3CModule.for_data(data, mode=mode)
    ledger = Ledger()
    callbacks = [GradientParallel(), ledger] if mode == "gradient" else [ledger]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_time={"seconds": 30},
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    def pids() -> list[int]:
        pool = data._dataset._backend if data._dataset else None
        return pool.pids if isinstance(pool, WorkerPool) else []

    with chaos(pids, seed=2, pause=2.0) as done:
        trainer.fit(module, datamodule=data)
    assert len(done) > 5
    assert trainer.global_step == ledger.batches > 50
    assert module.progress.env_steps == ledger.env_steps
    assert trainer.callback_metrics["worker_restarts"] >= 3
    assert {int(state["step"]) for state in trainer.optimizers[0].state.values()} == {ledger.batches}


def test_cartpole_is_solved_though_a_worker_is_killed_every_second(tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / "configs/cartpole_data.yaml"
    command = [sys.executable, "-m", "lightning_a3c", "fit", f"--config={config}", "--trainer.max_time=00:00:05:00"]
    command += ["--data.supervision.max_restarts=100", "--data.supervision.window=3"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    kills, chance = 0, random.Random(3)

    def kill() -> None:
        nonlocal kills
        while run.poll() is None:
            time.sleep(1)
            with suppress(psutil.NoSuchProcess):  # a process may end between being listed and being looked at
                helpers = psutil.Process(run.pid).children()
                workers = [worker for helper in helpers for worker in helper.children()]
                if workers:
                    chance.choice(workers).kill()
                    kills += 1

    thread = threading.Thread(target=kill)
    thread.start()
    errors = run.communicate()[1]
    thread.join()
    assert run.returncode == 0, errors[-2000:]
    assert kills >= 3  # a fast machine solves it in seconds
    assert errors.count("died with exit code -9") >= kills - 1  # the last kill may come as the run ends
    solved = torch.load(next(tmp_path.rglob("solved.ckpt")), weights_only=True)["progress"]
    assert sum(solved["returns"]) / 100 > 475
