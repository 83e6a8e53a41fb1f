"""Train a network of your own on CartPole: python examples/own_network.py [UPDATES]"""

import math
import sys

import pytorch_lightning as pl
from torch import nn

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, StopWhenSolved


class SharedTrunk(nn.Module):
    """Two hidden layers that policy and value share.

    The first two arguments are the shape of one observation and the number of actions; the others are yours.
    """

    def __init__(self, observation_shape, num_actions, hidden_size=64):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(observation_shape), hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        self.policy = nn.Linear(hidden_size, num_actions)  # `orthogonal` scales layers of these two names
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, observations):
        features = self.trunk(observations.float())
        return self.policy(features), self.value(features).squeeze(1)


updates = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
pl.seed_everything(0)
data = CollectorDataModule(
    env=EnvConfig("CartPole-v1", num_envs=8), num_workers=2, n_steps=16, micro_batch_size=128, batch_size=512
)
module = A3CModule.for_data(data, network=SharedTrunk, orthogonal=True, value_weight=0.01)
stop = StopWhenSolved(bound=475)
trainer = pl.Trainer(max_steps=updates, gradient_clip_val=0.5, callbacks=[stop], accelerator="cpu", logger=False)
trainer.fit(module, datamodule=data)
print(f"mean return of the last episodes: {sum(module.progress.returns) / max(len(module.progress.returns), 1):.1f}")
