"""What an update costs one learner and two of them: CPU time of the learners, without their workers.

    python benchmarks/learners.py                 # data mode
    python benchmarks/learners.py --mode gradient

An update learns from the same number of transitions with one learner as with two, which take half of it each. So the
difference is what the second learner costs: the exchange of gradients and of reports, and what each does by itself. The
learners have one thread, and gloo between them. CPU time hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
from arguments import count, output_file
from lapan_runs import CLIP_NORM
from measuring import PONG

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel

SMALL = {"class_path": "lightning_a3c.AtariA2C", "init_args": {"widths": [16, 32, 32], "hidden_size": 256}}
TASKS: dict[str, tuple[str, Any, int, int]] = {  # environment, network, transitions of an update, updates to measure
    "cartpole": ("CartPole-v1", None, 128, 1000),
    "pong, small network": (PONG, SMALL, 80, 200),
    "pong": (PONG, None, 80, 150),
}
WARM_UP = 0.1  # of the updates, before they are measured
Rows = list[dict[str, Any]]


class CpuTime(pl.Callback):
    """Writes the CPU seconds of this process for each update after the first ones, and those of the clock."""

    def __init__(self, folder: Path, warm_up: int) -> None:
        self.folder = folder
        self.warm_up = warm_up

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == self.warm_up:
            self._cpu, self._begun = time.process_time(), time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        updates = trainer.global_step - self.warm_up
        measured = {
            "cpu": (time.process_time() - self._cpu) / updates,
            "wall": (time.perf_counter() - self._begun) / updates,
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
        }
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(measured))


def train(folder: Path, task: str, mode: str, learners: int, updates: int | None) -> None:
    """One of the learners; Lightning starts the second one with the same arguments."""
    env, network, batch, default = TASKS[task]
    measured = updates or default
    warm_up = max(1, int(WARM_UP * measured))
    data = CollectorDataModule(
        EnvConfig(env, num_envs=8),
        num_workers=2 // learners,
        micro_batch_size=batch // 2,
        batch_size=batch // learners,
        learner_threads=1,
        seed=0,
    )
    is_gradient = mode == "gradient"
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=learners,
        strategy="ddp" if learners > 1 else "auto",
        max_steps=warm_up + measured,
        max_epochs=-1,
        gradient_clip_val=None if is_gradient else CLIP_NORM,
        callbacks=[CpuTime(folder, warm_up), *([GradientParallel(max_norm=CLIP_NORM)] if is_gradient else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(A3CModule.for_data(data, network=network, mode=mode), datamodule=data)


def measure(args: argparse.Namespace) -> Rows:
    """A row for each task and number of learners."""
    rows: Rows = []
    for task in args.tasks:
        for learners in (1, 2):
            with TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--mode", args.mode, "--tasks", task]
                command += ["--updates", str(args.updates)] if args.updates else []
                own = {"LEARNERS_FOLDER": folder, "LEARNERS": str(learners)}
                done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{task} with {learners} learners failed:\n{done.stderr}")
                found = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
            cpu, wall = 1000 * sum(one["cpu"] for one in found), 1000 * max(one["wall"] for one in found)
            rows.append({"task": task, "mode": args.mode, "learners": learners, "cpu_ms": cpu, "wall_ms": wall})
            rows[-1]["parameters"] = found[0]["parameters"]
            print(
                f"{task:20}{rows[-1]['parameters'] / 1e6:6.2f} M parameters{learners:3} learners"
                f"{cpu:8.1f} CPU ms an update{wall:8.1f} ms",
                flush=True,
            )
    return rows


def main() -> None:
    """Measure, print each row when it is there, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("data", "gradient"), default="data")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS], metavar="TASK", help=f"{[*TASKS]}")
    parser.add_argument("--updates", type=count, help="measured updates of each row")
    parser.add_argument("--json", type=output_file, help="also write the numbers here")
    args = parser.parse_args()
    if folder := os.environ.get("LEARNERS_FOLDER"):
        train(Path(folder), args.tasks[0], args.mode, int(os.environ["LEARNERS"]), args.updates)
        return

    from lightning_a3c.system.machine import machine

    print("{cpu}, {cores} cores, torch {torch}".format(**machine()))
    rows = measure(args)
    if args.json:
        args.json.write_text(json.dumps({**machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
