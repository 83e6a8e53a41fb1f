"""Train CartPole with two learners that Ray Train places on a cluster: python examples/ray_train.py [UPDATES]

Needs `pip install "ray[train]"`. Without a cluster, Ray starts one on this machine. On GPUs set `accelerator="gpu"` and
`use_gpu=True`.
"""

import sys

import pytorch_lightning as pl
from ray.train import ScalingConfig
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
from ray.train.torch import TorchTrainer

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopWhenSolved


def train(options: dict[str, int]) -> None:
    """What each learner does."""
    data = CollectorDataModule(
        env=EnvConfig("CartPole-v1", num_envs=8),
        num_workers=1,  # of each learner
        n_steps=16,
        micro_batch_size=128,
        batch_size=256,  # of each learner, so 512 in all
        seed=0,
    )
    module = A3CModule.for_data(data, orthogonal=True, value_weight=0.01)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices="auto",
        strategy=RayDDPStrategy(),
        plugins=[RayLightningEnvironment()],
        max_steps=options["updates"],
        gradient_clip_val=0.5,
        callbacks=[StopWhenSolved(bound=475)],
        logger=False,
    )
    prepare_trainer(trainer).fit(module, datamodule=data)
    if trainer.is_global_zero:
        print(f"learners: {trainer.world_size}, env steps: {module.progress.env_steps}")


if __name__ == "__main__":
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    learners = ScalingConfig(num_workers=2, use_gpu=False, resources_per_worker={"CPU": 1})  # more with more workers
    TorchTrainer(train, train_loop_config={"updates": updates}, scaling_config=learners).fit()
