"""Search good values for CartPole by Ray Tune: python examples/ray_tune.py [UPDATES TRIALS]

Needs pip install "ray[tune]". Weak trials end early. `lightning-a3c sweep` does the same by Optuna, without code.
"""

import sys

import pytorch_lightning as pl
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig


class Report(pl.Callback):
    """Tells Ray Tune the mean return after each epoch."""

    def on_train_epoch_end(self, trainer, module):
        tune.report({"return_100": module.progress.mean_return or 0.0, "env_steps": module.progress.env_steps})


def train(values):
    env = EnvConfig("CartPole-v1", num_envs=8)
    sizes = {"micro_batch_size": 128, "batch_size": 512, "updates_per_epoch": 20}
    data = CollectorDataModule(env, num_workers=1, n_steps=values["n_steps"], **sizes)
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": values["lr"], "eps": 1e-3}}
    module = A3CModule.for_data(data, optimizer=optimizer, orthogonal=True, value_weight=0.01)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=values["updates"], callbacks=[Report()], **silent)
    trainer.fit(module, datamodule=data)


updates, trials = map(int, sys.argv[1:]) if len(sys.argv) > 2 else (500, 10)
tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": 2}),  # a learner and its worker
    param_space={"lr": tune.loguniform(1e-4, 1e-2), "n_steps": tune.choice([4, 8, 16]), "updates": updates},
    tune_config=tune.TuneConfig(metric="return_100", mode="max", num_samples=trials, scheduler=ASHAScheduler()),
)
best = tuner.fit().get_best_result()
print(f"best: return_100 {best.metrics['return_100']:.1f} with {best.config}")
