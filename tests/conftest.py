"""Leak checks that hold for every test that starts collectors, and one real run to look at."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# one import of torch for all the processes that tests start
multiprocessing.get_context("forkserver").set_forkserver_preload(["lightning_a3c.collection.processes.preload"])


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Every worker a test starts is gone when it ends, and /dev/shm holds what it held before."""
    before = set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()
    yield
    deadline = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()
    if Path("/dev/shm").is_dir():
        left = {name for name in set(os.listdir("/dev/shm")) - before if name.startswith(("torch_", "psm_", "pym-"))}
        assert not left


@pytest.fixture(scope="session")
def cartpole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short real run of the command line, with videos, and with a test of its last checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    own = [sys.executable, "-m", "lightning_a3c"]
    config = [f"--config={Path(__file__).parents[1] / 'configs/cartpole_data.yaml'}", "--data.num_workers=1"]
    video = ["--trainer.callbacks+=lightning_a3c.RecordVideo", "--trainer.callbacks.every_updates=60"]
    short = ["--trainer.max_steps=120", "--trainer.log_every_n_steps=5"]
    run = folder / "runs/cartpole_data"
    tested = ["--data.eval_episodes=4", f"--ckpt_path={run / 'checkpoints/last.ckpt'}"]
    for command in (["fit", *config, *video, *short], ["test", *config, *video, *tested]):
        subprocess.run([*own, *command], cwd=folder, capture_output=True, check=True, timeout=100)
    return run
