"""Env steps a second on Pong: both modes at the seed's constants, beside stable-baselines3's A2C and a roofline.

    python benchmarks/throughput.py --seconds 60
    python benchmarks/throughput.py --seconds 60 --num-workers 2 --num-envs 16 --only data,gradient,sb3,parts

`lock_step` is data mode with `data.synchronous`. Everything runs on the CPU. The roofline is what all cores would
give if environment, acting and learning cost what they cost alone, and nothing else did. These parts are measured
before and after the systems, and what they cost is the mean of both: machines drift.
`of roofline` and `x SB3` are ratios of steps/s; `lag` is in updates; `PSS` is the peak of the process tree; `CPU` is
the share of a core that each process kept busy, the learner first.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import CORES, measure, measure_system, run_parts, run_sb3, run_training

OURS = ("data", "gradient", "lock_step")
SYSTEMS = (*OURS, "sb3")


def measure_parts(args: argparse.Namespace) -> dict[str, float]:
    """Env steps a second of each part, none if they are not asked for."""
    if "parts" not in args.only:
        return {}
    rates: dict[str, float] = measure(
        "parts", partial(run_parts, num_envs=args.num_envs, bf16=args.bf16), args.seconds
    )[0]
    return rates


def table(systems: dict[str, dict[str, Any]], roofline: float | None) -> str:
    """One line a system; a dash where `--only` left out what a ratio needs."""
    reference = systems["sb3"]["steps_per_second"] if "sb3" in systems else None
    lines = [f"{'mode':10}{'steps/s':>9}{'x SB3':>8}{'of roofline':>13}{'lag':>7}{'PSS MiB':>9}  CPU %"]
    for name, row in systems.items():
        speed = row["steps_per_second"]
        to_sb3 = f"{speed / reference:.2f}" if reference else "-"
        to_roofline = f"{speed / roofline:.2f}" if roofline else "-"
        lines.append(
            f"{name:10}{speed:9.0f}{to_sb3:>8}{to_roofline:>13}{row['policy_lag']:7.2f}"
            f"{row['peak_pss'] / 2**20:9.0f}  {' + '.join(f'{share * 100:.0f}' for share in row['cpu'])}"
        )
    return "\n".join(lines)


def parts_table(parts: dict[str, float], roofline: float) -> str:
    """One line a part, and the roofline."""
    lines = [f"{'part, one core':24}{'steps/s':>9}{'µs a step':>11}"]
    lines += [f"{name:24}{rate:9.0f}{1e6 / rate:11.0f}" for name, rate in parts.items()]
    return "\n".join([*lines, f"{f'roofline, {CORES} cores':24}{roofline:9.0f}"])


def plot(systems: dict[str, dict[str, Any]], roofline: float | None, path: Path) -> None:
    """A bar for each system, and the roofline."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3), layout="constrained")).subplots()
    bars = axes.barh(list(systems), [row["steps_per_second"] for row in systems.values()])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    if roofline:
        axes.axvline(roofline, color="black", linestyle="--")
        axes.set_title(f"dashed: roofline {roofline:.0f}", fontsize="medium")
    axes.invert_yaxis()
    axes.set_xlabel("env steps/s")
    figure.savefig(path)


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
    parser.add_argument("--num-workers", type=int, default=4, help="of ours (default 4)")
    parser.add_argument("--num-envs", type=int, default=8, help="of each of our workers (default 8)")
    parser.add_argument("--env-threads", type=int, default=1, help="of each of our workers (default 1)")
    parser.add_argument("--slots-per-worker", type=int, help="of ours (default: those of two updates, shared)")
    parser.add_argument("--bf16", action="store_true", help="networks in bfloat16, but for stable-baselines3's")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--plot", type=Path, help="also draw them here (.png, .svg)")
    args = parser.parse_args()

    from lightning_a3c.recording import machine  # here, or what is measured would import Lightning too

    print("{cpu}, {cores} cores, torch {torch}".format(**machine()))
    if "sb3" in args.only and not (find_spec("stable_baselines3") and find_spec("cv2")):
        print("no stable_baselines3 (or its OpenCV) to compare with: pip install 'lightning-a3c[benchmarks]'")
        args.only.remove("sb3")
    names = ("num_workers", "num_envs", "env_threads", "slots_per_worker", "bf16")
    ours = {name: getattr(args, name) for name in names}
    runs = {name: partial(run_training, name, **ours) for name in OURS} | {"sb3": run_sb3}
    parts_before = measure_parts(args)
    systems = {name: measure_system(name, run, args.seconds) for name, run in runs.items() if name in args.only}
    parts_after = measure_parts(args)
    parts = {part: 2 / (1 / rate + 1 / parts_after[part]) for part, rate in parts_before.items()}
    roofline = CORES / sum(1 / rate for rate in parts.values()) if parts else None
    if systems:
        print("\n" + table(systems, roofline))
    if roofline:
        print("\n" + parts_table(parts, roofline))
    if args.json:
        result = {
            **machine(),
            "seconds": args.seconds,
            **ours,
            "systems": systems,
            "parts": parts,
            "roofline": roofline,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.plot and systems:
        plot(systems, roofline, args.plot)


if __name__ == "__main__":
    main()
