"""Leak checks that hold for every test that starts collectors."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# one import of torch for all the processes that tests start
multiprocessing.get_context("forkserver").set_forkserver_preload(["lightning_a3c.worker"])


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
