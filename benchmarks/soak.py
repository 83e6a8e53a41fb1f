"""Does a long run stay flat? Memory, file descriptors and /dev/shm of data mode, at every tenth of the way.

    python benchmarks/soak.py --env-steps 200000

/dev/shm is the whole machine's: let nothing else use it meanwhile.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import NamedTuple

import process_tree
from seed_runs import fit

from lightning_a3c import A3CModule
from lightning_a3c.types import Batch


class Usage(NamedTuple):
    """What the run holds at one moment."""

    pss: int  # bytes, the learner and all its descendants
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
            *process_tree.open_descriptors(os.getpid()),
            shm_files=len(os.listdir("/dev/shm")),
            shm_bytes=(room.f_blocks - room.f_bfree) * room.f_frsize,
        )


class Soak:
    """Prints a line whenever another tenth of `env_steps` is done; called after every update."""

    def __init__(self, env_steps: int) -> None:
        self.env_steps = env_steps
        self.usages: list[Usage] = []
        self._next = env_steps / 10
        self._last: tuple[float, int] | None = None  # time and env steps of the last line, or of the first update

    def __call__(self, module: A3CModule, batch: Batch) -> bool:
        steps = module.progress.env_steps
        if self._last is None:
            self._last = time.perf_counter(), steps
        if steps >= self._next:
            self._next = (steps * 10 // self.env_steps + 1) * self.env_steps / 10
            self._print(steps, *self._last)
        return steps >= self.env_steps

    def _print(self, steps: int, then: float, steps_then: int) -> None:
        if not self.usages:
            print(
                f"{'env steps':>11}{'steps/s':>9}{'PSS MiB':>9}{'learner fds':>13}{'worker fds':>12}"
                f"{'shm files':>11}{'shm bytes':>13}"
            )
        now = time.perf_counter()
        usage = Usage.now()
        self.usages.append(usage)
        self._last = now, steps
        print(
            f"{steps:11,}{(steps - steps_then) / (now - then):9.0f}{usage.pss / 2**20:9.1f}{usage.learner_fds:13}"
            f"{usage.worker_fds:12}{usage.shm_files:11}{usage.shm_bytes:13,}",
            flush=True,
        )

    def growth(self) -> str:
        """From the first line to the last."""
        pss, *counts = (last - first for first, last in zip(self.usages[0], self.usages[-1], strict=True))
        changes = [f"{name} {change:+,}" for name, change in zip(Usage._fields[1:], counts, strict=True)]
        return f"growth from 10 % to 100 %: pss {pss / 2**20:+.1f} MiB, {', '.join(changes)}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="any id that lightning_a3c knows")
    parser.add_argument("--env-steps", type=int, default=200_000)
    args = parser.parse_args()
    if args.env_steps < 1:
        parser.error(f"--env-steps must be >= 1, got {args.env_steps}")
    soak = Soak(args.env_steps)
    fit("data", args.env, soak)
    print(soak.growth())


if __name__ == "__main__":
    main()
