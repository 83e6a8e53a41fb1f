"""Thin the logs of published runs: at most 300 rows, and only the columns that `plot` and `report` read.

    python results/thin.py results/pong/envs64_data_seed0 results/breakout/data_seed0

The first row, the last two and the one with the best mean return always stay. Values keep six significant digits,
counts all of them. A log that is thin enough stays as it is.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

ROWS = 300
BEST = "return_100"
COLUMNS = (
    *("step", "env_steps", "frames", "train_seconds", "episodes", "return", "return_100"),
    *("loss_total", "loss_policy", "loss_value", "explained_variance", "entropy"),
    *("policy_lag", "steps/s", "grad_norm", "worker_grad_norm"),
)


def thin(path: Path) -> None:
    """Rewrite one metrics.csv."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["env_steps"]]
    columns = [column for column in COLUMNS if column in rows[0]]
    best = max(range(len(rows)), key=lambda index: float(rows[index][BEST] or "-inf"))
    evenly = np.linspace(0, len(rows) - 1, ROWS - 2).round().astype(int) if len(rows) > ROWS else range(len(rows))
    kept = {*evenly, len(rows) - 2, best}
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[short(rows[index][column]) for column in columns] for index in sorted(kept)])


def short(value: str) -> str:
    """A logged number in fewer characters; empty where there is none."""
    if not value:
        return ""
    number = float(value)
    return str(int(number)) if number.is_integer() else f"{number:.6g}"


def main() -> None:
    """Thin each run that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with a metrics.csv")
    for run in parser.parse_args().runs:
        thin(run / "metrics.csv")


if __name__ == "__main__":
    main()
