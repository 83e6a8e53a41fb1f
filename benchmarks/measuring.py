"""Env steps a second on Pong of whole systems and of their parts, each measured in a fresh process after a warm-up."""

# torch, Lightning and SB3 are imported where they are used: no measurement's memory holds another's library.

from __future__ import annotations

import copy
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any, NamedTuple

import process_tree

if TYPE_CHECKING:
    from lapan_runs import Mode

PONG = "PongNoFrameskip-v4"
MAX_WARM_UP = 10.0  # seconds
SAMPLING_INTERVAL = 4.0  # seconds between looks at a tree's memory, each of which costs it some 40 ms
CORES = sorted(os.sched_getaffinity(0))
BATCH_SIZE = 128  # transitions, of the seed
DEVICES = {"cpu": "cpu", "gpu": "cuda"}  # by Lightning's name of the accelerator


class Speed(NamedTuple):
    """Of one whole system."""

    steps_per_second: float
    cpu: list[float]  # share of one core by process, the learner first
    policy_lag: float  # mean, in updates


class Window:
    """A warm-up and then `seconds` of measuring, both counted from the first `tick`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._warm_until: float | None = None
        self._start: tuple[float, dict[int, float], int] | None = None  # time, CPU time by process, env steps
        self.steps_per_second = 0.0
        self.cpu: list[float] = []

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
        self.cpu = [
            (used - cpu_then.get(pid, 0.0)) / elapsed for pid, used in process_tree.cpu_seconds(os.getpid()).items()
        ]
        return True


def run_training(mode: Mode, seconds: float, accelerator: str = "cpu", bf16: bool = False, **changes: Any) -> Speed:
    """This package at Lapan's constants, but for `changes` of `lapan_runs.data_module`."""
    from lapan_runs import data_module

    data = data_module(mode, PONG, bf16=bf16, **changes)
    return run_fit(mode, data, seconds, bf16=bf16, accelerator=accelerator)


def run_fit(mode: Mode, data: Any, seconds: float, **options: Any) -> Speed:
    """Training on `data`, with the options of `lapan_runs.fit`."""
    from lapan_runs import fit

    window = Window(seconds)
    lags: list[float] = []

    def after_update(module: Any, batch: Any) -> bool:
        if window.is_measuring:
            lags.append(float(batch.policy_lag.float().mean()))
        return window.tick(module.progress.env_steps)

    fit(mode, data, after_update, **options)
    return Speed(window.steps_per_second, window.cpu, sum(lags) / len(lags))


def run_sb3(seconds: float, accelerator: str = "cpu") -> Speed:
    """stable-baselines3's A2C as its documentation trains Atari: 16 environments, one process."""
    import ale_py
    import gymnasium
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env(PONG, n_envs=16, seed=0), n_stack=4)
    model = A2C("CnnPolicy", env, seed=0, device=DEVICES[accelerator])
    window = Window(seconds)
    model.learn(10**9, callback=lambda _locals, _globals: not window.tick(model.num_timesteps))
    env.close()
    return Speed(window.steps_per_second, window.cpu, policy_lag=0.0)


def run_parts(
    seconds: float, core: int, num_envs: int, bf16: bool, accelerator: str = "cpu", worker_device: str = "cpu"
) -> dict[str, float]:
    """Env steps a second of each part alone, with one core and the device it computes on, for a sixth of `seconds`.

    A worker with `num_envs` environments steps and acts; learning is from 128 transitions, by the learner in data mode
    and by the worker in gradient mode. "env and acting in turn" is no part of its own: it shows what the two cost each
    other by using the same caches.
    """
    os.sched_setaffinity(0, {core})
    import torch

    from lightning_a3c.environments.config import EnvConfig
    from lightning_a3c.environments.making import make_vector_env
    from lightning_a3c.environments.task import describe_task
    from lightning_a3c.rl.networks import AtariA2C
    from lightning_a3c.rl.policies import NetworkPolicy
    from lightning_a3c.system.malloc import keep_freed_memory
    from lightning_a3c.system.processor import prefer_onednn

    torch.set_num_threads(1)
    keep_freed_memory()
    config = EnvConfig(id=PONG, num_envs=num_envs)
    task = describe_task(config)
    net = AtariA2C(task.observation_shape, task.num_actions)
    acting_net = copy.deepcopy(net).to(worker_device, torch.bfloat16 if bf16 else torch.float32)
    policy = NetworkPolicy(acting_net)
    memory = policy.memory(num_envs)
    env = make_vector_env(config)
    env.reset(seed=0)
    actions = torch.randint(task.num_actions, (num_envs,)).numpy()
    seen = torch.randint(256, (num_envs, *task.observation_shape), dtype=torch.uint8)

    def act() -> None:
        with torch.autocast(worker_device, torch.bfloat16, enabled=bf16):
            policy(seen, memory)

    def step() -> None:
        env.step(actions)

    def step_and_act() -> None:
        step()
        act()

    repeats: dict[str, tuple[Callable[[], None], int]] = {
        "env": (step, num_envs),
        "acting": (act, num_envs),
        "env and acting in turn": (step_and_act, num_envs),
        "learning": (_update(net, task, DEVICES[accelerator], bf16), BATCH_SIZE),
    }
    if DEVICES[accelerator] != worker_device:
        repeats["learning in a worker"] = _update(copy.deepcopy(net), task, worker_device, bf16), BATCH_SIZE
    with prefer_onednn([weight.shape for weight in net.parameters()], torch.device("cpu")):
        return {part: rate_of(repeat, steps, seconds / 6) for part, (repeat, steps) in repeats.items()}


def run_parts_on_all_cores(seconds: float, **changes: Any) -> dict[str, float]:
    """As `run_parts`, but on all cores at the same time, the mean core's; what cores share makes parts slower."""
    with ProcessPoolExecutor(len(CORES), multiprocessing.get_context("spawn")) as pool:
        rates = list(pool.map(partial(run_parts, seconds, **changes), CORES))
    return {part: harmonic_mean(of_core[part] for of_core in rates) for part in rates[0]}


def _update(net: Any, task: Any, device: str, bf16: bool) -> Callable[[], None]:
    """One update of `net` on `device` from a batch in this process's memory."""
    import torch

    from lightning_a3c.rl.losses import A2CLoss

    on_gpu = device != "cpu"
    net.to(device)
    batch = (
        torch.randint(256, (BATCH_SIZE, *task.observation_shape), dtype=torch.uint8, pin_memory=on_gpu),
        torch.randint(task.num_actions, (BATCH_SIZE,), pin_memory=on_gpu),
        torch.randn(BATCH_SIZE, pin_memory=on_gpu),
    )
    loss = A2CLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-3, fused=True)

    def update() -> None:
        observations, chosen, returns = (tensor.to(device, non_blocking=True) for tensor in batch)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits, values = net(observations)
        loss(logits, values, chosen, returns).loss_total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()

    return update


def rate_of(repeat: Callable[[], object], steps: int, seconds: float) -> float:
    window, done = Window(seconds), 0
    while not window.tick(done):
        repeat()
        done += steps
    return window.steps_per_second


def measure(name: str, run: Callable[[float], Any], seconds: float) -> tuple[Any, int]:
    """What `run(seconds)` returns in a fresh process, and the peak PSS of its tree in bytes."""
    print(f"measuring {name} ...", flush=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, run, seconds))
    process.start()
    sender.close()
    assert process.pid is not None
    peak = 0
    while not receiver.poll(SAMPLING_INTERVAL):
        peak = max(peak, process_tree.pss(process.pid))
    try:
        result = receiver.recv()
    except EOFError:
        raise SystemExit(f"measuring {name} failed; its traceback is above") from None
    process.join()
    return result, peak


def _send_result(sender: Connection, run: Callable[[float], Any], seconds: float) -> None:
    sender.send(run(seconds))


def measure_system(name: str, run: Callable[[float], Speed], seconds: float) -> dict[str, Any]:
    """The fields of `Speed` and `peak_pss`, for tables and JSON."""
    speed, peak_pss = measure(name, run, seconds)
    return {**speed._asdict(), "peak_pss": peak_pss}


def percentages(cpu: list[float]) -> str:
    """Shares of a core for a table; helpers that do nothing are left out."""
    return " + ".join(f"{share * 100:.0f}" for share in cpu if share >= 0.01)
