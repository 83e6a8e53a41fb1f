"""What the suite compares with, and its results as a table and a figure. Trains nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

OURS = "lightning_a3c"


class Bar(NamedTuple):
    """A published mean return, and a higher one to beat next."""

    score: float
    source: str
    then: float | None = None


ZOO = "RL Baselines3 Zoo, A2C"
TIANSHOU = "Tianshou, A2C, maximum over training"
NO_MEMORY = "above any policy without memory"

BARS = {
    "discrete/cartpole": Bar(500.0, ZOO),
    "discrete/acrobot": Bar(-83.4, ZOO),
    "discrete/mountaincar": Bar(-111.3, ZOO),
    "discrete/lunarlander": Bar(155.8, ZOO),
    "continuous/pendulum": Bar(-163.0, ZOO),
    "continuous/lunarlander_continuous": Bar(203.9, "SB2 Zoo, A2C"),
    "continuous/bipedalwalker": Bar(255.0, "SB2 Zoo, A2C", 299.8),
    "continuous/inverted_double_pendulum": Bar(9258.0, TIANSHOU),
    "continuous/halfcheetah": Bar(1830.0, TIANSHOU, 3041.0),
    "continuous/hopper": Bar(1253.0, TIANSHOU),
    "continuous/walker2d": Bar(1092.0, TIANSHOU),
    "grid/doorkey": Bar(0.96, "RL Baselines3 Zoo, PPO"),
    "memory/cartpole_positions": Bar(450.0, "sb3-contrib's test of RecurrentPPO"),
    "memory/repeat_previous_easy": Bar(0.9, NO_MEMORY),
    "memory/memory_s7": Bar(0.9, NO_MEMORY),
    "atari/pong": Bar(17.3, ZOO),
    "atari/breakout": Bar(279.8, ZOO),
    "atari/space_invaders": Bar(627.0, ZOO),
    "atari/seaquest": Bar(1721.0, ZOO),
    "atari/beam_rider": Bar(2890.0, ZOO),
    "atari/qbert": Bar(3882.0, ZOO),
}
"""By part. One run each, unless the source says otherwise."""


@dataclass(frozen=True)
class Result:
    """One run of the suite; `returns` is empty if it failed.

    Args:
        part: such as continuous/hopper.
        library: `OURS` or sb3.
        seed: of training.
        returns: of the test episodes of the last policy, float64 [episodes].
        policy: greedy or sample, how it was tested.
        backend: what stepped the environments in training.
        env_steps: of training.
        minutes: of training.
        curve: env steps and mean return of the last 100 episodes, each [rows].
    """

    part: str
    library: str
    seed: int
    returns: np.ndarray = field(default_factory=lambda: np.empty(0))
    policy: str = ""
    backend: str = ""
    env_steps: float = 0.0
    minutes: float = 0.0
    curve: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.empty(0), np.empty(0)))


def read_results(root: Path) -> list[Result]:
    """The runs in `root`, in folders LIBRARY/FAMILY/NAME_seedN, by part, library and seed."""
    found = [read_result(path.parent, root) for path in root.glob("*/*/*_seed*/about.json")]
    return sorted(found, key=lambda result: (result.part, result.library, result.seed))


def read_result(folder: Path, root: Path) -> Result:
    """The run in one folder."""
    library, family, name = folder.relative_to(root).parts
    part, _, seed = name.rpartition("_seed")
    about = json.loads((folder / "about.json").read_text())
    result = Result(f"{family}/{part}", library, int(seed), backend=about["backend"])
    if not (folder / "test.json").exists():
        return result
    test = json.loads((folder / "test.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["env_steps"]]
    kept = [row for row in rows if row["return_100"]]
    curve = tuple(np.array([float(row[key]) for row in kept]) for key in ("env_steps", "return_100"))
    return Result(
        result.part,
        library,
        result.seed,
        np.array(test["returns"], dtype=float),
        test["policy"],
        about["backend"],
        float(rows[-1]["env_steps"]),
        float(rows[-1]["train_seconds"]) / 60,
        (curve[0], curve[1]),
    )


def interval(returns: Sequence[np.ndarray], resamplings: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over seeds × episodes: seeds are drawn, then episodes of each.

    Episodes of one seed share a policy, so drawing from all episodes alike would give too narrow an interval.

    Args:
        returns: one array of episodes for each seed, at least one.
        resamplings: how often both are drawn.
    """
    random, seeds = np.random.default_rng(0), len(returns)
    size = (resamplings, seeds)
    means = np.stack([each[random.integers(len(each), size=(*size, len(each)))].mean(axis=2) for each in returns])
    drawn = random.integers(seeds, size=size)
    sample = np.take_along_axis(means, drawn[None], axis=0)[0].mean(axis=1)
    low, high = np.percentile(sample, (2.5, 97.5))
    return float(low), float(high)


def table(results: Iterable[Result]) -> str:
    """Markdown: one row for each part and library, with every started run."""
    lines = [
        "| environment | library | seeds | return | 95 % interval | bar | beaten | env steps | minutes | env steps/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (part, library), runs in grouped(results).items():
        tested = [run for run in runs if len(run.returns)]
        seeds = ", ".join(str(run.seed) + ("" if len(run.returns) else " (failed)") for run in runs)
        bar = BARS.get(part)
        goal = "–" if bar is None else f"{bar.score:,g}" + (f", then {bar.then:,g}" if bar.then else "")
        if not tested:
            lines.append(f"| {part} | {library} | {seeds} | – | – | {goal} | no | – | – | – |")
            continue
        low, high = interval([run.returns for run in tested])
        mean = mean_return(tested)
        beaten = _beaten(bar, mean if len(tested) == len(runs) else -np.inf)
        steps, minutes = (float(np.mean([getattr(run, name) for run in tested])) for name in ("env_steps", "minutes"))
        how = f"{library}, {tested[0].backend}, {tested[0].policy}"
        lines.append(
            f"| {part} | {how} | {seeds} | {_number(mean)} | {_number(low)} … {_number(high)} | {goal} | {beaten} "
            f"| {steps:,.0f} | {minutes:.1f} | {steps / minutes / 60:,.0f} |"
        )
    return "\n".join(lines)


def figure(results: Iterable[Result]) -> Figure:
    """A panel for each part: every run's training curve, its tests as points at the end, and the published score."""
    of_parts: dict[str, list[Result]] = {}
    for result in results:
        if len(result.returns):
            of_parts.setdefault(result.part, []).append(result)
    columns = min(4, max(1, len(of_parts)))
    rows = -(-len(of_parts) // columns) or 1
    drawing = Figure(figsize=(3.4 * columns, 2.5 * rows), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False).flat
    for axis in axes:
        axis.set_visible(False)
    for axis, (part, runs) in zip(drawing.axes, of_parts.items(), strict=False):
        axis.set_visible(True)
        for run in runs:
            colour = "C0" if run.library == OURS else "C1"
            axis.plot(run.curve[0] / 1e6, run.curve[1], colour, linewidth=1, alpha=0.7)
            axis.plot(run.env_steps / 1e6, run.returns.mean(), "o", color=colour, markersize=4)
        if bar := BARS.get(part):
            axis.axhline(bar.score, color="C3", linestyle="--", linewidth=1)
            axis.annotate(bar.source, (0.02, bar.score), xycoords=("axes fraction", "data"), fontsize=6, va="bottom")
        axis.set_title(part, fontsize=9)
        axis.set_xlabel("million env steps", fontsize=8)
        axis.tick_params(labelsize=7)
    return drawing


def grouped(results: Iterable[Result]) -> Mapping[tuple[str, str], list[Result]]:
    """The runs of each part and library, in order."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.part, result.library), []).append(result)
    return groups


def mean_return(runs: Sequence[Result]) -> float:
    """Of all test episodes; each run counts the same."""
    return float(np.mean([run.returns.mean() for run in runs]))


def _beaten(bar: Bar | None, mean: float) -> str:
    if bar is None:
        return "–"
    if mean < bar.score:
        return "no"
    return "yes" if bar.then is None else ("both" if mean >= bar.then else "the first")


def _number(value: Any) -> str:
    """Three decimals below 10, one below 1,000, none above."""
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"
