"""Reading what a run left on disk: its curves, configuration, test results and videos. Draws nothing."""

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

# CSVLogger's file; under a run folder it lies in version_N, which lies in the logger's own folder
_PLACES = ("metrics.csv", "version_*/metrics.csv", "*/version_*/metrics.csv")
_EARLIER = re.compile(r"earlier-\d+")  # what `earlier_runs` calls the folders for checkpoints of earlier runs
_RESULTS = re.compile(r"(?:.+\.)?test\.json")
_VIDEO = re.compile(r"(?:(?:.+\.)?test|update=\d+)\.mp4")
_UNTRAINED = "untrained."


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
        first_version: the CSV logger's version that the run began with, if it has several; what lies in the folders
            of earlier versions is another run's.
    """

    folder: Path
    columns: dict[str, np.ndarray]
    log_folder: Path
    first_version: int = -1

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
        path = _noted(self.log_folder, "config.yaml")
        return path.read_text() if path.exists() else None

    @property
    def machine(self) -> dict[str, Any] | None:
        """Where the run ran, as the command line noted it."""
        path = _noted(self.log_folder, "machine.json")
        return _read_json(path) if path.exists() else None

    @property
    def solved_bound(self) -> float | None:
        """The bound of `StopWhenSolved` in the configuration."""
        trainer = _read_yaml(_noted(self.log_folder, "config.yaml")).get("trainer")
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
        """How many updates before the end the log stops telling; 0 where it cannot be known.

        The last row of older versions holds the values of the row before, or of an update between the two.
        """
        step, env_steps = self.columns.get("step"), self.column("env_steps")
        if step is None or len(step) < 3 or not step[-2] > step[0]:
            return 0
        env_steps_an_update = (env_steps[-2] - env_steps[0]) / (step[-2] - step[0])
        updates, steps = step[-1] - step[-2], env_steps[-1] - env_steps[-2]
        behind = round(updates - steps / env_steps_an_update)
        # an update more or less is no sign: workers step all their environments at once
        return max(behind, 0) if behind > 1 or (steps == 0 and updates > 0) else 0

    @property
    def test_results(self) -> dict[str, Any] | None:
        """What the newest `test` of its weights found: of a checkpoint, or of what was trained in the same process."""
        found = [path for path in self._files(_RESULTS) if not path.name.startswith(_UNTRAINED)]
        for path in sorted(found, key=_age):
            results = _read_json(path)
            if not isinstance(results, dict) or "env_steps_trained" not in results:
                continue  # of another program
            if results.get("checkpoint") or results["env_steps_trained"]:
                return results
        return None

    def results_beside(self, video: Path) -> dict[str, Any] | None:
        """What the test found that left `video`, if that is to be had."""
        path = video.with_suffix(".json")
        results = _read_json(path) if path.exists() else None
        return results if isinstance(results, dict) and "env_steps_trained" in results else None

    @property
    def video(self) -> Path | None:
        """Its newest video."""
        return self._newest(_VIDEO)

    def _newest(self, name: re.Pattern[str]) -> Path | None:
        found = [path for path in self._files(name) if not path.name.startswith(_UNTRAINED)]
        return min(found, key=_age, default=None)

    def _files(self, name: re.Pattern[str]) -> list[Path]:
        """The files with such a name in its folder, without those of earlier runs."""
        found = []
        for at, folders, files in os.walk(self.folder):
            folders[:] = [folder for folder in folders if not self._is_earlier(Path(at) / folder)]
            found += [Path(at) / file for file in files if name.fullmatch(file)]
        return found

    def _is_earlier(self, folder: Path) -> bool:
        """Whether another, earlier run left `folder`: its checkpoints, or a version of a logger."""
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
    """The run in `folder`: a run's folder (`runs/pong_data`), or one `version_N` of its CSV logger.

    A resumed run logs to a new version. Versions are joined in their order: each replaces what earlier ones
    logged from the env step on where it begins. A fresh start replaces everything.

    Raises:
        UnreadableRun: there are no logs, logs of several runs, or a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableRun(f"run {folder} is not a folder; give the one that holds the CSV logger's files")
    paths = sorted((path for place in _PLACES for path in folder.glob(place)), key=lambda path: _version(path.parent))
    if not paths:
        raise UnreadableRun(
            f"run {folder} holds no metrics.csv; train with pytorch_lightning.loggers.CSVLogger, or give the folder "
            "that its save_dir names"
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


def _is_fresh(log_folder: Path, columns: dict[str, np.ndarray], older: dict[str, np.ndarray]) -> bool:
    """Whether a version's log began with new weights, rather than with a checkpoint's.

    The command line's configuration says so. Without one, a log that begins no later than the older one did, or within
    the first interval of its own rows, counts as a fresh one.
    """
    config = _read_yaml(_noted(log_folder, "config.yaml"))
    if "ckpt_path" in config:
        return config["ckpt_path"] is None
    step = columns.get("step", np.empty(0))
    is_within_first_interval = len(step) > 1 and step[0] < step[1] - step[0]
    return bool(is_within_first_interval or columns["env_steps"][0] <= older["env_steps"][0])


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UnreadableRun(f"{path} is damaged ({error}); remove it or make it again") from error


def _noted(log_folder: Path, name: str) -> Path:
    """What the command line noted last: the file of that name, or the highest of `name_1`, `name_2`, … beside it."""
    stem, suffix = name.split(".")
    numbered = re.compile(rf"{stem}_(\d+)\.{suffix}")
    numbers = [int(match[1]) for path in log_folder.glob(f"{stem}_*") if (match := numbered.fullmatch(path.name))]
    return log_folder / (f"{stem}_{max(numbers)}.{suffix}" if numbers else name)


def _read_yaml(path: Path) -> dict[str, Any]:
    """A mapping; empty if there is no such file, or no mapping in it."""
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableRun(f"{path} is damaged ({reason}); remove it or make it again") from error
    return content if isinstance(content, dict) else {}


def _started(log_folder: Path) -> str | None:
    """When the run that logs to a folder began, as the command line noted it; sorts by time."""
    path = _noted(log_folder, "machine.json")
    noted = _read_json(path) if path.exists() else None
    return str(noted["started"]) if isinstance(noted, dict) and "started" in noted else None


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
    """Sorts the newest first."""
    return -path.stat().st_mtime, str(path)
