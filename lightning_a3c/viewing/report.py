"""The report of a run or several: one HTML file without network access, scripts or other files. Knows no trainer."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, UndefinedError

from lightning_a3c.learning.progress import WINDOW
from lightning_a3c.system.files import atomic_write
from lightning_a3c.viewing.comparing import differences, grouped
from lightning_a3c.viewing.plots import INTERVAL, comparison_figures, legend, report_figures, to_svg
from lightning_a3c.viewing.runs import Run, UnreadableRun


@dataclass(frozen=True)
class Headline:
    """The main results of a run."""

    solved: bool | None  # None if the log ends too early to tell
    bound: float | None  # of StopWhenSolved, if the run used it
    best_return: float | None  # best mean over 100 episodes; None for fewer episodes
    last_return: float | None  # last mean, over up to 100 episodes
    env_steps: int
    duration: timedelta | None  # None if the run did not log it
    steps_per_second: float | None  # over the whole run
    unlogged_updates: int = 0  # updates after the last that the log describes


def headline(run: Run) -> Headline:
    """Summarise the log; a run is solved once its mean over 100 episodes exceeded its bound.

    Older versions of this package may leave the last updates unlogged. Such a run is solved if `StopWhenSolved` saved
    its checkpoint. Without that, `solved` is None, or False if the mean never rose between two rows by as much as it
    lacks.
    """
    means = run.columns.get("return_100", np.empty(0))
    complete = means[run.column("episodes") >= WINDOW] if len(means) else means
    finite = means[~np.isnan(means)]
    best = float(np.nanmax(complete)) if np.isfinite(complete).any() else None
    env_steps = int(run.column("env_steps")[-1])
    clock = run.columns.get("train_seconds", np.empty(0))
    clock = clock[np.isfinite(clock)]
    seconds = float(clock[-1]) if len(clock) else None
    bound, unlogged = run.solved_bound, run.unlogged_updates
    solved: bool | None = bound is not None and best is not None and best > bound
    if bound is not None and not solved and unlogged and len(complete):
        is_in_reach = bound - complete[-1] <= np.nanmax(np.diff(complete), initial=0.0)
        solved = True if run.has_solved_checkpoint else None if is_in_reach else False
    return Headline(
        solved=solved,
        bound=bound,
        best_return=best,
        last_return=float(finite[-1]) if len(finite) else None,
        env_steps=env_steps,
        duration=timedelta(seconds=round(seconds)) if seconds else None,
        steps_per_second=env_steps / seconds if seconds else None,
        unlogged_updates=unlogged,
    )


def write_report(run: Run, path: str | Path) -> None:
    """Write the report of `run` to `path`, replacing any earlier file.

    Raises:
        NotWritable: `path` cannot be written.
        UnreadableRun: a file of the run is damaged.
    """
    results, video = run.test_results, run.video
    figures = {title: _data_uri("image/svg+xml", to_svg(figure)) for title, figure in report_figures(run).items()}
    try:
        page = _template("report.html").render(
            name=run.name,
            headline=headline(run),
            figures=figures,
            results=results,
            training=None if results is None else after_training(run, int(results["env_steps_trained"])),
            video=_data_uri("video/mp4", video.read_bytes()) if video else None,
            video_caption=caption(run, video) if video else None,
            machine=run.machine,
            config=run.config,
            version=version("lightning-a3c"),
        )
    except UndefinedError as error:
        raise UnreadableRun(f"a test's results in {run.folder} are incomplete: {error}; test again") from error
    with atomic_write(path) as partial:
        partial.write_text(page)


def write_comparison(runs: Sequence[Run], path: str | Path) -> None:
    """Write one page on several runs to `path`, replacing any earlier file: results, what differs, curves.

    Raises:
        NotWritable: `path` cannot be written.
        UnreadableRun: a file of a run is damaged, or seeds of one configuration share no part of the x-axis.
    """
    groups = grouped(runs)
    rows = [_row(group.label, run) for group in groups for run in group.runs]
    page = _template("comparison.html").render(
        groups=groups,
        rows=rows,
        has_validation=any(row.validation is not None for row in rows),
        has_tests=any(row.test is not None for row in rows),
        differences=differences(groups),
        legend=legend(runs),
        band=INTERVAL if any(len(group.runs) > 1 for group in groups) else None,
        figures={title: _data_uri("image/svg+xml", to_svg(each)) for title, each in comparison_figures(runs).items()},
        version=version("lightning-a3c"),
    )
    with atomic_write(path) as partial:
        partial.write_text(page)


@dataclass(frozen=True)
class Row:
    """One run of a comparison."""

    group: str
    name: str
    seed: str
    headline: Headline
    validation: float | None  # mean return of the last validation
    test: dict[str, Any] | None


def _row(group: str, run: Run) -> Row:
    means = run.columns.get("val/return_mean", np.empty(0))
    means = means[np.isfinite(means)]
    results = run.test_results
    return Row(
        group,
        run.name,
        "–" if run.seed is None else str(run.seed),
        headline(run),
        float(means[-1]) if len(means) else None,
        results if results and "test/return_mean_low" in results else None,
    )


def _template(name: str) -> Template:
    loader = PackageLoader("lightning_a3c.viewing", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)


def after_training(run: Run, env_steps: int) -> str:
    """When in the run an agent was tested: "after 1,000 of this run's 2,000 env steps"."""
    in_run = int(run.column("env_steps")[-1])
    if env_steps > in_run:
        return f"after {env_steps:,} env steps of training, {env_steps - in_run:,} more than this run logged"
    if env_steps == in_run:
        return f"after {env_steps:,} env steps of training, all that this run logged"
    return f"after {env_steps:,} of this run's {in_run:,} env steps; the run went on after that"


def caption(run: Run, video: Path) -> str:
    """The name of a video, and the training that its agent has had."""
    update = re.fullmatch(r"update=(\d+)", video.stem)
    if update:
        step = run.columns.get("step", np.empty(0))
        of_total = f" of {int(step[-1]) + 1:,}" if len(step) and np.isfinite(step[-1]) else ""
        return f"{video.name}: the agent after {int(update[1]):,}{of_total} updates"
    results = run.results_beside(video)
    return (
        f"{video.name}: the agent {after_training(run, int(results['env_steps_trained']))}" if results else video.name
    )


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
