"""Train CartPole with two learners, each with a worker of its own, on the CPU: python examples/ddp.py [UPDATES]

An update learns from the batches of both. On GPUs leave out `accelerator`; docs/scaling.md says what else changes.
"""

import sys

import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopWhenSolved


def main(updates: int) -> None:
    pl.seed_everything(0)
    data = CollectorDataModule(
        env=EnvConfig("CartPole-v1", num_envs=8),
        num_workers=1,  # of each learner
        n_steps=16,
        micro_batch_size=128,
        batch_size=256,  # of each learner, so 512 in all
    )
    module = A3CModule.for_data(data, orthogonal=True, value_weight=0.01)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=updates,
        gradient_clip_val=0.5,
        callbacks=[StopWhenSolved(bound=475)],
        logger=False,
    )
    trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:  # both have the same weights and counts
        print(f"learners: {trainer.world_size}, env steps: {module.progress.env_steps}")


if __name__ == "__main__":  # Lightning starts the second learner with this script
    main(updates=int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
