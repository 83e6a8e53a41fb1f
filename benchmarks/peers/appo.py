"""Sample Factory's APPO on Pong with its own Atari settings; `--asynchronous` with a layout for few cores."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ale_py  # noqa: F401  registers Pong, in the processes too that import this file
from reporting import FRAME_SKIP, Run, num_parameters, parser
from sample_factory.algo.runners.runner import AlgoObserver
from sample_factory.model.actor_critic import create_actor_critic
from sample_factory.train import make_runner
from sf_examples.atari.train_atari import parse_atari_args, register_atari_components


class Observer(AlgoObserver):
    """Tells `run` of every training iteration, and stops when it says so."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_training_step(self, runner: Any, training_iteration_since_resume: int) -> None:
        frames = runner.total_env_steps_since_resume  # counts skipped frames
        if frames is None:
            return
        returns = runner.policy_avg_stats.get("reward", [()])
        if self.run.tick(frames // FRAME_SKIP, lambda: list(returns[0])):
            runner.cfg.train_for_seconds = -1  # compared after each iteration with a clock that stays at 0


def main() -> None:
    """Train."""
    options = parser()
    options.add_argument("--asynchronous", action="store_true", help="sample while learning")
    given = options.parse_args()
    run = Run(given)
    settings = ["--env=atari_pong", "--device=cpu", f"--train_dir={Path.cwd()}", "--experiment=pong"]
    layout = "8 workers × 1 environment, 1,024 an iteration, sampling waits for learning"
    if given.asynchronous:
        workers = len(os.sched_getaffinity(0))
        settings += ["--async_rl=True", f"--num_workers={workers}", "--num_envs_per_worker=8", "--worker_num_splits=2"]
        layout = f"{workers} workers × 8 environments in two halves, 1,024 an iteration, sampling goes on"
    register_atari_components()
    cfg, runner = make_runner(parse_atari_args(settings))
    runner.register_observer(Observer(run))
    runner.init()
    runner.run()
    network = create_actor_critic(cfg, runner.env_info.obs_space, runner.env_info.action_space)
    run.write(version=version("sample-factory"), parameters=num_parameters(network), layout=layout)


if __name__ == "__main__":
    main()
