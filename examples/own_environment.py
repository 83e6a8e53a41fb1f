"""Train on an environment of your own: python examples/own_environment.py [UPDATES]"""

import sys

import gymnasium
import numpy as np
import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopWhenSolved


class Corridor(gymnasium.Env):
    """Walk right five times. Each step costs 0.01, and the end pays 1."""

    observation_space = gymnasium.spaces.Box(0, 5, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = 0
        return np.array([self.position], np.float32), {}

    def step(self, action):
        self.position = max(0, self.position + (1 if action == 1 else -1))
        is_at_end = self.position == 5
        return np.array([self.position], np.float32), 1.0 if is_at_end else -0.01, is_at_end, False, {}


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=50)  # the limit counts as truncation

updates = int(sys.argv[1]) if len(sys.argv) > 1 else 500
pl.seed_everything(0)
data = CollectorDataModule(env=EnvConfig("Corridor-v0", num_envs=8), num_workers=2, eval_policy="greedy")
module = A3CModule.for_data(data, orthogonal=True)
trainer = pl.Trainer(
    max_steps=updates,
    callbacks=[StopWhenSolved(bound=0.9)],  # the best return is 0.96
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
)
trainer.fit(module, datamodule=data)
trainer.test(module, datamodule=data)
