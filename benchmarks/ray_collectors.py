"""Collectors on Ray beside the local pool, on this machine.

    python benchmarks/ray_collectors.py pong --seconds 20      # env steps for each CPU second, training Pong fast
    python benchmarks/ray_collectors.py messages --seconds 10  # what a message costs the learner
    python benchmarks/ray_collectors.py growth --seconds 10    # 1 … 128 workers whose environments sleep
    python benchmarks/ray_collectors.py bytes                  # what a Pong env step puts on the network

`pong` trains with the values of configs/pong_data_fast.yaml that matter for speed. `messages` and `growth` only take
batches; their environments show random bytes in Pong's form. `growth` shows what the library adds as workers become
many: its environments sleep, so it says nothing of the speed of a cluster. `efficiency` is env steps a second for each
worker, compared with one worker on the same kind of collectors. `bytes` plays Pong in this process and compresses what
actors would send, which this package does not do, in several ways. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import process_tree
from arguments import count, duration, output_file
from measuring import PONG, Speed, measure_system, run_fit

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128)
PAUSE = 0.05  # seconds that a sleeping environment takes for a step: 128 workers leave most of a core idle
GIGABIT = 125_000_000  # bytes a second
PLAYED = 100  # messages of `bytes`; the first half of them is left out, since it shows how games begin
NETWORK = {"class_path": "lightning_a3c.AtariA2C", "init_args": {"widths": [16, 32, 32], "hidden_size": 256}}
Rows = list[dict[str, Any]]


class Bytes(gymnasium.Env[np.ndarray, np.int64]):
    """Shows the same 84 × 84 × 4 bytes, after a pause if there is to be one."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gymnasium.spaces.Discrete(6)

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self._shown = np.random.default_rng(0).integers(0, 256, (4, 84, 84), dtype=np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._shown, {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._pause:
            time.sleep(self._pause)
        return self._shown, 0.0, False, False, {}


def collectors(kind: str, actors: int, messages_per_call: int) -> Any:
    """What `data.collectors` is to be for `kind`, "local" or "ray"."""
    from lightning_a3c import RayCollectors

    if kind == "local":
        return None
    return RayCollectors(actors=actors, cpus_per_actor=0.01, messages_per_call=messages_per_call)


def train_pong(kind: str, args: argparse.Namespace, seconds: float) -> Speed:
    """Pong fast, data mode, two workers."""
    from lightning_a3c import CollectorDataModule, EnvConfig

    data = CollectorDataModule(
        EnvConfig(PONG, num_envs=32),
        num_workers=2,
        n_steps=10,
        micro_batch_size=40,
        batch_size=80,
        worker_precision="auto",
        seed=0,
        collectors=collectors(kind, args.actors, args.messages_per_call),
    )
    return run_fit("data", data, seconds, bf16=data.worker_precision == "bf16-true", network=NETWORK)


def take_batches(kind: str, workers: int, pause: float, args: argparse.Namespace) -> dict[str, float]:
    """Speeds of a learner that does nothing but take batches of as many messages as there are workers."""
    from torch import Tensor, nn

    from lightning_a3c import CollectorDataModule, EnvConfig

    class Shallow(nn.Module):  # as little to compute as can be
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.Linear(16, 7)

        def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
            out = self.heads(observations.flatten(1)[:, :16].float())
            return out[:, :6], out[:, 6]

    micro_batch = 8 if pause else 32
    gymnasium.register("Bytes-v0", "ray_collectors:Bytes", kwargs={"pause": pause}, disable_env_checker=True)
    data = CollectorDataModule(
        EnvConfig("Bytes-v0", num_envs=1 if pause else 8),
        num_workers=workers,
        micro_batch_size=micro_batch,
        batch_size=micro_batch * max(4, workers),
        updates_per_epoch=10**9,
        seed=0,
        collectors=collectors(kind, args.actors, args.messages_per_call),
    )
    with closing(data.dataset(Shallow())) as stream:
        batches = iter(stream)
        for _ in range(4):  # workers have started, and the first messages are behind
            next(batches)
        cpu = sum(process_tree.cpu_seconds(os.getpid()).values())
        own = time.process_time()
        begun, messages = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begun) < args.seconds:
            messages += len(next(batches).policy_lag)
        return {
            "messages_per_second": messages / elapsed,
            "steps_per_second": micro_batch * messages / elapsed,
            "learner_ms_per_message": 1000 * (time.process_time() - own) / messages,
            "steps_per_cpu_second": micro_batch
            * messages
            / (sum(process_tree.cpu_seconds(os.getpid()).values()) - cpu),
        }


def pong(args: argparse.Namespace) -> Rows:
    rows: Rows = []
    for kind in ("local", "ray"):
        row = measure_system(kind, partial(train_pong, kind, args), args.seconds)
        each = row["steps_per_second"] / sum(row["cpu"])
        rows.append({"collectors": kind, "steps_per_cpu_second": each, **row})
        print(
            f"{kind:8}{row['steps_per_second']:8.0f} steps/s{each:8.0f} steps per CPU second"
            f"{row['policy_lag']:7.2f} lag{row['peak_pss'] / 2**20:7.0f} MiB PSS",
            flush=True,
        )
    share = rows[1]["steps_per_cpu_second"] / rows[0]["steps_per_cpu_second"]
    print(f"Ray gives {share:.2f} of the local pool's env steps per CPU second")
    return rows


def messages(args: argparse.Namespace) -> Rows:
    rows: Rows = []
    for kind in ("local", "ray"):
        rows.append({"collectors": kind, **_in_a_process(take_batches, kind, 2, 0.0, args)})
        row = rows[-1]
        print(
            f"{kind:8}{row['messages_per_second']:8.0f} messages/s"
            f"{row['learner_ms_per_message']:8.2f} ms of the learner's CPU a message: at most "
            f"{1000 / row['learner_ms_per_message']:.0f} messages/s",
            flush=True,
        )
    return rows


def growth(args: argparse.Namespace) -> Rows:
    rows: Rows = []
    for kind in ("local", "ray"):
        for workers in (number for number in WORKERS if number <= args.most and number % args.actors == 0):
            row = _in_a_process(take_batches, kind, workers, PAUSE, args)
            rows.append({"collectors": kind, "workers": workers, **row})
            first = next(row for row in rows if row["collectors"] == kind)
            rows[-1]["efficiency"] = row["steps_per_second"] / workers * first["workers"] / first["steps_per_second"]
            print(
                f"{kind:8}{workers:4} workers{row['steps_per_second']:9.0f} steps/s"
                f"{rows[-1]['efficiency']:7.2f} efficiency",
                flush=True,
            )
    return rows


Packed = tuple[list[bytes], tuple[int, ...]]  # what would be sent, and the shape of what it holds


def _zipped(level: int) -> tuple[Callable[[np.ndarray], Packed], Callable[[Packed], np.ndarray]]:
    def pack(seen: np.ndarray) -> Packed:
        return [zlib.compress(seen.data, level)], seen.shape

    def unpack(packed: Packed) -> np.ndarray:
        return np.frombuffer(zlib.decompress(packed[0][0]), np.uint8).reshape(packed[1])

    return pack, unpack


def _pack_frames(seen: np.ndarray) -> Packed:
    """Each frame once: stacks share frames."""
    frames: dict[bytes, int] = {}
    places = [frames.setdefault(frame.tobytes(), len(frames)) for stack in seen for frame in stack]
    return [np.array(places, np.uint16).tobytes(), b"".join(frames)], seen.shape


def _unpack_frames(packed: Packed) -> np.ndarray:
    (places, frames), shape = packed
    return np.frombuffer(frames, np.uint8).reshape(-1, *shape[2:])[np.frombuffer(places, np.uint16)].reshape(shape)


def _pack_zipped_frames(seen: np.ndarray) -> Packed:
    (places, frames), shape = _pack_frames(seen)
    return [places, zlib.compress(frames, 1)], shape


def _unpack_zipped_frames(packed: Packed) -> np.ndarray:
    (places, frames), shape = packed
    return _unpack_frames(([places, zlib.decompress(frames)], shape))


PACKINGS: dict[str, tuple[Callable[[np.ndarray], Packed], Callable[[Packed], np.ndarray]]] = {
    "as it is": (
        lambda seen: ([seen.tobytes()], seen.shape),
        lambda packed: np.frombuffer(packed[0][0], np.uint8).reshape(packed[1]),
    ),
    "zlib, level 1": _zipped(1),
    "zlib, level 6": _zipped(6),
    "each frame once": (_pack_frames, _unpack_frames),
    "each once, zlib level 1": (_pack_zipped_frames, _unpack_zipped_frames),
}


def sent_bytes(args: argparse.Namespace) -> Rows:
    """The size of Pong fast's messages and weights, and of observations compressed in several ways."""
    from torch import Tensor

    from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig
    from lightning_a3c.collection.shared_weights import arrays_of
    from lightning_a3c.rl.types import Transitions, map_tensors

    data = CollectorDataModule(
        EnvConfig(PONG, num_envs=32), num_workers=0, n_steps=10, micro_batch_size=40, batch_size=40, seed=0
    )
    agent = A3CModule.for_data(data, network=NETWORK)
    sizes: list[int] = []

    def add(tensor: Tensor) -> None:
        sizes.append(tensor.nbytes)

    steps = 0
    seen = []
    with closing(data.dataset(agent.net)) as stream:
        for number, batch in zip(range(PLAYED), stream, strict=False):
            if number >= PLAYED // 2:
                steps += int(batch.stats.env_steps.sum())
                map_tensors(add, batch.payload)
                map_tensors(add, batch.stats)
                assert isinstance(batch.payload, Transitions)
                seen.append(batch.payload.observations.numpy())
    weights = sum(array.nbytes for array in arrays_of(agent.net, agent.net))
    of_weights = weights / (args.messages_per_call * data.micro_batch_size)
    print(
        f"{sum(sizes) / steps:.0f} bytes an env step to the learner; weights {weights / 1e6:.2f} MB a version, "
        f"{of_weights:.0f} bytes an env step from the learner if each call brings another version to another node"
    )
    calls = [np.concatenate(seen[i : i + args.messages_per_call]) for i in range(0, len(seen), args.messages_per_call)]
    rows: Rows = [{"bytes_per_step": sum(sizes) / steps, "weights": weights, "weights_per_step": of_weights}]
    for name, (pack, unpack) in PACKINGS.items():
        begun = time.process_time()
        packed = [pack(call) for call in calls]
        between = time.process_time()
        unpacked = [unpack(call) for call in packed]
        ended = time.process_time()
        assert all(np.array_equal(one, other) for one, other in zip(calls, unpacked, strict=True))
        count = sum(len(call) for call in calls)
        size = sum(sum(map(len, call[0])) for call in packed) / count
        pack_ms, unpack_ms = (1000 * seconds / len(seen) for seconds in (between - begun, ended - between))
        rows.append({"packing": name, "bytes": size, "pack_ms": pack_ms, "unpack_ms": unpack_ms})
        print(
            f"{name:24}{size:9.0f} bytes an observation{GIGABIT / size:9.0f} steps/s at most over 1 Gbit/s"
            f"{pack_ms:8.2f} ms a message at the actor{unpack_ms:8.2f} ms at the learner",
            flush=True,
        )
    return rows


def _in_a_process(function: Any, *arguments: Any) -> dict[str, float]:
    """Each measurement begins anew, as on a machine where nothing has run."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result: dict[str, float] = pool.submit(function, *arguments).result()
    return result


COMMANDS = {"pong": pong, "messages": messages, "growth": growth, "bytes": sent_bytes}


def main() -> None:
    """Measure, print each row when it is there, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--seconds", type=duration, default=20.0, help="measured time of each row (default 20)")
    parser.add_argument("--actors", type=count, default=1, help="actors of each Ray row (default 1)")
    parser.add_argument("--messages-per-call", type=count, default=4, help="micro-batches in a call (default 4)")
    parser.add_argument("--most", type=count, default=WORKERS[-1], help="workers of the last row of growth")
    parser.add_argument("--json", type=output_file, help="also write the numbers here")
    args = parser.parse_args()

    from lightning_a3c.system.machine import machine

    print("{cpu}, {cores} cores, torch {torch}".format(**machine()))
    rows = COMMANDS[args.what](args)
    if args.json:
        args.json.write_text(json.dumps({**machine(), "seconds": args.seconds, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
