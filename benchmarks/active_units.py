"""How many units of each ReLU layer of checkpoints are ever above zero, on observations of random play.

    python benchmarks/active_units.py runs/pong_data_fast/1/checkpoints/*.ckpt

A unit that is zero everywhere has no gradient and does not come back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from lightning_a3c import A3CModule
from lightning_a3c.environments.making import make_vector_env
from lightning_a3c.environments.task import env_config_of

STEPS = 400  # of random play, in 8 environments, every tenth looked at


def observations_of(task: dict[str, object]) -> Tensor:
    """Seen in random play: [STEPS / 10 * 8, *observation_shape]."""
    chance = np.random.default_rng(0)
    env = make_vector_env(env_config_of(task), num_envs=8)
    env.reset(seed=0)
    actions = env.single_action_space
    assert isinstance(actions, Discrete)
    seen = [env.step(chance.integers(actions.n, size=8))[0].copy() for _ in range(STEPS)]
    env.close()
    return torch.from_numpy(np.concatenate(seen[::10]))


@torch.no_grad()
def active_units(net: nn.Module, observations: Tensor) -> list[str]:
    """`active/all` for each ReLU of `net`, in the order of its modules."""
    counts: list[str] = []

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        is_active = (output > 0).flatten(2).any(dim=2).any(dim=0) if output.ndim > 2 else (output > 0).any(dim=0)
        counts.append(f"{int(is_active.sum())}/{len(is_active)}")

    hooks = [module.register_forward_hook(count) for module in net.modules() if isinstance(module, nn.ReLU)]
    net(observations)
    for hook in hooks:
        hook.remove()
    return counts


def main() -> None:
    """One line a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="+")
    for path in parser.parse_args().checkpoint:
        module = A3CModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        print(path, *active_units(module.net, observations_of(module.hparams["task"])))


if __name__ == "__main__":
    main()
