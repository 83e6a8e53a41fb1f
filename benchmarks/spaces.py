"""Env steps a second on cheap environments, beside stable-baselines3's A2C.

    python benchmarks/spaces.py --seconds 20
    python benchmarks/spaces.py --seconds 20 --only CartPole-v1,LunarLander-v3 --rounds 3
    python benchmarks/spaces.py --seconds 10 --rounds 4 --columns "same policy,observations normalised,rewards too"

"same shape" is 16 environments × 5 steps an update for both, ours in one worker, and networks of 64 × 64 with tanh.
"own layout" is two workers with 64 environments each and 2,048 transitions an update, and EnvPool's environments where
it plays the same id; its cells name what stepped the environments. MiniGrid's DoorKey has a Dict observation of its
direction and its image as a vector, since stable-baselines3 has no network for images this small. All are measured in
turns; the means over the rounds are printed. What normalisation costs is measured in the own layout with the uniform
policy and a learning rate of 0 ("same policy" is without it), since the speed of an environment depends on how it is
played.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from arguments import count, duration
from measuring import Speed, Window, measure_system

from lightning_a3c import EnvConfig
from lightning_a3c.environments.config import Backend
from lightning_a3c.environments.envpool_tasks import require_playable_by_envpool
from lightning_a3c.environments.making import training_backend
from lightning_a3c.environments.registry import spec_of

IDS = "CartPole-v1,LunarLander-v3,HalfCheetah-v5,minigrid:MiniGrid-DoorKey-5x5-v0"
_OTHERS = ("stable-baselines3", "same shape", "same shape, auto")  # columns that do not use `fastest_backend`
_FLAT = [{"class_path": "flat_image.FlatImage"}]


def is_dict(env_id: str) -> bool:
    """Whether observations are of several parts."""
    return env_id.startswith("minigrid:")


def fastest_backend(env_id: str) -> Backend:
    """EnvPool where it plays the id and "auto" has nothing faster."""
    config = EnvConfig(env_id)
    chosen = training_backend(config, synchronous=False)
    if chosen != "gymnasium":
        return chosen
    try:
        require_playable_by_envpool(config, spec_of(env_id))
    except ValueError:
        return chosen
    return "envpool"


def run_ours(
    seconds: float, env_id: str, own_layout: bool, backend: Backend, learns: bool = True, normalize: Sequence[str] = ()
) -> Speed:
    """Data mode; `normalize` may name observations and rewards."""
    import logging
    import warnings

    import pytorch_lightning as pl
    import torch
    from flat_image import FlatNetwork
    from lapan_runs import AfterUpdate

    from lightning_a3c import A3CModule, CollectorDataModule
    from lightning_a3c.rl.networks import MLP

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    window = Window(seconds)
    lags: list[float] = []

    def after_update(module: A3CModule, batch: Any) -> bool:
        if window.is_measuring:
            lags.append(float(batch.policy_lag.float().mean()))
        return window.tick(module.progress.env_steps)

    sizes: dict[str, Any] = (
        {"micro_batch_size": 1024, "batch_size": 2048} if own_layout else {"micro_batch_size": 80, "batch_size": 80}
    )
    wrappers = _FLAT if is_dict(env_id) and not own_layout else []  # EnvPool takes none; `FlatNetwork` does the same
    env = EnvConfig(env_id, 64 if own_layout else 16, backend=backend, wrappers=wrappers)
    data = CollectorDataModule(env, num_workers=2 if own_layout else 1, n_steps=5, **sizes)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3 if learns else 0.0, "eps": 1e-3, "fused": True}}
    module = A3CModule.for_data(
        data,
        network=FlatNetwork if is_dict(env_id) and own_layout else None,
        optimizer=adam,
        normalize_observations="observations" in normalize,
        normalize_rewards="rewards" in normalize,
    )
    if not learns:  # the same policy, however observations are scaled: uniform
        mlp = next(each for each in module.net.modules() if isinstance(each, MLP))
        for parameter in mlp.policy[-1].parameters():
            torch.nn.init.zeros_(parameter)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        gradient_clip_val=0.5,
        callbacks=[AfterUpdate(after_update)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return Speed(window.steps_per_second, window.cpu, fmean(lags))


def run_sb3(seconds: float, env_id: str) -> Speed:
    """stable-baselines3's A2C with 16 environments in one process."""
    import gymnasium
    import torch
    from flat_image import FlatImage
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(2)

    def make() -> Any:
        env = gymnasium.make(env_id)
        return FlatImage(env) if is_dict(env_id) else env

    env = make_vec_env(make, n_envs=16, seed=0)
    net = {"net_arch": {"pi": [64, 64], "vf": [64, 64]}}
    policy = "MultiInputPolicy" if is_dict(env_id) else "MlpPolicy"
    model = A2C(policy, env, policy_kwargs=net, seed=0, device="cpu")
    window = Window(seconds)
    model.learn(10**9, callback=lambda _locals, _globals: not window.tick(model.num_timesteps))
    env.close()
    return Speed(window.steps_per_second, window.cpu, policy_lag=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=count, default=1)
    parser.add_argument("--only", default=IDS, help="ids, separated by commas")
    parser.add_argument("--columns", help="columns, separated by commas; the factors are of the first")
    options = parser.parse_args()

    def own_layout(env_id: str, learns: bool = True, normalize: Sequence[str] = ()) -> Any:
        return partial(
            run_ours,
            env_id=env_id,
            own_layout=True,
            backend=fastest_backend(env_id),
            learns=learns,
            normalize=normalize,
        )

    runs: dict[str, Any] = {
        "stable-baselines3": lambda env_id: partial(run_sb3, env_id=env_id),
        "same shape": lambda env_id: partial(run_ours, env_id=env_id, own_layout=False, backend="gymnasium"),
        "same shape, auto": lambda env_id: partial(run_ours, env_id=env_id, own_layout=False, backend="auto"),
        "own layout": own_layout,
        "same policy": partial(own_layout, learns=False),
        "observations normalised": partial(own_layout, learns=False, normalize=("observations",)),
        "rewards too": partial(own_layout, learns=False, normalize=("observations", "rewards")),
    }
    if options.columns:
        runs = {name: runs[name] for name in options.columns.split(",")}
    print(f"| | {' | '.join(runs)} |\n|---|{'---|' * len(runs)}")
    for env_id in options.only.split(","):
        speeds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, make in runs.items():
                row = measure_system(f"{name} on {env_id}", make(env_id), options.seconds)
                speeds[name].append(row["steps_per_second"])
        base = fmean(speeds[next(iter(runs))])
        backend = fastest_backend(env_id)
        cells = " | ".join(
            f"{fmean(found):,.0f} ({fmean(found) / base:.2f} ×{'' if name in _OTHERS else f', {backend}'})"
            for name, found in speeds.items()
        )
        print(f"| {env_id.rpartition(':')[2]} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
