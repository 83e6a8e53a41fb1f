"""Env steps a second on Pong: both modes at the seed's constants, beside stable-baselines3's A2C and a roofline.

    python benchmarks/throughput.py --seconds 60

`lock_step` is data mode with `data.synchronous`. Everything runs on the CPU. Each measurement has a fresh process
and a warm-up. The roofline is what all cores would give if environment, acting and learning cost what they cost
alone, and nothing else did.
`of roofline` and `x SB3` are ratios of steps/s; `lag` is in updates; `PSS` is the peak of the process tree
(as sampled once a second), `CPU` the share of all cores that the tree kept busy.
"""

# torch, Lightning and SB3 are imported where they are used: no measurement's memory holds another's library.

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import process_tree

PONG = "PongNoFrameskip-v4"
SYSTEMS = ("data", "gradient", "lock_step", "sb3")
MAX_WARM_UP = 10.0  # seconds
CORES = len(os.sched_getaffinity(0))


class Speed(NamedTuple):
    """Of one whole system."""

    steps_per_second: float
    cpu_busy: float  # share of all cores, 0 … 1
    policy_lag: float  # mean, in updates


class Window:
    """A warm-up and then `seconds` of measuring, both counted from the first `tick`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._warm_until: float | None = None
        self._start: tuple[float, float, int] | None = None  # time, CPU time, env steps
        self.steps_per_second = 0.0
        self.cpu_busy = 0.0

    @property
    def is_measuring(self) -> bool:
        return self._start is not None

    def tick(self, env_steps: int) -> bool:
        """Tell how many steps have been taken so far; true once the time is over."""
        now = time.perf_counter()
        if self._warm_until is None:
            self._warm_until = now + min(MAX_WARM_UP, self._seconds / 4)
        if self._start is None:
            if now >= self._warm_until:
                self._start = now, process_tree.cpu_seconds(os.getpid()), env_steps
            return False
        then, cpu_then, steps_then = self._start
        elapsed = now - then
        if elapsed < self._seconds:
            return False
        self.steps_per_second = (env_steps - steps_then) / elapsed
        self.cpu_busy = (process_tree.cpu_seconds(os.getpid()) - cpu_then) / elapsed / CORES
        return True


def run_system(name: str, seconds: float) -> Speed:
    """Measure a whole system in this process and its children."""
    if name == "sb3":
        return _run_sb3(seconds)
    from seed_runs import fit

    window = Window(seconds)
    lags: list[float] = []

    def after_update(module: Any, batch: Any) -> bool:
        if window.is_measuring:
            lags.append(float(batch.policy_lag.float().mean()))
        return window.tick(module.progress.env_steps)

    fit("gradient" if name == "gradient" else "data", PONG, after_update, synchronous=name == "lock_step")
    return Speed(window.steps_per_second, window.cpu_busy, sum(lags) / len(lags))


def _run_sb3(seconds: float) -> Speed:
    import ale_py
    import gymnasium
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env(PONG, n_envs=16, seed=0), n_stack=4)
    model = A2C("CnnPolicy", env, seed=0, device="cpu")
    window = Window(seconds)
    model.learn(10**9, callback=lambda _locals, _globals: not window.tick(model.num_timesteps))
    env.close()
    return Speed(window.steps_per_second, window.cpu_busy, policy_lag=0.0)


def run_parts(name: str, seconds: float) -> dict[str, float]:
    """Env steps a second that one core does of each part alone, for a sixth of `seconds` each."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch

    from lightning_a3c.envs import EnvConfig, inspect, make_vector_env
    from lightning_a3c.losses import A2CLoss
    from lightning_a3c.networks import AtariA2C
    from lightning_a3c.policies import SoftmaxPolicy

    torch.set_num_threads(1)
    config = EnvConfig(id=PONG, num_envs=8)
    protocol = inspect(config)
    net = AtariA2C(protocol.observation_shape, protocol.num_actions)
    env = make_vector_env(config)
    env.reset(seed=0)
    actions = torch.randint(protocol.num_actions, (128,))
    returns = torch.randn(128)
    observations = torch.randint(256, (128, *protocol.observation_shape), dtype=torch.uint8)
    policy, loss = SoftmaxPolicy(net), A2CLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-3, fused=True)

    def learn() -> None:
        optimizer.zero_grad()
        logits, values = net(observations)
        loss(logits, values, actions, returns).loss_total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()

    parts: list[tuple[str, Callable[[], object], int]] = [
        ("env, 8 envs", lambda: env.step(actions[:8].numpy()), 8),
        ("acting, batch 8", lambda: policy(observations[:8]), 8),
        ("learning, batch 128", learn, 128),
    ]
    return {part: _rate(repeat, steps, seconds / 6) for part, repeat, steps in parts}


def _rate(repeat: Callable[[], object], steps: int, seconds: float) -> float:
    window, done = Window(seconds), 0
    while not window.tick(done):
        repeat()
        done += steps
    return window.steps_per_second


def measure(run: Callable[[str, float], Any], name: str, seconds: float) -> tuple[Any, int]:
    """What `run(name, seconds)` returns in a fresh process, and the peak PSS of its tree in bytes."""
    print(f"measuring {name} ...", flush=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, run, name, seconds))
    process.start()
    sender.close()
    assert process.pid is not None
    peak = 0
    while not receiver.poll(timeout=1.0):
        peak = max(peak, process_tree.pss(process.pid))
    try:
        result = receiver.recv()
    except EOFError:
        raise SystemExit(f"measuring {name} failed; its traceback is above") from None
    process.join()
    return result, peak


def _send_result(sender: Connection, run: Callable[[str, float], Any], name: str, seconds: float) -> None:
    sender.send(run(name, seconds))


def table(systems: dict[str, dict[str, float]], roofline: float | None) -> str:
    """One line a system; a dash where `--only` left out what a ratio needs."""
    reference = systems["sb3"]["steps_per_second"] if "sb3" in systems else None
    lines = [f"{'mode':10}{'steps/s':>9}{'x SB3':>8}{'of roofline':>13}{'lag':>7}{'PSS MiB':>9}{'CPU':>7}"]
    for name, row in systems.items():
        speed = row["steps_per_second"]
        to_sb3 = f"{speed / reference:.2f}" if reference else "-"
        to_roofline = f"{speed / roofline:.2f}" if roofline else "-"
        lines.append(
            f"{name:10}{speed:9.0f}{to_sb3:>8}{to_roofline:>13}{row['policy_lag']:7.2f}"
            f"{row['peak_pss'] / 2**20:9.0f}{row['cpu_busy']:7.0%}"
        )
    return "\n".join(lines)


def parts_table(parts: dict[str, float], roofline: float) -> str:
    """One line a part, and the roofline."""
    lines = [f"{'part, one core':24}{'steps/s':>9}{'µs a step':>11}"]
    lines += [f"{name:24}{rate:9.0f}{1e6 / rate:11.0f}" for name, rate in parts.items()]
    return "\n".join([*lines, f"{f'roofline, {CORES} cores':24}{roofline:9.0f}"])


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, and PyTorch's version."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": CORES, "torch": version("torch")}


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - {*SYSTEMS, "parts"}
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} unknown; choose of {','.join(SYSTEMS)},parts")
    return names


def main() -> None:
    """Measure what was asked for, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured time of each system (default 60)")
    parser.add_argument("--only", type=_names, default=[*SYSTEMS, "parts"], help="of data,gradient,lock_step,sb3,parts")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    print("{cpu}, {cores} cores, torch {torch}".format(**machine()))
    if "sb3" in args.only and not (find_spec("stable_baselines3") and find_spec("cv2")):
        print("no stable_baselines3 (or its OpenCV) to compare with: pip install 'lightning-a3c[benchmarks]'")
        args.only.remove("sb3")
    systems: dict[str, dict[str, float]] = {}
    for name in (name for name in SYSTEMS if name in args.only):
        speed, peak_pss = measure(run_system, name, args.seconds)
        systems[name] = {**speed._asdict(), "peak_pss": peak_pss}
    parts: dict[str, float] = measure(run_parts, "parts", args.seconds)[0] if "parts" in args.only else {}
    roofline = CORES / sum(1 / rate for rate in parts.values()) if parts else None
    if systems:
        print("\n" + table(systems, roofline))
    if roofline:
        print("\n" + parts_table(parts, roofline))
    if args.json:
        result = {**machine(), "seconds": args.seconds, "systems": systems, "parts": parts, "roofline": roofline}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
