"""What V-trace saves when data are old: n-step and V-trace targets at growing policy lag.

    python benchmarks/old_data.py --env-steps 200000 --seeds 3
    python benchmarks/old_data.py --task pong --env-steps 1000000 --seeds 3 --figure old_data_pong.png

Each update takes one micro-batch, and each worker may have `slots` of them under way. Where workers are faster than
the learner, the lag is about the number of workers times that of slots. Prints the mean return of the last 100
episodes, the measured lag and the KL divergence between the acting and the learning policy, and draws the curves.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytorch_lightning as pl
from arguments import count, figure_file
from matplotlib import pyplot
from pytorch_lightning.loggers import CSVLogger

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopAfterEnvSteps
from lightning_a3c.viewing.runs import Run, read_run

TARGETS = ("n_step", "vtrace")
ADAM = "torch.optim.Adam"


class Task(NamedTuple):
    """What is trained, by values like those of its configuration."""

    env: EnvConfig
    n_steps: int
    batch_size: int
    model: dict[str, Any]


TASKS = {
    "cartpole": Task(
        EnvConfig("CartPole-v1", num_envs=8),
        n_steps=16,
        batch_size=128,
        model={
            "value_weight": 0.01,
            # twice that of configs/cartpole_data.yaml: the faster the policy moves, the more the lag matters
            "optimizer": {"class_path": ADAM, "init_args": {"lr": 2e-3}},
        },
    ),
    "pong": Task(
        EnvConfig("PongNoFrameskip-v4", num_envs=8),  # V-trace needs whole sequences: 10 steps of 8 environments
        n_steps=10,
        batch_size=80,
        model={
            "network": {
                "class_path": "lightning_a3c.AtariA2C",
                "init_args": {"widths": [16, 32, 32], "hidden_size": 256, "background": 87},
            },
            "value_weight": 0.25,
            "optimizer": {"class_path": ADAM, "init_args": {"lr": 1e-3, "betas": [0.0, 0.99], "eps": 1e-5}},
        },
    ),
}


def train(task: Task, targets: str, workers: int, slots: int, seed: int, env_steps: int, folder: Path) -> Run:
    """One run, read from its log."""
    pl.seed_everything(seed, verbose=False)
    data = CollectorDataModule(
        task.env,
        num_workers=workers,
        n_steps=task.n_steps,
        micro_batch_size=task.batch_size,
        batch_size=task.batch_size,
        slots_per_worker=slots,
        targets=targets,  # type: ignore[arg-type]
        seed=seed,
    )
    module = A3CModule.for_data(data, orthogonal=True, **task.model)
    trainer = pl.Trainer(
        max_epochs=-1,
        callbacks=[StopAfterEnvSteps(env_steps)],
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=20,
        gradient_clip_val=0.5,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    run = read_run(folder)
    if "return_100" not in run.columns:
        raise SystemExit(f"no episode of {task.env.id} ended within {env_steps:,} env steps; raise --env-steps")
    return run


def counts(text: str) -> list[int]:
    """Numbers >= 1, separated by commas."""
    return [count(each) for each in text.split(",")]


def last(run: Run, key: str) -> float:
    """The mean of the later half of a column."""
    values = run.columns[key]
    return float(np.nanmean(values[len(values) // 2 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="cartpole")
    parser.add_argument("--env-steps", type=count, default=200_000)
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--workers", type=count, default=2)
    parser.add_argument("--slots", type=counts, default="1,5,10,20", help="slots per worker, separated by commas")
    parser.add_argument("--figure", type=figure_file, default="old_data.png")
    options = parser.parse_args()
    task, slots = TASKS[options.task], options.slots
    figure, axes = pyplot.subplots(1, len(slots), figsize=(3.2 * len(slots), 3), sharey=True, layout="constrained")
    print("| slots | targets | policy lag | KL | mean return over training | return_100 at the end, by seed |")
    print("|---|---|---|---|---|---|")
    for number, axis in zip(slots, np.atleast_1d(axes), strict=True):
        lags = []
        for colour, targets in zip(("C1", "C0"), TARGETS, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / str(seed) for seed in range(options.seeds)]
                runs = [
                    train(task, targets, options.workers, number, seed, options.env_steps, path)
                    for seed, path in enumerate(paths)
                ]
            returns = [run.columns["return_100"] for run in runs]
            ends = ", ".join(f"{values[-1]:.0f}" for values in returns)
            means = np.mean([np.nanmean(values) for values in returns])
            lag, kl = (np.mean([last(run, key) for run in runs]) for key in ("policy_lag", "policy_kl"))
            lags.append(lag)
            print(f"| {number} | {targets} | {lag:.1f} | {kl:.4f} | {means:.0f} | {ends} |", flush=True)
            for index, run in enumerate(runs):
                label = targets if index == 0 else None
                axis.plot(run.columns["env_steps"], run.columns["return_100"], colour, alpha=0.7, label=label)
        axis.set(title=f"policy lag {np.mean(lags):.0f}", xlabel="env steps")
    np.atleast_1d(axes)[0].set_ylabel("return_100")
    np.atleast_1d(axes)[0].legend()
    figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
