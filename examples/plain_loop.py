"""Act with a checkpoint in a plain Gymnasium loop: python examples/plain_loop.py CHECKPOINT [EPISODES]

For an environment whose observations are one array, such as CartPole. A policy that `lightning-a3c export` wrote acts
in any environment: see `load_policy`.
"""

import sys

import gymnasium
import torch

from lightning_a3c import A3CModule

if len(sys.argv) < 2:
    sys.exit(__doc__)
checkpoint, episodes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
module = A3CModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
env = gymnasium.make(module.hparams["task"]["env_id"])
for episode in range(episodes):
    observation, _ = env.reset(seed=episode)
    episode_return, has_ended = 0.0, False
    while not has_ended:
        observations = torch.as_tensor(observation).unsqueeze(0)  # the network takes a batch: here of one
        action = module.act(observations, greedy=True)[0].numpy()
        observation, reward, terminated, truncated, _ = env.step(action)
        episode_return += float(reward)
        has_ended = terminated or truncated
    print(f"episode {episode}: return {episode_return:g}")
env.close()
