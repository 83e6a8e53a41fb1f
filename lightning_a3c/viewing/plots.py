"""Drawing the curves of runs with matplotlib. Reads no files and opens no window."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from lightning_a3c.viewing.runs import Run, UnreadableRun

X_AXES = {"env_steps": ("env_steps", 1.0), "frames": ("frames", 1.0), "minutes": ("train_seconds", 1 / 60)}
"""Choices for the x-axis: the logged key and its factor."""

_LINE, _FAINT = "tab:blue", "tab:gray"
_GRID_POINTS = 400


def return_and_loss(runs: Sequence[Run], x: str = "env_steps") -> Figure:
    """Returns on the left, total loss on the right.

    Several runs appear as thin lines, with their mean as a thick one and ±1 std as a band. The mean covers the part of
    the x-axis that all runs share.

    Args:
        runs: at least one.
        x: one of `X_AXES`.

    Raises:
        UnreadableRun: a run lacks a key, or the runs share no part of the x-axis.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in runs:
        left.plot(_x(run, x), run.column("return"), ".", color=_FAINT, markersize=2, alpha=0.5)
    _curves(left, runs, x, "return_100")
    _curves(right, runs, x, "loss_total", smooth=True)
    left.set_ylabel("return: mean of 100, and single ones")
    right.set_ylabel("total loss")
    figure.suptitle(runs[0].name if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.name for run in runs)}")
    return figure


def report_figures(run: Run, x: str = "env_steps") -> dict[str, Figure]:
    """Figures of the diagnostics that `run` logged, by title."""
    wanted = {
        "Return": ("return_100", "return"),
        "Total and policy loss": ("loss_total", "loss_policy"),
        "Value loss": ("loss_value",),
        "Explained variance of the critic": ("explained_variance",),
        "Entropy of the policy (nats)": ("entropy",),
        "Policy lag (updates)": ("policy_lag",),
        "Throughput (env steps/s)": ("steps/s",),
        "Gradient norm before clipping": ("grad_norm", "worker_grad_norm"),
    }
    figures = {}
    for title, keys in wanted.items():
        logged = [key for key in keys if key in run.columns]
        if not logged:
            continue
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for key in logged:
            style = "." if key == "return" else "-"
            axes.plot(_x(run, x), run.column(key), style, markersize=2, linewidth=1, label=key, alpha=0.8)
        axes.set_title(title)
        _finish(axes, x)
        if len(logged) > 1:
            axes.legend(fontsize="small")
        figures[title] = figure
    return figures


def to_svg(figure: Figure) -> bytes:
    """The figure as the content of an SVG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _curves(axes: Axes, runs: Sequence[Run], x: str, key: str, smooth: bool = False) -> None:
    lines = [_without_gaps(_x(run, x), run.column(key), run) for run in runs]
    if len(lines) == 1:
        ((at, values),) = lines
        axes.plot(at, values, color=_FAINT if smooth else _LINE, linewidth=0.6 if smooth else 1.8, alpha=0.9)
        if smooth:
            axes.plot(at, _running_mean(values), color=_LINE, linewidth=1.8)
    else:
        for at, values in lines:
            axes.plot(at, _running_mean(values) if smooth else values, color=_FAINT, linewidth=0.8, alpha=0.7)
        start, stop = max(at[0] for at, _ in lines), min(at[-1] for at, _ in lines)
        if start >= stop:
            raise UnreadableRun(f"the runs share no {x}: {', '.join(str(run.folder) for run in runs)}; plot each alone")
        grid = np.linspace(start, stop, _GRID_POINTS)
        table = np.stack([np.interp(grid, at, _running_mean(v) if smooth else v) for at, v in lines])
        mean, std = table.mean(axis=0), table.std(axis=0)
        axes.plot(grid, mean, color=_LINE, linewidth=1.8, label=f"mean of {len(lines)}")
        axes.fill_between(grid, mean - std, mean + std, color=_LINE, alpha=0.2, linewidth=0, label="±1 std")
        axes.legend(fontsize="small")
    _finish(axes, x)


def _finish(axes: Axes, x: str) -> None:
    axes.set_xlabel(x.replace("_", " "))
    if x != "minutes":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)


def _x(run: Run, x: str) -> np.ndarray:
    key, factor = X_AXES[x]
    return run.column(key) * factor


def _without_gaps(at: np.ndarray, values: np.ndarray, run: Run) -> tuple[np.ndarray, np.ndarray]:
    is_logged = ~(np.isnan(values) | np.isnan(at))
    if not is_logged.any():
        raise UnreadableRun(f"run {run.folder} has nothing to draw yet; let it train longer")
    return at[is_logged], values[is_logged]


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window of 50 values, or a tenth of all values if that is less; the window shrinks at the ends."""
    weights = np.ones(max(1, min(50, len(values) // 10)))
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")
