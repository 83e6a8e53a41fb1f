"""What V-trace saves when data are old: CartPole with n-step and V-trace targets at growing policy lag.

    python benchmarks/old_data.py --env-steps 200000 --seeds 3

Each update takes one micro-batch, and each of two workers may have `slots` of them under way. Workers are faster
than the learner, so the lag is about twice the number of slots. Prints the mean return of the last 100 episodes, the
measured lag and the KL divergence between the acting and the learning policy, and draws the curves.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytorch_lightning as pl
from arguments import count
from matplotlib import pyplot
from pytorch_lightning.loggers import CSVLogger

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopAfterEnvSteps
from lightning_a3c.viewing.runs import Run, read_run

TARGETS = ("n_step", "vtrace")
LR = 2e-3  # twice that of configs/cartpole_data.yaml: the faster the policy moves, the more the lag matters


def train(targets: str, slots: int, seed: int, env_steps: int, folder: Path) -> Run:
    """One run, read from its log."""
    pl.seed_everything(seed, verbose=False)
    data = CollectorDataModule(
        EnvConfig("CartPole-v1", num_envs=8),
        num_workers=2,
        n_steps=16,
        micro_batch_size=128,
        batch_size=128,
        slots_per_worker=slots,
        targets=targets,  # type: ignore[arg-type]
        seed=seed,
    )
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": LR}}
    module = A3CModule.for_data(data, orthogonal=True, value_weight=0.01, optimizer=adam)
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
    return read_run(folder)


def last(run: Run, key: str) -> float:
    """The mean of the later half of a column."""
    values = run.columns[key]
    return float(np.nanmean(values[len(values) // 2 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-steps", type=count, default=200_000)
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--slots", default="1,5,10,20", help="slots per worker, separated by commas")
    parser.add_argument("--figure", type=Path, default=Path("old_data.png"))
    options = parser.parse_args()
    slots = [int(each) for each in options.slots.split(",")]
    figure, axes = pyplot.subplots(1, len(slots), figsize=(3.2 * len(slots), 3), sharey=True, layout="constrained")
    print("| slots | targets | policy lag | KL | mean return over training | return_100 at the end, by seed |")
    print("|---|---|---|---|---|---|")
    for number, axis in zip(slots, np.atleast_1d(axes), strict=True):
        lag = 0.0
        for colour, targets in zip(("C1", "C0"), TARGETS, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / str(seed) for seed in range(options.seeds)]
                runs = [train(targets, number, seed, options.env_steps, path) for seed, path in enumerate(paths)]
            returns = [run.columns["return_100"] for run in runs]
            ends = ", ".join(f"{values[-1]:.0f}" for values in returns)
            means = np.mean([np.nanmean(values) for values in returns])
            lag, kl = (np.mean([last(run, key) for run in runs]) for key in ("policy_lag", "policy_kl"))
            print(f"| {number} | {targets} | {lag:.1f} | {kl:.4f} | {means:.0f} | {ends} |", flush=True)
            for index, run in enumerate(runs):
                label = targets if index == 0 else None
                axis.plot(run.columns["env_steps"], run.columns["return_100"], colour, alpha=0.7, label=label)
        axis.set(title=f"policy lag {lag:.0f}", xlabel="env steps")
    np.atleast_1d(axes)[0].set_ylabel("return_100")
    np.atleast_1d(axes)[0].legend()
    figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
