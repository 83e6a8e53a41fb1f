"""The runs in a folder as a table of plain text. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_a3c.viewing.numbered_runs import numbered
from lightning_a3c.viewing.runs import Run, UnreadableRun, has_logs, read_run

_HEADER = ("run", "config", "seed", "env steps", "return_100", "solved", "minutes")


def run_table(root: Path) -> tuple[str, list[str]]:
    """The table of the runs in `root`, and a line for each one that cannot be read."""
    rows, unreadable = [], []
    for folder in run_folders(root):
        try:
            rows.append(_row(read_run(folder)))
        except UnreadableRun as error:
            unreadable.append(str(error))
    return aligned([_HEADER, *rows]), unreadable


def run_folders(root: Path) -> list[Path]:
    """The folders with logs: `root` itself, those in it, and numbered ones two levels below, by name and number."""
    names = sorted(path for path in root.iterdir() if path.is_dir())
    found = [root, *numbered(root)]
    for name in names:
        found += [name, *numbered(name)]
    return [folder for folder in dict.fromkeys(found) if has_logs(folder)]


def aligned(rows: Iterable[Iterable[str]]) -> str:
    """Lines of columns; the first two to the left, numbers to the right."""
    table = [[*row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in table
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _row(run: Run) -> list[str]:
    name = (run.machine or {}).get("configuration") or run.settings.get("name")
    bound = run.solved_bound
    return [
        str(run.folder),
        str(name or "–"),
        "–" if run.seed is None else str(run.seed),
        f"{_last(run, 'env_steps'):,.0f}",
        f"{value:.2f}" if (value := _last(run, "return_100")) is not None else "–",
        "–" if bound is None else "yes" if run.has_solved_checkpoint else "no",
        f"{seconds / 60:.1f}" if (seconds := _last(run, "train_seconds")) is not None else "–",
    ]


def _last(run: Run, key: str) -> Any:
    """The last value logged for a key, or None."""
    values = run.columns.get(key)
    values = None if values is None else values[values == values]  # without NaN
    return None if values is None or not len(values) else float(values[-1])
