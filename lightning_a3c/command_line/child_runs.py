"""Runs of `fit` as processes of their own, one after the other, and what they tell. Loads no Lightning."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed"
        feed.touch()
        variables = os.environ | _SAFE | {FEED: str(feed)}
        # in a group of its own, or Ctrl-C would reach it twice, and the second one ends a run at once
        process = subprocess.Popen([*_START, *args], env=variables, process_group=0)
        told: dict[str, Any] = {}
        is_stopped = False
        with _passing_signals_to(process) as received, feed.open() as lines:
            while True:
                code = _wait(process)
                for line in lines:
                    told |= json.loads(line)
                    if not is_stopped and "env_steps" in told and not report(told):
                        is_stopped = True
                        process.send_signal(signal.SIGTERM)
                if code is not None:
                    return Outcome(128 + received[0] if received else code, **told)


def check_fit(args: Sequence[str]) -> None:
    """Let `fit` parse `args` without running; raises SystemExit if it refuses them, in its own line."""
    command = [*_START, *args, "--print_config"]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | _SAFE).returncode:
        raise SystemExit(code)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Wait a moment for the end of a process and return its exit code; None if it goes on."""
    try:
        return process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass on signals that end a run; gives the list of those received."""
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in _STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.path.append(os.getcwd())  # last, as the console script has it
    runpy.run_module("lightning_a3c", run_name="__main__")
