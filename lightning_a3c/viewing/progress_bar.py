"""Progress of a run: Lightning's rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar, Timer
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import ProgressColumn, Task
from rich.text import Text

from lightning_a3c.learning.evaluation import EvaluationProgress
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.learning.progress import Progress
from lightning_a3c.learning.stopping import StopAfterEnvSteps

_WIDE = 100  # columns of a terminal


class RunProgressBar(RichProgressBar):
    """Lightning's rich progress bar with mean return, env steps, speed and time left."""

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        return [_Description(), *super().configure_columns(trainer)[1:]]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        if not isinstance(pl_module, A3CModule) or not trainer.training:
            return {**super().get_metrics(trainer, pl_module)}
        return describe(trainer, pl_module.progress)


class _Description(ProgressColumn):
    """`Epoch 3`, where Lightning writes `Epoch 3/-2` for a run without a limit of epochs."""

    def render(self, task: Task) -> Text:
        return Text(task.description.replace("/-2", ""), style="progress.description")


class ProgressLines(pl.Callback):
    """Log a line of progress at intervals and at the end of training, where output is no terminal.

    Args:
        every_seconds: interval between two lines, > 0.
    """

    def __init__(self, every_seconds: float = 30.0) -> None:
        if every_seconds <= 0:
            raise ValueError(f"ProgressLines.every_seconds must be > 0, got {every_seconds}")
        self.every_seconds = every_seconds
        self._next = 0.0
        self._evaluating_since = self._next_in_evaluation = 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluating_since = time.monotonic()
        self._next_in_evaluation = self._evaluating_since + self.every_seconds

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_evaluation_step(self, trainer: pl.Trainer, progress: EvaluationProgress) -> None:
        """Called by `EvaluationWatch`."""
        now = time.monotonic()
        if now < self._next_in_evaluation or is_interactive():
            return
        self._next_in_evaluation = now + self.every_seconds
        seconds = now - self._evaluating_since
        rank_zero_info(
            f"{timedelta(seconds=round(seconds))}  {'test' if trainer.testing else 'validation'}: "
            f"{progress.ended:,} of {progress.episodes:,} episodes ended  env steps {progress.env_steps:,}  "
            f"steps/s {progress.env_steps / max(seconds, 1e-9):.0f}"
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now < self._next or is_interactive() or not isinstance(pl_module, A3CModule):
            return
        self._next = now + self.every_seconds
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step and isinstance(pl_module, A3CModule) and not is_interactive():
            self._show(trainer, pl_module)

    def _show(self, trainer: pl.Trainer, pl_module: A3CModule) -> None:
        facts = describe(trainer, pl_module.progress)
        rank_zero_info(
            f"{timedelta(seconds=round(pl_module.progress.train_seconds))}  "
            + "  ".join(f"{name} {value}" for name, value in facts.items())
        )


def bar_options(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Trainer arguments for `RunProgressBar` on a terminal and no bar elsewhere, unless the user chose otherwise.

    Args:
        trainer: the user's arguments of the trainer, including `enable_progress_bar` and `callbacks`.
    """
    enabled, chosen = trainer["enable_progress_bar"], trainer["callbacks"] or []
    callbacks = chosen if isinstance(chosen, list) else [chosen]
    if any(isinstance(callback, ProgressBar) for callback in callbacks):
        return {}
    if not is_interactive():
        return {"enable_progress_bar": bool(enabled)}
    if enabled is False:
        return {}
    # side by side the facts would break in their middle there
    delimiter = "\n" if shutil.get_terminal_size().columns < _WIDE else " "
    bar = RunProgressBar(theme=RichProgressBarTheme(metrics_text_delimiter=delimiter))
    return {"callbacks": [*callbacks, bar]}


def is_interactive() -> bool:
    """Whether standard output, which shows the bar, is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # None where the shell closed it


def describe(trainer: pl.Trainer, progress: Progress) -> dict[str, str]:
    """The state of a run as labelled text; `time left` only if a limit is set and the speed is known."""
    facts = {
        "return_100": "–" if progress.mean_return is None else f"{progress.mean_return:.2f}",
        "steps/s": f"{progress.steps_per_second:.0f}",
        "env steps": f"{progress.env_steps:,}",
        "updates": f"{trainer.global_step:,}",
        "episodes": f"{progress.episodes:,}",
    }
    left = seconds_left(trainer, progress)
    return facts if left is None else facts | {"time left": str(timedelta(seconds=round(left)))}


def seconds_left(trainer: pl.Trainer, progress: Progress) -> float | None:
    """Seconds until the nearest limit on updates, env steps or time, at the present speed; None without a limit."""
    limits: list[float] = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (seconds := callback.time_remaining()) is not None:
            limits.append(seconds)
        if isinstance(callback, StopAfterEnvSteps) and progress.steps_per_second:
            limits.append((callback.env_steps - progress.env_steps) / progress.steps_per_second)
    if trainer.max_steps != -1 and trainer.global_step and progress.steps_per_second:
        steps_per_update = progress.env_steps / trainer.global_step
        limits.append((trainer.max_steps - trainer.global_step) * steps_per_update / progress.steps_per_second)
    return max(0.0, min(limits)) if limits else None
