"""A run as one HTML file that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_a3c.files import replacing
from lightning_a3c.plots import report_figures, to_svg
from lightning_a3c.progress import WINDOW
from lightning_a3c.runs import Run


@dataclass(frozen=True)
class Headline:
    """How far a run came."""

    solved: bool
    bound: float | None  # of StopWhenSolved, if the run had one
    best_return: float | None  # best mean over 100 episodes, None while there were fewer
    last_return: float | None  # last mean, over fewer episodes if there were fewer
    env_steps: int
    duration: timedelta | None  # None where the run did not log it
    steps_per_second: float | None  # over the whole run


def headline(run: Run) -> Headline:
    """What the log says; a run counts as solved once it exceeded its own bound over 100 episodes."""
    means = run.columns.get("return_100", np.empty(0))
    complete = means[run.column("episodes") >= WINDOW] if len(means) else means
    finite = means[~np.isnan(means)]
    best = float(np.nanmax(complete)) if np.isfinite(complete).any() else None
    env_steps = int(run.column("env_steps")[-1])
    seconds = float(run.columns["train_seconds"][-1]) if "train_seconds" in run.columns else None
    bound = run.solved_bound
    return Headline(
        solved=bound is not None and best is not None and best > bound,
        bound=bound,
        best_return=best,
        last_return=float(finite[-1]) if len(finite) else None,
        env_steps=env_steps,
        duration=timedelta(seconds=round(seconds)) if seconds else None,
        steps_per_second=env_steps / seconds if seconds else None,
    )


def write_report(run: Run, path: str | Path) -> None:
    """Write the report of `run` to `path`, replacing what is there.

    Raises:
        NotWritable: `path` cannot be written.
        UnreadableRun: what the run left is damaged.
    """
    environment = Environment(loader=PackageLoader("lightning_a3c", "."), autoescape=True, undefined=StrictUndefined)
    figures = {title: _data_uri("image/svg+xml", to_svg(figure)) for title, figure in report_figures(run).items()}
    page = environment.get_template("report.html").render(
        name=run.name,
        headline=headline(run),
        figures=figures,
        results=run.test_results,
        video=_data_uri("video/mp4", run.video.read_bytes()) if run.video else None,
        video_name=run.video.name if run.video else None,
        machine=run.machine,
        config=run.config,
        version=version("lightning-a3c"),
    )
    with replacing(path) as partial:
        partial.write_text(page)


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
