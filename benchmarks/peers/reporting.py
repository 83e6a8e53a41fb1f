"""What each script of this folder reports to `benchmarks/peers.py`. Imports no learning library."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

sys.path.append(str(Path(__file__).parents[1]))

from arguments import duration
from measuring import Window

SOLVED = 18.0  # the mean return of the last `EPISODES` must exceed it
EPISODES = 100
FRAME_SKIP = 4
LOOK_INTERVAL = 1.0  # seconds between looks at the returns
ROW_INTERVAL = 5.0  # seconds between points of the curve


class Run:
    """One training: says when to stop, and writes what it saw to the file that `--result` names."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._result: Path = options.result
        self._window = Window(options.seconds) if options.seconds else None
        self._begun = psutil.Process(os.getpid()).create_time()
        self._minutes: float | None = options.solve
        self._looked = -LOOK_INTERVAL
        self._rows: list[tuple[float, int, float]] = []  # seconds since the process began, env steps, mean return
        self._minutes_to_solve: float | None = None
        self._env_steps = 0

    def tick(self, env_steps: int, returns: Callable[[], Sequence[float]]) -> bool:
        """Tell how far training is, best at the end of a whole cycle of collecting and learning.

        Args:
            env_steps: so far, of all environments; one is an action, `FRAME_SKIP` frames.
            returns: gives the unclipped returns of the last `EPISODES` episodes, oldest first.

        Returns:
            Whether to stop.
        """
        self._env_steps = env_steps
        if self._window:
            return self._window.tick(env_steps)
        seconds = time.time() - self._begun
        if seconds < self._looked + LOOK_INTERVAL:
            return False
        self._looked = seconds
        last = returns()
        is_solved = len(last) >= EPISODES and fmean(last) > SOLVED
        if is_solved:
            self._minutes_to_solve = seconds / 60
        assert self._minutes is not None
        is_over = is_solved or seconds >= 60 * self._minutes
        if last and (is_over or not self._rows or seconds >= self._rows[-1][0] + ROW_INTERVAL):
            self._rows.append((seconds, env_steps, fmean(last)))
        return is_over

    def write(self, **about: Any) -> None:
        """Finish: `about` has the library's `version`, the number of its network's `parameters` and its `layout`."""
        if self._window:
            figures = {"steps_per_second": self._window.steps_per_second, "cpu": self._window.cpu}
        else:
            figures = {
                "minutes_to_solve": self._minutes_to_solve,
                "env_steps": self._env_steps,
                "curve": self._rows,
            }
        self._result.write_text(json.dumps(about | figures))


def parser() -> argparse.ArgumentParser:
    """Options that all scripts of this folder have; exactly one of --seconds and --solve is given."""
    options = argparse.ArgumentParser()
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--seconds", type=duration, help="measure steps/s so long, after a warm-up")
    which.add_argument("--solve", type=duration, metavar="MINUTES", help="train so long, or until solved")
    options.add_argument("--result", type=Path, required=True, help="JSON file to write")
    return options


def num_parameters(network: Any) -> int:
    """Trainable numbers in a torch module."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
