"""What workers have in common with the learner."""

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_a3c.collection.processes.fork_server import ForkedProcess, start_fork_server
from lightning_a3c.collection.processes.process_settings import ProcessSettings, seed_generators


def tell(settings: ProcessSettings, connection: Connection) -> None:
    settings.apply()
    connection.send(ProcessSettings.current())


def in_a_worker() -> ProcessSettings:
    """What `apply` leaves in a process from the fork server."""
    ours, theirs = start_fork_server().Pipe()
    process = ForkedProcess(target=tell, args=(ProcessSettings.current(), theirs), daemon=True)
    process.start()
    told: ProcessSettings = ours.recv()
    process.join()
    return told


def test_variables_set_changed_and_removed_after_the_server_was_started_reach_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_fork_server()
    monkeypatch.setenv("SIMULATOR", "1")
    monkeypatch.setenv("OTHER", "ü = 3\n")
    assert in_a_worker().variables == {**os.environ, "OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("SIMULATOR", "2")
    monkeypatch.delenv("OTHER")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert in_a_worker().variables == {**os.environ, "OMP_NUM_THREADS": "1"}


def test_workers_run_in_the_learners_folder_and_on_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_fork_server()
    monkeypatch.chdir(tmp_path)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        told = in_a_worker()
    finally:
        os.sched_setaffinity(0, cores)
    assert (told.folder, told.cores) == (str(tmp_path), {min(cores)})


def test_workers_compute_with_the_learners_defaults() -> None:
    start_fork_server()
    errors = np.seterr(over="raise")
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        told = in_a_worker()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)
        np.seterr(**errors)
    assert (told.dtype, told.is_deterministic, told.only_warns) == (torch.float64, True, True)
    assert told.numpy_errors["over"] == "raise"


def draw() -> list[Any]:
    import random

    return [random.random(), float(np.random.random()), float(torch.rand(1))]


def test_generators_are_seeded_by_all_that_is_given() -> None:
    states = torch.get_rng_state(), np.random.get_state()
    drawn = []
    for entropy in ((3, 0), (3, 1), (3, 0)):
        seed_generators(*entropy)
        drawn.append(draw())
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    assert drawn[0] == drawn[2]
    assert all(one != other for one, other in zip(drawn[0], drawn[1], strict=True))
