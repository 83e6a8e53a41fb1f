"""Reading a run's files: its curves, configuration, test results and videos. Draws nothing."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightning_a3c.viewing.numbered_runs import numbered

# CSVLogger's file, seen from a version_N folder, the logger's folder or the run's folder
_PATTERNS = ("metrics.csv", "version_*/metrics.csv", "*/version_*/metrics.csv")
_EARLIER = re.compile(r"earlier-\d+")  # folders to which `learning.earlier_runs` moves checkpoints
_RESULTS = re.compile(r"(?:.+\.)?test\.json")
_VIDEO = re.compile(r"(?:(?:.+\.)?test|update=\d+)\.mp4")
_UNTRAINED = "untrained."

VALIDATION = "val/"
"""Begins the keys of a validation."""


class UnreadableRun(ValueError):
    """A run folder lacks a requested file or key, or a file in it is damaged."""


@dataclass(frozen=True)
class Run:
    """A training run, read from its logs.

    Args:
        folder: the run's folder.
        columns: every logged key, float64 [rows], NaN where a row lacks it; only training rows, ordered by env steps.
            A validation's values stand in the row of the last update logged before it.
        log_folder: the newest folder of the CSV logger, which also holds configuration and machine.
        first_version: version of the CSV logger with which the run began, or -1 without versions. Earlier versions
            belong to other runs.
    """

    folder: Path
    columns: dict[str, np.ndarray]
    log_folder: Path
    first_version: int = -1

    @property
    def name(self) -> str:
        """The folder's name, also for a relative path such as `.`; `pong_data/1` for a numbered one."""
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}" if folder.name.isdecimal() else folder.name

    def column(self, key: str) -> np.ndarray:
        """The values of a key; raises UnreadableRun if it was never logged."""
        if key not in self.columns:
            raise UnreadableRun(f"run {self.folder} never logged {key!r}; it logged {', '.join(sorted(self.columns))}")
        return self.columns[key]

    @property
    def config(self) -> str | None:
        """The configuration file that the command line saved, as text."""
        path = _latest(self.log_folder, "config.yaml")
        return path.read_text() if path.exists() else None

    @property
    def settings(self) -> dict[str, Any]:
        """The values in the configuration file that the command line saved; empty without one."""
        return _read_yaml(_latest(self.log_folder, "config.yaml"))

    @property
    def seed(self) -> Any:
        """The seed with which the run began, as the command line saved it; None if it did not."""
        return _read_yaml(_latest(self._first_log_folder, "config.yaml")).get("seed_everything")

    @property
    def machine(self) -> dict[str, Any] | None:
        """The machine of the run, as the command line saved it."""
        path = _latest(self.log_folder, "machine.json")
        return _read_json(path) if path.exists() else None

    @property
    def solved_bound(self) -> float | None:
        """The bound of `StopWhenSolved` in the configuration."""
        trainer = self.settings.get("trainer")
        callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if isinstance(callback, dict) and str(callback.get("class_path", "")).endswith(".StopWhenSolved"):
                return float(callback["init_args"]["bound"])
        return None

    @property
    def has_solved_checkpoint(self) -> bool:
        """Whether `StopWhenSolved` saved its checkpoint."""
        return self._newest(re.compile(r"solved\.ckpt")) is not None

    @property
    def unlogged_updates(self) -> int:
        """Updates after the last that the log describes; 0 if unknown.

        In logs of older versions, the last row repeats the values of the row before it or of an update in between.
        """
        step, env_steps = self.columns.get("step"), self.column("env_steps")
        if step is None or len(step) < 3 or not step[-2] > step[0]:
            return 0
        steps_per_update = (env_steps[-2] - env_steps[0]) / (step[-2] - step[0])
        updates, steps = step[-1] - step[-2], env_steps[-1] - env_steps[-2]
        missing = round(updates - steps / steps_per_update)
        # a difference of one update proves nothing: workers step all their environments at once
        return max(missing, 0) if missing > 1 or (steps == 0 and updates > 0) else 0

    @property
    def test_results(self) -> dict[str, Any] | None:
        """Results of the newest `test` of trained weights, from a checkpoint or trained in the same process."""
        found = [path for path in self._files(_RESULTS) if not path.name.startswith(_UNTRAINED)]
        for path in sorted(found, key=_age):
            results = _read_json(path)
            if not isinstance(results, dict) or "env_steps_trained" not in results:
                continue  # another program's file
            if results.get("checkpoint") or results["env_steps_trained"]:
                return results
        return None

    def results_beside(self, video: Path) -> dict[str, Any] | None:
        """Results of the test that recorded `video`; None if there is no such file."""
        path = video.with_suffix(".json")
        results = _read_json(path) if path.exists() else None
        return results if isinstance(results, dict) and "env_steps_trained" in results else None

    @property
    def checkpoint(self) -> Path | None:
        """The run's newest checkpoint."""
        found = self._newest(re.compile(r".+\.ckpt"))
        if found is None or found.name != "best.ckpt":
            return found
        last = found.with_name("last.ckpt")  # of the same update it is written first
        return last if last.exists() else found

    @property
    def video(self) -> Path | None:
        """The run's newest video."""
        return self._newest(_VIDEO)

    def _newest(self, name: re.Pattern[str]) -> Path | None:
        found = [path for path in self._files(name) if not path.name.startswith(_UNTRAINED)]
        return min(found, key=_age, default=None)

    def _files(self, name: re.Pattern[str]) -> list[Path]:
        """The files in the run's folder that match `name`, without those of earlier runs."""
        found = []
        for at, folders, files in os.walk(self.folder):
            folders[:] = [folder for folder in folders if not self._is_earlier(Path(at) / folder)]
            found += [Path(at) / file for file in files if name.fullmatch(file)]
        return found

    def _is_earlier(self, folder: Path) -> bool:
        """Whether `folder` belongs to an earlier run: its checkpoints, or a version of a logger."""
        if _EARLIER.fullmatch(folder.name):
            return True
        if folder.parent == self.log_folder.parent and _version(folder) != -1:
            return _version(folder) < self.first_version
        started = _started(folder)
        return started is not None and started < (_started(self._first_log_folder) or "")

    @property
    def _first_log_folder(self) -> Path:
        name = f"version_{self.first_version}"
        return self.log_folder if self.first_version == -1 else self.log_folder.with_name(name)


def read_run(folder: str | Path) -> Run:
    """Read the run in `folder`: a run's folder (`runs/pong_data/1`), or one `version_N` of its CSV logger.

    A folder that holds only numbered run folders (`runs/pong_data`) stands for the newest of them that has logs.

    A resumed run logs to a new version. This joins versions in order: each replaces the rows of earlier ones from its
    own first env step on. A version that started afresh replaces all of them.

    Raises:
        UnreadableRun: there are no logs or logs of several runs, or a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableRun(f"run {folder} is not a folder; name the one that holds the CSV logger's files")
    if not has_logs(folder):
        folder = next(filter(has_logs, reversed(numbered(folder))), folder)
    paths = [path for pattern in _PATTERNS for path in folder.glob(pattern)]
    paths.sort(key=lambda path: _version(path.parent))
    if not paths:
        raise UnreadableRun(
            f"run {folder} holds no metrics.csv; train with pytorch_lightning.loggers.CSVLogger, or name the folder "
            f"that is its save_dir; `lightning-a3c runs {folder}` lists the runs in a folder"
        )
    if len({path.parent.parent for path in paths if path.parent != folder}) > 1:
        raise UnreadableRun(f"run {folder} holds logs of several runs; name one: {', '.join(map(str, paths))}")
    columns: dict[str, np.ndarray] = {}
    log_folder, first_version = paths[-1].parent, -1
    for path in paths:
        newer = _read_csv(path)
        if not len(newer["env_steps"]):
            continue
        if not columns or _is_fresh(path.parent, newer, columns):
            columns, first_version = newer, _version(path.parent)
        else:
            columns = _join(columns, newer)
        log_folder = path.parent
    if not columns:
        raise UnreadableRun(f"run {folder} has logged no training yet (no env_steps in {paths[-1]})")
    return Run(folder, columns, log_folder, first_version)


def has_logs(folder: Path) -> bool:
    """Whether a run has logged to `folder`."""
    return any(True for pattern in _PATTERNS for _ in folder.glob(pattern))


def _is_fresh(log_folder: Path, columns: dict[str, np.ndarray], older: dict[str, np.ndarray]) -> bool:
    """Whether a version's log began with new weights instead of a checkpoint's.

    The configuration of the command line tells. Without one, a log counts as fresh if it begins no later than the older
    one, or within its own first logging interval.
    """
    config = _read_yaml(_latest(log_folder, "config.yaml"))
    if "ckpt_path" in config:
        return config["ckpt_path"] is None
    step = columns.get("step", np.empty(0))
    is_within_first_interval = len(step) > 1 and step[0] < step[1] - step[0]
    return bool(is_within_first_interval or columns["env_steps"][0] <= older["env_steps"][0])


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of one file, reduced to the rows that have env steps; see `Run` for validation."""
    rows = []
    try:
        with path.open(newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            for row in reader:
                if len(row) != len(header):
                    raise UnreadableRun(
                        f"{path} line {reader.line_num} has {len(row)} of {len(header)} values: the file was cut off; "
                        "remove that line to read the rest"
                    )
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableRun(f"{path} is damaged ({error}); move its run elsewhere to see the others") from error
    if not header:
        raise UnreadableRun(f"{path} is empty: its run logged nothing; move it elsewhere to see the others")
    try:
        table = np.array([[float(value or "nan") for value in row] for row in rows]).reshape(-1, len(header))
    except ValueError as error:
        raise UnreadableRun(f"{path} is not a metrics file of numbers: {error}") from error
    columns = dict(zip(header, table.T, strict=True))
    env_steps = columns.get("env_steps", np.full(len(rows), np.nan))
    is_training = ~np.isnan(env_steps)
    _place_validations(columns, is_training)
    return {"env_steps": env_steps[is_training]} | {key: column[is_training] for key, column in columns.items()}


def _place_validations(columns: dict[str, np.ndarray], is_training: np.ndarray) -> None:
    """Copy the values of a validation, which has a row without env steps, to the training row before it."""
    rows = np.flatnonzero(is_training)
    for key, column in columns.items():
        if key.startswith(VALIDATION):
            for row in np.flatnonzero(~is_training & ~np.isnan(column)):
                before = rows[rows < row]
                if len(before):
                    column[before[-1]] = column[row]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UnreadableRun(f"{path} is damaged ({error}); remove it or create it again") from error


def _latest(log_folder: Path, name: str) -> Path:
    """The file that the command line saved last: `name`, or the highest of `name_1`, `name_2`, … if there are any."""
    stem, suffix = name.split(".")
    numbered = re.compile(rf"{stem}_(\d+)\.{suffix}")
    numbers = [int(match[1]) for path in log_folder.glob(f"{stem}_*") if (match := numbered.fullmatch(path.name))]
    return log_folder / (f"{stem}_{max(numbers)}.{suffix}" if numbers else name)


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file; empty if the file does not exist or holds something else."""
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableRun(f"{path} is damaged ({reason}); remove it or create it again") from error
    return content if isinstance(content, dict) else {}


def _started(log_folder: Path) -> str | None:
    """Start of the run that logs to a folder, as the command line saved it: a text that sorts by time."""
    path = _latest(log_folder, "machine.json")
    saved = _read_json(path) if path.exists() else None
    return str(saved["started"]) if isinstance(saved, dict) and "started" in saved else None


def _join(older: dict[str, np.ndarray], newer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = older["env_steps"] < newer["env_steps"][0]
    missing_older, missing_newer = np.full(kept.sum(), np.nan), np.full(len(newer["env_steps"]), np.nan)
    return {
        key: np.concatenate(
            [older[key][kept] if key in older else missing_older, newer.get(key, missing_newer)],
        )
        for key in older | newer
    }


def _version(log_folder: Path) -> int:
    number = re.fullmatch(r"version_(\d+)", log_folder.name)
    return int(number[1]) if number else -1


def _age(path: Path) -> tuple[float, str]:
    """Sort key: newest first."""
    return -path.stat().st_mtime, str(path)
