"""Reading what a run left on disk: its curves, configuration, test results and videos. Draws nothing."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

# CSVLogger's file; under a run folder it lies in version_N, which lies in the logger's own folder
_PLACES = ("metrics.csv", "version_*/metrics.csv", "*/version_*/metrics.csv")


class UnreadableRun(ValueError):
    """A run folder lacks what was asked for, or it is damaged."""


@dataclass(frozen=True)
class Run:
    """A training run as its logs tell it.

    Args:
        folder: where it lies.
        columns: every logged key, float64 [rows], NaN where a row lacks it; only rows of training,
            in the order of their env steps.
        log_folder: the newest folder of the CSV logger; what describes the run lies here.
    """

    folder: Path
    columns: dict[str, np.ndarray]
    log_folder: Path

    @property
    def name(self) -> str:
        """The folder's name, however the folder was given."""
        return self.folder.resolve().name

    def column(self, key: str) -> np.ndarray:
        """The values of a key; raises UnreadableRun if it was never logged."""
        if key not in self.columns:
            raise UnreadableRun(f"run {self.folder} never logged {key!r}; it logged {', '.join(sorted(self.columns))}")
        return self.columns[key]

    @property
    def config(self) -> str | None:
        """The configuration file that the command line saved, as text."""
        path = self.log_folder / "config.yaml"
        return path.read_text() if path.exists() else None

    @property
    def machine(self) -> dict[str, Any] | None:
        """Where the run ran, as the command line noted it."""
        path = self.log_folder / "machine.json"
        return _read_json(path) if path.exists() else None

    @property
    def solved_bound(self) -> float | None:
        """The bound of `StopWhenSolved` in the configuration."""
        trainer = (yaml.safe_load(self.config) or {}).get("trainer", {}) if self.config else {}
        for callback in trainer.get("callbacks") or []:
            if str(callback.get("class_path", "")).endswith(".StopWhenSolved"):
                return float(callback["init_args"]["bound"])
        return None

    @property
    def test_results(self) -> dict[str, Any] | None:
        """What the newest `test` of one of its checkpoints found."""
        path = _newest(self.folder, "*test.json")
        return _read_json(path) if path else None

    @property
    def video(self) -> Path | None:
        """Its newest video."""
        return _newest(self.folder, "*.mp4")


def read_run(folder: str | Path) -> Run:
    """The run in `folder`: a run's folder (`runs/pong_data`), or one `version_N` of its CSV logger.

    A resumed run logs to a new version. Versions are joined in their order: each replaces what earlier ones
    logged from the env step on where it begins, so that a fresh start replaces everything.

    Raises:
        UnreadableRun: there are no logs, logs of several runs, or a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableRun(f"run {folder} is not a folder; give the one that holds the CSV logger's files")
    paths = sorted((path for place in _PLACES for path in folder.glob(place)), key=_version)
    if not paths:
        raise UnreadableRun(
            f"run {folder} holds no metrics.csv; train with pytorch_lightning.loggers.CSVLogger, or give the folder "
            "that its save_dir names"
        )
    if len({path.parent.parent for path in paths if path.parent != folder}) > 1:
        raise UnreadableRun(f"run {folder} holds logs of several runs; name one: {', '.join(map(str, paths))}")
    columns: dict[str, np.ndarray] = {}
    log_folder = paths[-1].parent
    for path in paths:
        newer = _read_csv(path)
        if len(newer["env_steps"]):
            columns = _join(columns, newer)
            log_folder = path.parent
    if not columns:
        raise UnreadableRun(f"run {folder} has logged no training yet (no env_steps in {paths[-1]})")
    return Run(folder, columns, log_folder)


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """The rows with env steps of one file, by column."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = []
        for row in reader:
            if len(row) != len(header):
                raise UnreadableRun(
                    f"{path} line {reader.line_num} has {len(row)} of {len(header)} values: the file was cut off; "
                    "remove that line to read the rest"
                )
            rows.append(row)
    try:
        table = np.array([[float(value or "nan") for value in row] for row in rows]).reshape(-1, len(header))
    except ValueError as error:
        raise UnreadableRun(f"{path} is not a metrics file of numbers: {error}") from error
    columns = dict(zip(header, table.T, strict=True))
    env_steps = columns.get("env_steps", np.full(len(rows), np.nan))
    is_training = ~np.isnan(env_steps)
    return {"env_steps": env_steps[is_training]} | {key: column[is_training] for key, column in columns.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UnreadableRun(f"{path} is damaged ({error}); remove it or make it again") from error
    return content


def _join(older: dict[str, np.ndarray], newer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not older:
        return newer
    kept = older["env_steps"] < newer["env_steps"][0]
    missing_older, missing_newer = np.full(kept.sum(), np.nan), np.full(len(newer["env_steps"]), np.nan)
    return {
        key: np.concatenate(
            [older[key][kept] if key in older else missing_older, newer.get(key, missing_newer)],
        )
        for key in older | newer
    }


def _version(path: Path) -> int:
    number = re.search(r"version_(\d+)$", path.parent.name)
    return int(number[1]) if number else -1


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_mtime, default=None)
