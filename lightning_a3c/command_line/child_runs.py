"""Runs of `fit` as processes of their own, and what they tell. Loads no Lightning."""

from __future__ import annotations

import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FEED = "LIGHTNING_A3C_FEED"
"""The environment variable with the path of the file that a run of `fit` appends to, one JSON object a line."""

_POLL_SECONDS = 0.5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# this file, not `-c`: Lightning starts further learners by the same path. Nothing comes before the installed modules
_START = [sys.executable, str(Path(__file__).absolute()), "fit"]
_SAFE = {"PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Args:
        code: exit code of its process, negative or above 128 after a signal.
        folder: its folder, None if it ended before it had one.
        env_steps: at its end.
        return_100: at its end; None if no episode ended.
        minutes: of training.
        is_solved: whether it met a bound of `StopWhenSolved`.
    """

    code: int
    folder: str | None = None
    env_steps: int = 0
    return_100: float | None = None
    minutes: float = 0.0
    is_solved: bool = False


def run_fit(args: Sequence[str], report: Callable[[dict[str, Any]], bool] = lambda progress: True) -> Outcome:
    """Run `fit` with `args` to its end. Signals to this process go on to the run.

    Args:
        args: what follows the command's name.
        report: gets what the run tells after each epoch, see `run_feed`. False ends the run.
    """
    with _passing_signals() as runs:
        return runs.run(args, report)


def run_fits(args: Mapping[int, Sequence[str]], jobs: int) -> dict[int, Outcome]:
    """Run `fit` several times, some at a time, each of them on its share of the cores. Signals go on to all.

    After a run that fails or is stopped no other one is started.

    Args:
        args: what follows the command's name, by seed; the lines of a run's output begin with its seed.
        jobs: runs at a time, at most as many as there are cores.

    Returns:
        The outcomes of the runs that were started, by seed.
    """
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    cores = usable_cores()
    for at in range(jobs):
        shares.put({*cores[at * len(cores) // jobs : (at + 1) * len(cores) // jobs]})
    is_over = False

    def run(seed: int) -> Outcome | None:
        nonlocal is_over
        if is_over or runs.received:
            return None
        share = shares.get()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share)  # of this thread; the run inherits it
        outcome = runs.run(args[seed], label=f"[seed {seed}] ")
        is_over = is_over or bool(outcome.code)
        shares.put(share)
        return outcome

    with _passing_signals() as runs, ThreadPoolExecutor(jobs) as threads:
        outcomes = dict(zip(args, threads.map(run, args), strict=True))
    return {seed: outcome for seed, outcome in outcomes.items() if outcome is not None}


def usable_cores() -> list[int]:
    """The cores that this process may use; numbered from 0 where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def check_fit(args: Sequence[str]) -> None:
    """Let `fit` parse `args` without running; raises SystemExit if it refuses them, in its own line."""
    command = [*_START, *args, "--print_config"]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | _SAFE).returncode:
        raise SystemExit(code)


def _wait(process: subprocess.Popen[str]) -> int | None:
    """Wait a moment for the end of a process and return its exit code; None if it goes on."""
    try:
        return process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


class _Runs:
    """Runs under way, which get this process's signals."""

    def __init__(self) -> None:
        self.received: list[int] = []
        """The numbers of the signals so far."""
        self._processes: list[subprocess.Popen[str]] = []

    def run(
        self, args: Sequence[str], report: Callable[[dict[str, Any]], bool] = lambda progress: True, label: str = ""
    ) -> Outcome:
        """Run `fit` to its end. With a label, its output passes through this process, which begins each line so."""
        with tempfile.TemporaryDirectory() as folder:
            feed = Path(folder) / "feed"
            feed.touch()
            variables = os.environ | _SAFE | {FEED: str(feed)}
            output: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if label else {}
            # in a group of its own, or Ctrl-C would reach it twice, and the second one ends a run at once
            process = subprocess.Popen(
                [*_START, *args], env=variables, process_group=0, text=True, errors="replace", **output
            )
            told: dict[str, Any] = {}
            is_stopped = False
            with self._passing_to(process), _relayed(process, label), feed.open() as lines:
                while True:
                    code = _wait(process)
                    for line in lines:
                        told |= json.loads(line)
                        if not is_stopped and "env_steps" in told and not report(told):
                            is_stopped = True
                            process.send_signal(signal.SIGTERM)
                    if code is not None:
                        return Outcome(128 + self.received[0] if self.received else code, **told)

    def pass_on(self, number: int, frame: object) -> None:
        self.received.append(number)
        for process in [*self._processes]:
            process.send_signal(number)

    @contextmanager
    def _passing_to(self, process: subprocess.Popen[str]) -> Iterator[None]:
        self._processes.append(process)
        for number in self.received[:1]:  # it came while the process was being started
            process.send_signal(number)
        try:
            yield
        finally:
            self._processes.remove(process)


@contextmanager
def _passing_signals() -> Iterator[_Runs]:
    """Pass on signals that end a run."""
    runs = _Runs()
    previous = {number: signal.signal(number, runs.pass_on) for number in _STOP_SIGNALS}
    try:
        yield runs
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _relayed(process: subprocess.Popen[str], label: str) -> Iterator[None]:
    """Print what a process prints, each line after `label`, if it prints to a pipe."""
    if process.stdout is None:
        yield
        return
    lines = process.stdout

    def relay() -> None:
        try:
            for line in lines:
                sys.stdout.write(f"{label}{line.rstrip()}\n")
                sys.stdout.flush()
        except BrokenPipeError:  # our reader has gone, so the run's has too
            from lightning_a3c.system.files import discard_output  # not above: this file also starts the runs

            discard_output()
            lines.close()

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        lines.close()


if __name__ == "__main__":
    sys.path.append(os.getcwd())  # last, as the console script has it
    runpy.run_module("lightning_a3c", run_name="__main__")
