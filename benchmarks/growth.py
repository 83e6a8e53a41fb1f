"""How env steps a second on Pong grow with workers and with environments per worker, in both modes.

    python benchmarks/growth.py --seconds 15

All else is as in the seed: 4 workers × 8 environments, 128 transitions an update. `PSS` is the peak of the process
tree, `lag` in updates, `CPU` the share of a core that each process kept busy, the learner first.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arguments import duration, figure_file, output_file
from measuring import measure_system, percentages, run_training

if TYPE_CHECKING:
    from lapan_runs import Mode

MODES: tuple[Mode, ...] = ("data", "gradient")
VARIED: dict[str, tuple[int, ...]] = {"num_workers": (1, 2, 4, 8, 16), "num_envs": (1, 2, 4, 8, 16, 32, 64)}
LABELS = {"num_workers": "workers, 8 environments each", "num_envs": "environments for each of 4 workers"}
Rows = list[dict[str, Any]]


def sweep(seconds: float) -> Rows:
    """One row for each mode and value, the numbers of `measure_system` in it."""
    rows: Rows = []
    for mode in MODES:
        for name, values in VARIED.items():
            for value in values:
                changes: dict[str, Any] = {name: value}
                run = partial(run_training, mode, **changes)
                row = measure_system(f"{mode}, {name} {value}", run, seconds)
                rows.append({"mode": mode, "varied": name, "value": value, **row})
                print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    return (
        f"{row['mode']:10}{row['varied']:>12}{row['value']:4}{row['steps_per_second']:9.0f} steps/s"
        f"{row['policy_lag']:7.2f} lag{row['peak_pss'] / 2**20:7.0f} MiB PSS  CPU % {percentages(row['cpu'])}"
    )


def plot(rows: Rows, path: Path) -> None:
    """Steps/s over what is varied, a line for each mode."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), VARIED, strict=True):
        for mode in MODES:
            points = [row for row in rows if row["mode"] == mode and row["varied"] == name]
            speeds = [row["steps_per_second"] for row in points]
            axes.plot([row["value"] for row in points], speeds, marker="o", label=f"{mode} mode")
        axes.set_xscale("log", base=2)
        axes.set_xticks(VARIED[name], [str(value) for value in VARIED[name]])
        axes.set_xlabel(LABELS[name])
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.supylabel("env steps/s")
    figure.savefig(path)


def main() -> None:
    """Measure, print each row when it is there, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=30.0, help="measured time of each row (default 30)")
    parser.add_argument("--json", type=output_file, help="also write the numbers here")
    parser.add_argument("--plot", type=figure_file, help="also draw them here (.png, .svg)")
    args = parser.parse_args()

    from lightning_a3c.system.machine import machine

    print("{cpu}, {cores} cores, torch {torch}".format(**machine()))
    rows = sweep(args.seconds)
    if args.json:
        args.json.write_text(json.dumps({**machine(), "seconds": args.seconds, "rows": rows}, indent=2) + "\n")
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
