"""Leak checks that hold for every test that starts collectors, and one real run to look at."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import VectorEnv
from hypothesis import HealthCheck, settings

from lightning_a3c.environments.atari import AtariConfig
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_vector_env
from tests.command_line import lightning_a3c

SHARED_MEMORY = Path("/dev/shm")
EXIT_SECONDS = 30.0  # for processes that have been told to end

# networks here are small, and on a busy machine threads of PyTorch wait for each other most of the time
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # in programs that tests start

# Ray reads it when it is imported: clusters of tests cannot be reached from the network
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

# a busy machine may take long for any example
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# one import of torch for all the processes that tests start
multiprocessing.get_context("forkserver").set_forkserver_preload(["lightning_a3c.collection.processes.preload"])


def pytest_collection_finish() -> None:
    """Let garbage collections pass over all that has been imported: half a second each, otherwise."""
    gc.collect()
    gc.freeze()


def shared_memory_files() -> set[str]:
    """The files of PyTorch and multiprocessing, of this process or of others on the machine."""
    names = os.listdir(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else []
    return {name for name in names if name.startswith(("torch_", "psm_", "pym-"))}


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Every worker a test starts is gone when it ends, and /dev/shm holds what it held before."""
    before = shared_memory_files()
    yield
    deadline = time.monotonic() + EXIT_SECONDS
    for process in multiprocessing.active_children():
        process.join(max(0.0, deadline - time.monotonic()))
    left = multiprocessing.active_children()
    for process in left:  # so that they fail this test alone
        process.kill()
        process.join()
    assert not left
    while shared_memory_files() - before and time.monotonic() < deadline:  # others' files come and go
        time.sleep(0.02)
    assert not shared_memory_files() - before


@pytest.fixture(autouse=True)
def envpool_by_name_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps `auto` from EnvPool, which each worker would import for a second; EnvPool's own tests are without this."""
    if request.module.__name__ != "tests.test_envpool":
        monkeypatch.setattr("lightning_a3c.environments.making.plays_the_same", lambda config, spec: False)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Call it to make the monotonic clock of this process run so many times as fast, until the test ends."""

    def run_faster(factor: float) -> None:
        own, begun_at = time.monotonic, time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: begun_at + factor * (own() - begun_at))

    return run_faster


@pytest.fixture(scope="session")
def cartpole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short real run of the command line, with videos, and with a test of its last checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    config = [f"--config={Path(__file__).parents[1] / 'configs/cartpole_data.yaml'}", "--data.num_workers=1"]
    video = ["--trainer.callbacks+=lightning_a3c.RecordVideo", "--trainer.callbacks.every_updates=12"]
    short = ["--trainer.max_steps=24", "--trainer.log_every_n_steps=1"]
    run = folder / "runs/cartpole_data/1"
    tested = ["--data.eval_episodes=4", f"--ckpt_path={run / 'checkpoints/last.ckpt'}"]
    for command in (["fit", *config, *video, *short], ["test", *config, *video, *tested]):
        done = lightning_a3c(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def make() -> Iterator[Callable[..., VectorEnv]]:
    """Builds vector environments and closes them after the test."""
    made: list[VectorEnv] = []

    def build(env_id: str, num_envs: int = 1, **atari: Any) -> VectorEnv:
        made.append(make_vector_env(EnvConfig(id=env_id, num_envs=num_envs, atari=AtariConfig(**atari))))
        return made[-1]

    yield build
    for env in made:
        env.close()


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """Registers ids and forgets them after the test."""
    registered: list[str] = []

    def add(env_id: str, entry_point: Any, **spec: Any) -> str:
        gymnasium.register(env_id, entry_point, **spec)
        registered.append(env_id)
        return env_id

    yield add
    for env_id in registered:
        del gymnasium.registry[env_id]


@pytest.fixture
def register_atari(register: Callable[..., str]) -> Callable[..., str]:
    """Registers a game that skips 4 frames, without sticky actions, with arguments of `ale_py.AtariEnv`."""

    def add(env_id: str, max_episode_steps: int | None = None, additional_wrappers: Any = (), **changes: Any) -> str:
        arguments = {"game": "breakout", "frameskip": 4, "repeat_action_probability": 0.0} | changes
        limits = {"max_episode_steps": max_episode_steps, "additional_wrappers": additional_wrappers}
        return register(env_id, "ale_py.env:AtariEnv", kwargs=arguments, **limits)

    return add
