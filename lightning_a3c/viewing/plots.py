"""Drawing the curves of runs with matplotlib. Reads no files and opens no window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from lightning_a3c.learning.intervals import bootstrap_bounds
from lightning_a3c.viewing.comparing import Group, grouped
from lightning_a3c.viewing.runs import Run, UnreadableRun

X_AXES = {"env_steps": ("env_steps", 1.0), "frames": ("frames", 1.0), "minutes": ("train_seconds", 1 / 60)}
"""Choices for the x-axis: the logged key and its factor."""

_COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#444444",
)  # told apart by colour-blind too
_FAINT = "tab:gray"
INTERVAL = "95 % bootstrap interval of the mean"
"""What bands show."""
_EVALUATION = "val/return_mean"
_GRID_POINTS = 400


def return_and_loss(runs: Sequence[Run], x: str = "env_steps") -> Figure:
    """Returns on the left, total loss on the right, and between them the returns of validations if there were any.

    Runs that differ only in their seeds have one colour: thin lines, and their mean as a thick one with a 95 %
    bootstrap interval as a band. The mean covers the part of the x-axis that they share.

    Args:
        runs: at least one.
        x: one of `X_AXES`.

    Raises:
        UnreadableRun: a run lacks a key, or seeds of one configuration share no part of the x-axis.
    """
    groups = grouped(runs)
    evaluated = [group for group in groups if _all_have(group, _EVALUATION)]
    panels = 3 if evaluated else 2
    figure = Figure(figsize=(5.5 * panels, 4.2 + 0.25 * _legend_rows(groups, panels)), layout="constrained")
    axes = figure.subplots(1, panels, sharex=True)
    if len(groups) == 1:
        for run in runs:
            axes[0].plot(_x(run, x), run.column("return"), ".", color=_FAINT, markersize=2, alpha=0.35)
    _curves(axes[0], groups, x, "return_100")
    axes[0].set_ylabel("return: mean of 100" + (", and single ones" if len(groups) == 1 else ""))
    if evaluated:
        colors = dict(zip([group.label for group in groups], _palette(), strict=False))
        _curves(axes[1], evaluated, x, _EVALUATION, colors=[colors[group.label] for group in evaluated])
        axes[1].set_ylabel("return in validation")
        axes[1].sharey(axes[0])
    _curves(axes[-1], groups, x, "loss_total", smooth=True)
    axes[-1].set_ylabel("total loss")
    _legend(figure, axes[0], panels)
    if len(groups) == 1:
        figure.suptitle(groups[0].label)
    return figure


_DIAGNOSTICS = {
    "Return": ("return_100", "return"),
    "Return in validation": (_EVALUATION,),
    "Total and policy loss": ("loss_total", "loss_policy"),
    "Value loss": ("loss_value",),
    "Explained variance of the critic": ("explained_variance",),
    "Entropy of the policy (nats)": ("entropy",),
    "Policy lag (updates)": ("policy_lag",),
    "Throughput (env steps/s)": ("steps/s",),
    "Gradient norm before clipping": ("grad_norm", "worker_grad_norm"),
}
_COMPARED = {"Total loss" if "loss_policy" in keys else title: keys[0] for title, keys in _DIAGNOSTICS.items()}


def report_figures(run: Run, x: str = "env_steps") -> dict[str, Figure]:
    """Figures of the diagnostics that `run` logged, by title."""
    figures = {}
    for title, keys in _DIAGNOSTICS.items():
        logged = [key for key in keys if key in run.columns]
        if not logged:
            continue
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for key in logged:
            at, values, style = _x(run, x), run.column(key), "." if key == "return" else "-"
            if key == _EVALUATION:
                at, values, style = at[~np.isnan(values)], values[~np.isnan(values)], "o-"
            axes.plot(at, values, style, markersize=4 if style == "o-" else 2, linewidth=1, label=key, alpha=0.8)
        axes.set_title(title)
        _finish(axes, x)
        if len(logged) > 1:
            axes.legend(fontsize="small")
        figures[title] = figure
    return figures


def comparison_figures(runs: Sequence[Run], x: str = "env_steps") -> dict[str, Figure]:
    """Figures of the diagnostics that all runs of some configuration logged, by title; see `return_and_loss`.

    They have no legends: `legend` is that of all of them.
    """
    groups = grouped(runs)
    figures = {}
    for title, key in _COMPARED.items():
        chosen = [(group, color) for group, color in zip(groups, _palette(), strict=False) if _all_have(group, key)]
        if not chosen:
            continue
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        is_smooth = key not in ("return_100", _EVALUATION)
        _curves(axes, [group for group, _ in chosen], x, key, is_smooth, [color for _, color in chosen])
        axes.set_title(title)
        figures[title] = figure
    return figures


def legend(runs: Sequence[Run]) -> dict[str, str]:
    """The colour of each configuration of `comparison_figures`, by its label."""
    return {_label(group): color for group, color in zip(grouped(runs), _palette(), strict=False)}


def to_svg(figure: Figure) -> bytes:
    """The figure as the content of an SVG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _curves(
    axes: Axes, groups: Sequence[Group], x: str, key: str, smooth: bool = False, colors: Sequence[str] | None = None
) -> None:
    """A line for each group's mean, and what lies behind it."""
    is_alone = len(groups) == 1
    for group, color in zip(groups, colors or _palette(), strict=False):
        lines = [_without_gaps(_x(run, x), run.column(key), run) for run in group.runs]
        most = max(len(at) for at, _ in lines)
        marker = "o" if most == 1 or (key == _EVALUATION and most <= 50) else None  # no line has one point
        style: dict[str, Any] = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 4}
        if len(lines) == 1:
            ((at, values),) = lines
            if smooth and is_alone:
                axes.plot(at, values, color=_FAINT, linewidth=0.6, alpha=0.9)
            axes.plot(at, _running_mean(values) if smooth else values, label=_label(group), **style)
            continue
        lines = [(at, _running_mean(values) if smooth else values) for at, values in lines]
        for at, values in lines:
            axes.plot(at, values, color=color, linewidth=0.8, alpha=0.3)
        start, stop = max(at[0] for at, _ in lines), min(at[-1] for at, _ in lines)
        if start > stop:
            names = ", ".join(str(run.folder) for run in group.runs)
            raise UnreadableRun(f"the runs share no {x}: {names}; plot each alone")
        grid = np.linspace(start, stop, _GRID_POINTS)
        table = np.stack([np.interp(grid, at, values) for at, values in lines])
        axes.plot(
            grid,
            table.mean(axis=0),
            label=_label(group),
            **style | {"marker": "o" if start == stop else None},
        )
        axes.fill_between(grid, *bootstrap_bounds(table), color=color, alpha=0.2, linewidth=0)
    _finish(axes, x)


def _label(group: Group) -> str:
    return group.label if len(group.runs) == 1 else f"{group.label}: mean of {len(group.runs)} runs"


def _palette() -> Iterator[str]:
    return cycle(_COLORS)


def _has(run: Run, key: str) -> bool:
    return key in run.columns and bool(np.isfinite(run.columns[key]).any())


def _all_have(group: Group, key: str) -> bool:
    return all(_has(run, key) for run in group.runs)


def _legend(figure: Figure, axes: Axes, panels: int) -> None:
    """One legend below all panels; none for a single line."""
    handles, labels = axes.get_legend_handles_labels()
    if axes.collections:
        handles.append(Patch(color=_FAINT, alpha=0.3, linewidth=0))
        labels.append(f"band: {INTERVAL}")
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=panels, fontsize="small", frameon=False)


def _legend_rows(groups: Sequence[Group], panels: int) -> int:
    entries = len(groups) + any(len(group.runs) > 1 for group in groups)
    return -(-entries // panels) if entries > 1 else 0


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
