"""Env steps a second on Pong: both modes at Lapan's constants, beside stable-baselines3's A2C and a roofline.

    python benchmarks/throughput.py --seconds 60
    python benchmarks/throughput.py --seconds 60 --rounds 6 --num-workers 2 --num-envs 16
    python benchmarks/throughput.py --only data,gradient,parts --num-workers 1 --num-envs 64 --gradient-layout 2x32
    python benchmarks/throughput.py --seconds 60 --accelerator gpu --num-workers 15

`synchronous` is data mode with `data.synchronous`. The roofline is what all cores, and the GPU if there is one to use,
would give if environment, acting and learning cost what they cost alone, and nothing else did. Machines drift and
cores differ, so all is measured in turns: the parts on one core and then on all at once, each system for its share of
`--seconds`, the parts on the next core, and so on for `--rounds`. Numbers are means over the rounds, memory is the
highest. With all cores busy parts are slower by what cores share; how much differs from hour to hour.
`of roofline` and `x SB3` are ratios of steps/s; `lag` is in updates; `PSS` is the peak of the process tree; `CPU` is
the share of a core that each process kept busy, the learner first.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, harmonic_mean
from typing import TYPE_CHECKING, Any

from arguments import count, duration, figure_file, output_file
from measuring import (
    CORES,
    DEVICES,
    PONG,
    Speed,
    measure,
    measure_system,
    percentages,
    run_parts,
    run_parts_on_all_cores,
    run_sb3,
    run_training,
)

if TYPE_CHECKING:
    from lapan_runs import Mode

OURS: tuple[Mode, ...] = ("data", "gradient", "synchronous")
SYSTEMS = (*OURS, "sb3")
WORKERS_LEARN = ("gradient",)  # in the others the learner does

Rows = dict[str, dict[str, Any]]  # by system, the numbers of `measure_system`
Parts = dict[str, float]  # env steps a second
PartsByEnvs = dict[int, Parts]  # by the environments of a worker


def measure_in_turns(
    args: argparse.Namespace, runs: dict[str, Callable[[float], Speed]], env_counts: list[int]
) -> tuple[Rows, PartsByEnvs, PartsByEnvs]:
    """Systems, parts alone and parts with all cores busy; of these none if they are not asked for."""
    seconds = args.seconds / args.rounds
    changes = {name: getattr(args, name) for name in ("bf16", "accelerator", "worker_device")}
    env_counts = env_counts if "parts" in args.only else []
    alone: list[PartsByEnvs] = []
    busy: list[PartsByEnvs] = []
    rows: list[Rows] = []
    for turn in range(args.rounds + 1):
        if turn:
            rows.append({name: measure_system(name, run, seconds) for name, run in runs.items()})
        on_one = partial(run_parts, core=CORES[turn % len(CORES)], **changes)
        on_all = partial(run_parts_on_all_cores, **changes)
        alone.append({n: measure("parts", partial(on_one, num_envs=n), seconds)[0] for n in env_counts})
        busy.append({n: measure("parts on all cores", partial(on_all, num_envs=n), seconds)[0] for n in env_counts})
    systems = {name: _over_rounds([row[name] for row in rows]) for name in runs}
    return systems, _mean_rates(alone), _mean_rates(busy)


def _mean_rates(rounds: list[PartsByEnvs]) -> PartsByEnvs:
    return {
        num_envs: {part: harmonic_mean(rates[num_envs][part] for rates in rounds) for part in parts}
        for num_envs, parts in rounds[0].items()
    }


def _over_rounds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "steps_per_second": fmean(columns["steps_per_second"]),
        "cpu": [fmean(shares) for shares in zip(*columns["cpu"], strict=False)],
        "policy_lag": fmean(columns["policy_lag"]),
        "peak_pss": max(columns["peak_pss"]),
    }


def roofline(parts: Parts, system: str, accelerator: str, worker_device: str) -> float:
    """Env steps a second if all cores, and a GPU, did nothing but the parts, the busier of them all the time."""
    workers_learn = system in WORKERS_LEARN
    learning = "learning in a worker" if workers_learn and "learning in a worker" in parts else "learning"
    cost = dict.fromkeys(DEVICES.values(), 0.0)  # seconds an env step
    cost["cpu"] += 1 / parts["env"]
    cost[worker_device] += 1 / parts["acting"]
    cost[worker_device if workers_learn else DEVICES[accelerator]] += 1 / parts[learning]
    return 1 / max(cost["cpu"] / len(CORES), cost["cuda"])


def table(systems: Rows, rooflines: dict[str, float]) -> str:
    """One line a system; a dash where `--only` left out what a ratio needs."""
    reference = systems["sb3"]["steps_per_second"] if "sb3" in systems else None
    lines = [f"{'mode':10}{'steps/s':>9}{'x SB3':>8}{'of roofline':>13}{'lag':>7}{'PSS MiB':>9}  CPU %"]
    for name, row in systems.items():
        speed = row["steps_per_second"]
        to_sb3 = f"{speed / reference:.2f}" if reference else "-"
        to_roofline = f"{speed / rooflines[name]:.2f}" if rooflines else "-"
        lines.append(
            f"{name:10}{speed:9.0f}{to_sb3:>8}{to_roofline:>13}{row['policy_lag']:7.2f}"
            f"{row['peak_pss'] / 2**20:9.0f}  {percentages(row['cpu'])}"
        )
    return "\n".join(lines)


def parts_table(alone: PartsByEnvs, busy: PartsByEnvs, rooflines: dict[str, float], of_busy: dict[str, float]) -> str:
    """For each number of environments one line a part, and one for each roofline that differs."""
    lines = []
    for num_envs, parts in alone.items():
        title = f"part, {num_envs} environments"
        lines.append(f"{title:24}{'steps/s':>9}{'µs a step':>11}{'with all cores busy':>21}")
        for name, rate in parts.items():
            lines.append(f"{name:24}{rate:9.0f}{1e6 / rate:11.0f}{1e6 / busy[num_envs][name]:21.0f}")
    for value in sorted(set(rooflines.values())):
        names = [name for name in rooflines if rooflines[name] == value]
        lines.append(
            f"roofline of {', '.join(names)}, {len(CORES)} cores: {value:.0f}; of parts with all cores busy: "
            f"{of_busy[names[0]]:.0f}"
        )
    return "\n".join(lines)


def plot(systems: Rows, rooflines: dict[str, float], path: Path) -> None:
    """A bar for each system, and the rooflines."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3), layout="constrained")).subplots()
    bars = axes.barh(list(systems), [row["steps_per_second"] for row in systems.values()])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    values = sorted(set(rooflines.values()))
    for value in values:
        axes.axvline(value, color="black", linestyle="--")
    if values:
        axes.set_title("dashed: roofline " + ", ".join(f"{value:.0f}" for value in values), fontsize="medium")
    axes.invert_yaxis()
    axes.set_xlabel("env steps/s")
    figure.savefig(path)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - {*SYSTEMS, "parts"}
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} unknown; choose of {','.join(SYSTEMS)},parts")
    return names


def _layout(text: str) -> dict[str, int]:
    numbers = re.fullmatch(r"(\d+)x(\d+)", text)
    if not numbers:
        raise argparse.ArgumentTypeError(f"must be WORKERSxENVIRONMENTS, such as 2x32, got {text}")
    return {"num_workers": count(numbers[1]), "num_envs": count(numbers[2]), "env_threads": 1}


def _check_ours(only: list[str], ours: dict[str, dict[str, Any]]) -> None:
    from lapan_runs import data_module

    for mode in OURS:
        if mode in only:
            try:
                data_module(mode, PONG, **ours[mode])
            except ValueError as error:
                raise ValueError(f"{mode} cannot run so, mend it or leave {mode} out of --only: {error}") from error


def main() -> None:
    """Measure what was asked for, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=60.0, help="measured time of each system (default 60)")
    parser.add_argument("--rounds", type=count, default=1, help="in which it is measured (default 1)")
    parser.add_argument("--only", type=_names, default=[*SYSTEMS, "parts"], help=f"of {','.join(SYSTEMS)},parts")
    parser.add_argument("--num-workers", type=count, default=4, help="of ours (default 4)")
    parser.add_argument("--num-envs", type=count, default=8, help="of each of our workers (default 8)")
    parser.add_argument("--env-threads", type=count, default=1, help="of each of our workers (default 1)")
    parser.add_argument("--gradient-layout", type=_layout, default={}, metavar="2x32", help="workers x environments")
    parser.add_argument("--slots-per-worker", type=count, help="of ours (default: those of two updates, shared)")
    parser.add_argument("--bf16", action="store_true", help="networks in bfloat16, but for stable-baselines3's")
    parser.add_argument("--accelerator", choices=DEVICES, default="cpu", help="of the learners (default cpu)")
    parser.add_argument("--worker-device", choices=DEVICES.values(), default="cpu", help="of our workers (default cpu)")
    parser.add_argument("--json", type=output_file, help="also write the numbers here")
    parser.add_argument("--plot", type=figure_file, help="also draw them here (.png, .svg)")
    args = parser.parse_args()

    from lightning_a3c.system.machine import machine

    about_machine = machine()
    if args.accelerator == "gpu" and about_machine["gpu"] == "none":
        parser.error("--accelerator gpu: PyTorch sees no CUDA GPU here; leave it out to measure on the CPU")
    names = ("num_workers", "num_envs", "env_threads", "slots_per_worker", "bf16", "worker_device")
    common = {name: getattr(args, name) for name in names}
    ours = dict.fromkeys(OURS, common) | {"gradient": common | args.gradient_layout}
    try:
        _check_ours(args.only, ours)
    except ValueError as error:
        parser.error(str(error))
    print("{cpu}, {cores} cores, torch {torch}, GPU {gpu}".format(**about_machine))
    if "sb3" in args.only and not (find_spec("stable_baselines3") and find_spec("cv2")):
        print("no stable_baselines3 (or its OpenCV) to compare with: pip install 'lightning-a3c[benchmarks]'")
        args.only.remove("sb3")
    runs: dict[str, Callable[[float], Speed]] = {
        name: partial(run_training, name, accelerator=args.accelerator, **ours[name]) for name in OURS
    }
    runs["sb3"] = partial(run_sb3, accelerator=args.accelerator)
    runs = {name: run for name, run in runs.items() if name in args.only}
    num_envs = {name: ours.get(name, common)["num_envs"] for name in runs}
    systems, alone, busy = measure_in_turns(args, runs, list(dict.fromkeys(num_envs.values())) or [args.num_envs])
    rooflines, busy_rooflines = (
        {name: roofline(parts[num_envs[name]], name, args.accelerator, args.worker_device) for name in runs if parts}
        for parts in (alone, busy)
    )
    if systems:
        print("\n" + table(systems, rooflines))
    if alone:
        print("\n" + parts_table(alone, busy, rooflines, busy_rooflines))
    if args.json:
        result = {
            **about_machine,
            "seconds": args.seconds,
            "rounds": args.rounds,
            **common,
            "gradient_layout": args.gradient_layout,
            "accelerator": args.accelerator,
            "systems": systems,
            "parts": alone,
            "rooflines": rooflines,
            "parts_on_all_cores": busy,
            "rooflines_on_all_cores": busy_rooflines,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.plot and systems:
        plot(systems, rooflines, args.plot)


if __name__ == "__main__":
    main()
