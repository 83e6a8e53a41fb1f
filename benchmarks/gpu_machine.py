"""Everything that needs a GPU machine, in one command: tests, steps/s with layouts and rooflines, and Pong to its goal.

    python benchmarks/gpu_machine.py --to /tmp/gpu
    python benchmarks/gpu_machine.py --to /tmp/smoke --accelerator cpu --quick

Each step runs by itself with a time limit, so one that fails or hangs costs no other its turn. `summary.json` tells the
machine, and of each step the command, the exit status, the seconds and where its output is. `--quick` measures nothing
worth reading; it shows that every step runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from measuring import DEVICES

from lightning_a3c.system.machine import machine

_BENCHMARKS = Path(__file__).parent


class Step(NamedTuple):
    """One command, and the most seconds that it may take."""

    name: str
    command: list[str]
    limit: float


def steps(accelerator: str, quick: bool, folder: Path) -> list[Step]:
    """What to run, the most wanted first."""
    workers = str(2 if quick else max(1, len(os.sched_getaffinity(0)) - 1))
    seconds = "1" if quick else "8"
    device = DEVICES[accelerator]
    throughput = [str(_BENCHMARKS / "throughput.py"), "--seconds", seconds, "--accelerator", accelerator]
    layout = ["--num-workers", workers, "--num-envs", "2" if quick else "32"]
    fit = ["-m", "lightning_a3c", "fit", "--config", "pong_data_fast", f"--trainer.accelerator={accelerator}"]
    pong = [*fit, f"--data.num_workers={workers}", "--data.worker_device=auto", *(["--trainer.max_steps=20"] * quick)]
    return [
        Step("tests", ["-m", "pytest", "-q", str(_BENCHMARKS.parent / "tests/test_gpu.py")], 300),
        Step(
            "throughput",
            [*throughput, *layout, "--only", "data,gradient,parts", "--json", str(folder / "throughput.json")],
            300,
        ),
        Step(
            "bf16", [*throughput, *layout, "--bf16", "--only", "data,parts", "--json", str(folder / "bf16.json")], 300
        ),
        Step(
            "few_workers_on_the_device",
            [*throughput, "--num-workers", "2", *layout[2:], "--worker-device", device, "--only", "data,gradient"],
            300,
        ),
        Step("pong", pong, 120 if quick else 600),
    ]


def run(step: Step, folder: Path) -> dict[str, Any]:
    """Run a step in `folder`, its output to a file there; whatever it started ends with it."""
    log, begun = folder / f"{step.name}.log", time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *step.command], stdout=output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
        try:
            status: int | str = process.wait(step.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"ended after {step.limit:g} s"
    seconds = round(time.monotonic() - begun, 1)
    print(f"{step.name:28} exit {status}, {seconds} s, {log}", flush=True)
    return {"command": ["python", *step.command], "exit": status, "seconds": seconds, "log": log.name}


def main() -> None:
    """Run all steps, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder for the results")
    parser.add_argument("--accelerator", choices=DEVICES, default="gpu")
    parser.add_argument("--quick", action="store_true", help="only show that every step runs")
    options = parser.parse_args()
    about = machine()
    if options.accelerator == "gpu" and about["gpu"] == "none":
        parser.error("--accelerator gpu: PyTorch sees no CUDA GPU here; try the steps with --accelerator cpu --quick")
    folder = options.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    done = {step.name: run(step, folder) for step in steps(options.accelerator, options.quick, folder)}
    (folder / "summary.json").write_text(json.dumps({"machine": about, "steps": done}, indent=1) + "\n")
    sys.exit(any(result["exit"] for result in done.values()))


if __name__ == "__main__":
    main()
