"""PufferLib's PPO on Pong of its Atari environments, with its own settings but a frame skip of 4 instead of 1."""

from __future__ import annotations

import os
import sys
from collections import deque
from importlib.metadata import version

from pufferlib import pufferl
from reporting import EPISODES, FRAME_SKIP, Run, num_parameters, parser


def main() -> None:
    """Train."""
    run = Run(parser().parse_args())
    workers = len(os.sched_getaffinity(0))
    sys.argv = [
        sys.argv[0],
        "--train.device=cpu",
        f"--vec.num-workers={workers}",
        f"--env.frameskip={FRAME_SKIP}",
    ]
    args = pufferl.load_config("pong")
    envs = pufferl.load_env("pong", args)
    policy = pufferl.load_policy(args, envs)
    trainer = pufferl.PuffeRL(dict(**args["train"], env="pong"), envs, policy)
    returns: deque[float] = deque(maxlen=EPISODES)
    while True:
        trainer.evaluate()
        returns.extend(trainer.stats.pop("episode_return", ()))
        trainer.train()
        if run.tick(trainer.global_step, lambda: list(returns)):
            break
    vec, train = args["vec"], args["train"]
    layout = f"{workers} workers, {vec['num_envs']} environments, {train['batch_size']:,} an iteration, LSTM"
    run.write(version=version("pufferlib"), parameters=num_parameters(policy), layout=layout)
    trainer.close()


if __name__ == "__main__":
    main()
