"""Does a long run stay flat? Memory, file descriptors and /dev/shm, at every tenth of the way.

    python benchmarks/soak.py --minutes 30 --kill-every 20

With `--kill-every` a worker, chosen at random, is killed or stopped again and again.
/dev/shm is the whole machine's: let nothing else use it meanwhile.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import time
from typing import NamedTuple

import process_tree
import psutil
from arguments import duration
from lapan_runs import data_module, fit

from lightning_a3c import A3CModule, Supervision
from lightning_a3c.rl.types import Batch


class Usage(NamedTuple):
    """What the run holds at one step."""

    pss: int  # bytes, the learner and all its descendants; falls when other programs use the same libraries
    private: int  # bytes, those of their pages that nobody else has
    learner_fds: int
    worker_fds: int  # of all descendants: workers, fork server, resource tracker
    shm_files: int
    shm_bytes: int

    @classmethod
    def now(cls) -> Usage:
        """Of this process as the learner."""
        room = os.statvfs("/dev/shm")
        return cls(
            process_tree.pss(os.getpid()),
            process_tree.private(os.getpid()),
            *process_tree.open_descriptors(os.getpid()),
            shm_files=len(os.listdir("/dev/shm")),
            shm_bytes=(room.f_blocks - room.f_bfree) * room.f_frsize,
        )


class Soak:
    """Prints a line whenever another tenth of `seconds` is over; called after every update."""

    def __init__(self, seconds: float, kill_every: float | None) -> None:
        self.seconds = seconds
        self.kill_every = kill_every
        self.usages: list[Usage] = []
        self.chance = random.Random(0)
        self._start: float | None = None
        self._next_kill = kill_every or math.inf
        self._last = 0.0, 0  # time and env steps of the last line

    def __call__(self, module: A3CModule, batch: Batch) -> bool:
        now = time.perf_counter()
        if self._start is None:
            self._start = now
            self._last = now, module.progress.env_steps
        elapsed = now - self._start
        if elapsed >= (len(self.usages) + 1) * self.seconds / 10:
            self._print(elapsed, module.progress.env_steps, int(batch.worker_restarts))
        if self.kill_every and elapsed >= self._next_kill:
            self._next_kill = elapsed + self.kill_every
            self._disturb()
        return elapsed >= self.seconds

    def _disturb(self) -> None:
        workers = [worker for helper in psutil.Process().children() for worker in helper.children()]
        if workers:
            self.chance.choice(workers).send_signal(self.chance.choice([signal.SIGKILL, signal.SIGSTOP]))

    def _print(self, elapsed: float, steps: int, restarts: int) -> None:
        if not self.usages:
            print(
                f"{'minutes':>9}{'env steps':>11}{'steps/s':>9}{'restarts':>10}{'PSS MiB':>9}{'private':>9}"
                f"{'learner fds':>13}{'worker fds':>12}{'shm files':>11}{'shm bytes':>13}"
            )
        then, steps_then = self._last
        now = time.perf_counter()
        usage = Usage.now()
        self.usages.append(usage)
        self._last = now, steps
        print(
            f"{elapsed / 60:9.1f}{steps:11,}{(steps - steps_then) / (now - then):9.0f}{restarts:10}"
            f"{usage.pss / 2**20:9.1f}{usage.private / 2**20:9.1f}{usage.learner_fds:13}{usage.worker_fds:12}"
            f"{usage.shm_files:11}{usage.shm_bytes:13,}",
            flush=True,
        )

    def growth(self) -> str:
        """From the first line to the last."""
        pss, private, *counts = (last - first for first, last in zip(self.usages[0], self.usages[-1], strict=True))
        changes = [f"{name} {change:+,}" for name, change in zip(Usage._fields[2:], counts, strict=True)]
        memory = f"pss {pss / 2**20:+.1f} MiB, private {private / 2**20:+.1f} MiB"
        return f"growth from 10 % to 100 %: {memory}, {', '.join(changes)}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="any id that lightning_a3c knows")
    parser.add_argument("--mode", choices=["data", "gradient"], default="data")
    parser.add_argument("--minutes", type=duration, default=10.0)
    parser.add_argument("--kill-every", type=duration, metavar="SECONDS", help="kill or stop a worker this often")
    args = parser.parse_args()
    try:
        data = data_module(args.mode, args.env, supervision=Supervision(max_restarts=1000, window=60, timeout=30))
    except ValueError as error:
        parser.error(str(error))
    soak = Soak(args.minutes * 60, args.kill_every)
    fit(args.mode, data, soak)
    print(soak.growth())


if __name__ == "__main__":
    main()
