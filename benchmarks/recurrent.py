"""Env steps a second on Pong with the LSTM agent of Mnih et al. 2016, beside sb3-contrib's RecurrentPPO and a roofline.

    python benchmarks/recurrent.py --seconds 60

Both have 16 environments, two convolutions, 256 features and an LSTM of 256 units. RecurrentPPO learns once from each
rollout of 10 steps ("one epoch"), and as often as its default says. The roofline is what two cores would give if
environment, acting and learning cost what they cost alone. The row of four workers is for its memory.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import harmonic_mean
from typing import Any

from arguments import duration
from measuring import CORES, PONG, Speed, Window, measure, measure_system, percentages, rate_of, run_fit

STEPS, ENVS = 10, 8  # of a sequence; of a worker
BATCH = STEPS * ENVS


def run_ours(seconds: float, workers: int) -> Speed:
    """Data mode."""
    from lightning_a3c import AtariLSTM, CollectorDataModule, EnvConfig

    data = CollectorDataModule(
        EnvConfig(PONG, num_envs=ENVS), num_workers=workers, n_steps=STEPS, micro_batch_size=BATCH, batch_size=BATCH
    )
    return run_fit("data", data, seconds, network=AtariLSTM)


def run_recurrent_ppo(seconds: float, epochs: int) -> Speed:
    """sb3-contrib's RecurrentPPO with the same network and number of environments, in one process."""
    import ale_py
    import gymnasium
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecFrameStack

    class Mnih2013(BaseFeaturesExtractor):
        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, 256)
            nn = torch.nn
            self.layers = nn.Sequential(
                nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.Flatten(),
                nn.Linear(2592, 256), nn.ReLU(),
            )  # fmt: skip

        def forward(self, observations: Any) -> Any:
            return self.layers(observations)

    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env(PONG, n_envs=2 * ENVS, seed=0), n_stack=4)
    net = {
        "features_extractor_class": Mnih2013,
        "lstm_hidden_size": 256,
        "net_arch": [],
        "shared_lstm": True,
        "enable_critic_lstm": False,
    }
    batch = STEPS * 2 * ENVS
    model = RecurrentPPO(
        "CnnLstmPolicy", env, n_steps=STEPS, batch_size=batch, n_epochs=epochs, policy_kwargs=net, seed=0, device="cpu"
    )
    window = Window(seconds)
    model.learn(10**9, callback=lambda _locals, _globals: not window.tick(model.num_timesteps))
    env.close()
    return Speed(window.steps_per_second, window.cpu, policy_lag=0.0)


def run_parts(seconds: float) -> dict[str, float]:
    """Env steps a second of each part alone on one core."""
    import os

    os.sched_setaffinity(0, {CORES[0]})
    import torch

    from lightning_a3c import A3CModule, AtariLSTM, CollectorDataModule, EnvConfig
    from lightning_a3c.environments.making import make_vector_env
    from lightning_a3c.rl.memory import outputs_of
    from lightning_a3c.rl.policies import NetworkPolicy
    from lightning_a3c.rl.types import Sequences
    from lightning_a3c.system.malloc import keep_freed_memory
    from lightning_a3c.system.processor import prefer_onednn

    torch.set_num_threads(1)
    keep_freed_memory()
    config = EnvConfig(PONG, num_envs=ENVS)
    data = CollectorDataModule(config, num_workers=0, n_steps=STEPS, micro_batch_size=BATCH, batch_size=BATCH)
    module = A3CModule.for_data(data, network=AtariLSTM)
    dataset = data.dataset(module.net)
    payload = next(iter(dataset)).payload
    assert isinstance(payload, Sequences)
    dataset.close()
    policy = NetworkPolicy(module.net)
    memory, seen = policy.memory(ENVS), payload.observations[:, 0]
    env = make_vector_env(config)
    env.reset(seed=0)
    actions = payload.actions[:, 0].numpy()
    optimizer = torch.optim.Adam(module.net.parameters(), fused=True)

    def learn() -> None:
        optimizer.zero_grad()
        loss = module.loss.of(*outputs_of(module.net, payload, True), payload).loss_total
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.net.parameters(), 0.1)
        optimizer.step()

    with prefer_onednn([weight.shape for weight in module.net.parameters()], torch.device("cpu")):
        return {
            "env": rate_of(lambda: env.step(actions), ENVS, seconds / 3),
            "acting": rate_of(lambda: policy(seen, memory), ENVS, seconds / 3),
            "learning": rate_of(learn, BATCH, seconds / 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=60.0)
    seconds = parser.parse_args().seconds
    parts, _ = measure("parts", run_parts, seconds)
    roofline = 2 * harmonic_mean(parts.values()) / len(parts)
    print(
        " · ".join(f"{name} {rate:.0f}" for name, rate in parts.items()),
        f"→ roofline of two cores {roofline:.0f}",
        flush=True,
    )
    rows = {
        "this package, 2 × 8 environments": partial(run_ours, workers=2),
        "this package, 4 × 8 environments": partial(run_ours, workers=4),
        "RecurrentPPO, one epoch": partial(run_recurrent_ppo, epochs=1),
        "RecurrentPPO, ten epochs": partial(run_recurrent_ppo, epochs=10),
    }
    print("| | env steps/s | of the roofline | PSS, MiB | CPU, % of a core |")
    for name, run in rows.items():
        row = measure_system(name, run, seconds)
        speed, pss, cpu = row["steps_per_second"], row["peak_pss"] / 2**20, percentages(row["cpu"])
        print(f"| {name} | {speed:.0f} | {speed / roofline:.2f} | {pss:.0f} | {cpu} |", flush=True)


if __name__ == "__main__":
    main()
