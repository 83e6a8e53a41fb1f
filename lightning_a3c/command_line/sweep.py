"""`lightning-a3c sweep`: an Optuna study whose trials are runs of `fit`. Loads no Lightning."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_a3c.command_line.child_runs import check_fit, run_fit
from lightning_a3c.command_line.usage_errors import PROGRAM, did_you_mean, read_config
from lightning_a3c.system.files import atomic_write
from lightning_a3c.viewing.numbered_runs import ROOT, RunFolder

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

_DATABASE = "sweep.db"
_RANGE = {"low", "high", "log", "step"}
_INTERRUPTED = 128  # exit codes from here on are signals


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says.

    Args:
        name: the runs go to runs/NAME, and the study is runs/NAME/sweep.db.
        search: for each option of `fit` `{choices: [...]}` or `{low: a, high: b}`, and `log: true` or `step: n`.
        config: name or path of a configuration.
        trials: number of runs, those of earlier calls included.
        options: options of `fit` that all runs have.
        prune_every: env steps after which a run's `return_100` is compared with the median of earlier runs, and the run
            ended if it is below; None lets all runs end by themselves.
        seed: of the sampler; the runs have that of the configuration.
    """

    name: str
    search: Mapping[str, Mapping[str, Any]]
    config: str | None = None
    trials: int = 20
    options: Mapping[str, Any] = field(default_factory=dict)
    prune_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.search, Mapping) or not self.search:
            raise ValueError("search must hold options of fit, such as `data.n_steps: {choices: [4, 8]}`")
        for key, space in self.search.items():
            is_range = isinstance(space, Mapping) and {"low", "high"} <= space.keys() <= _RANGE
            is_choice = isinstance(space, Mapping) and space.keys() == {"choices"} and bool(space["choices"])
            if not is_range and not is_choice:
                raise ValueError(f"search.{key} must be {{choices: [...]}} or {{low: ..., high: ...}}, got {space!r}")
            if is_range and not all(_is_number(space[end]) for end in ("low", "high")):
                raise ValueError(
                    f"search.{key} must have numbers as low and high, got {space!r} (write 1.0e-4, not 1e-4)"
                )
            if is_range and space["low"] > space["high"]:
                raise ValueError(f"search.{key}: low must not be above high, got {space!r}")
            if is_range and space.get("log") and space["low"] <= 0:
                raise ValueError(f"search.{key}: low must be above 0 with log, got {space!r}")
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must hold options of fit, got {self.options!r}")
        for name in ("trials", "prune_every"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The arguments of `fit` for a run with `values` of the searched options."""
        config = [] if self.config is None else [f"--config={self.config}"]
        return [*config, *(f"--{key}={_text(value)}" for key, value in {**self.options, **values}.items())]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        ValueError: it holds an unknown key or a wrong value.
    """
    content = read_config(path)
    known = [name for name in Sweep.__dataclass_fields__ if name != "name"]
    for key in content:
        if key not in known:
            raise ValueError(f"{path} has an unknown key {key}{did_you_mean(str(key), known)}")
    if "search" not in content:
        raise ValueError(f"{path} has no search; it says which options of fit take which values")
    try:
        return Sweep(path.stem, **content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def run_sweep(sweep: Sweep) -> None:
    """Run trials until there are as many as the sweep wants, then draw what they show.

    Raises:
        ValueError: Optuna is missing, another process runs the sweep, or what its runs share has changed.
        SystemExit: an option does not exist, with `fit`'s line; or the sweep was interrupted.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError("sweep needs Optuna: pip install 'lightning-a3c[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_fit(sweep.arguments({key: _first(space) for key, space in sweep.search.items()}))
    folder = Path(ROOT) / sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        holder = RunFolder(folder)
    except BlockingIOError:
        raise ValueError(f"another process is running the sweep in {folder}") from None
    with closing(holder):
        study = optuna.create_study(
            storage=f"sqlite:///{folder / _DATABASE}",
            study_name=sweep.name,
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=sweep.seed + _finished(optuna, folder, sweep.name)),
            pruner=optuna.pruners.MedianPruner() if sweep.prune_every else optuna.pruners.NopPruner(),
        )
        _require_same_runs(sweep, study, folder)
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # of a process that was killed
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        while (done := len(_counted(study))) < sweep.trials:
            print(f"Trial {done + 1} of {sweep.trials}", flush=True)
            _run_trial(sweep, study)
        _show(sweep, study, folder)


def _require_same_runs(sweep: Sweep, study: optuna.Study, folder: Path) -> None:
    """Returns of runs that differ in more than the search cannot be compared."""
    shared = {"config": sweep.config, **{f"options.{key}": value for key, value in sweep.options.items()}}
    earlier = study.user_attrs.get("shared", shared)
    for key in sorted(shared.keys() | earlier.keys()):
        if shared.get(key) != earlier.get(key):
            raise ValueError(
                f"{key} is {shared.get(key)!r}, but the runs in {folder} had {earlier.get(key)!r}; give the sweep's "
                f"file another name, or remove {folder} to begin anew"
            )
    study.set_user_attr("shared", shared)


def _run_trial(sweep: Sweep, study: optuna.Study) -> None:
    import optuna

    trial = study.ask()
    values = {key: _suggest(trial, key, space) for key, space in sweep.search.items()}
    is_pruned = False
    reported = 0

    def report(progress: Mapping[str, Any]) -> bool:
        nonlocal is_pruned, reported
        if sweep.prune_every is None or progress["return_100"] is None:
            return True
        for reported in range(reported + 1, progress["env_steps"] // sweep.prune_every + 1):  # noqa: B020
            trial.report(progress["return_100"], reported)
            is_pruned = is_pruned or trial.should_prune()
        return not is_pruned

    outcome = run_fit([*sweep.arguments(values), f"--name={sweep.name}"], report)
    trial.set_user_attr("run", outcome.folder)
    if outcome.code >= _INTERRUPTED and not is_pruned:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise SystemExit(outcome.code)
    trial.set_user_attr("exit_code", outcome.code)
    if is_pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    elif outcome.code or outcome.return_100 is None or not math.isfinite(outcome.return_100):
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, outcome.return_100)
    how = "pruned" if is_pruned else "failed" if outcome.code else f"return_100 {outcome.return_100}"
    print(f"{outcome.folder}: {how} with {', '.join(f'{key} {value}' for key, value in values.items())}", flush=True)


def _show(sweep: Sweep, study: optuna.Study, folder: Path) -> None:
    """Print the best values and draw the study."""
    import optuna

    whole = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not whole:
        raise ValueError(f"no trial of {folder / _DATABASE} has come to its end with a return; let each run longer")
    best = study.best_trial
    print(f"Best: return_100 {best.value:.2f} in {best.user_attrs['run']}")
    print(f"{PROGRAM} fit {shlex.join(sweep.arguments(best.params))}")
    if len(whole) >= 2:
        for name, figure in study_figures(study).items():
            path = folder / f"{name}.png"
            with atomic_write(path) as partial:
                figure.savefig(partial, dpi=150, bbox_inches="tight")
            print(path)


def study_figures(study: optuna.Study) -> dict[str, Figure]:
    """Optuna's parallel coordinates and importances of a study with two complete trials or more, by name."""
    import matplotlib

    matplotlib.use("Agg")
    import optuna
    from matplotlib import pyplot
    from matplotlib.figure import Figure
    from optuna.exceptions import ExperimentalWarning
    from optuna.visualization import matplotlib as drawing

    # given a `target` as well, Optuna would take low returns for good
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        lines = drawing.plot_parallel_coordinate(study, target_name="return_100")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        bars = drawing.plot_param_importances(study, target_name="return_100", evaluator=evaluator)
    options = sorted(study.best_params)
    lines.set_xticks(lines.get_xticks(), ["return_100", *options], rotation=345, ha="left")  # Optuna shortens them
    figures: dict[str, Figure] = {}
    for name, axes in (("parallel_coordinates", lines), ("importances", bars)):
        figure = axes.figure
        assert isinstance(figure, Figure)
        figure.set_size_inches(3 * (len(options) + 2), 5)
        figures[name] = figure
    pyplot.close("all")
    return figures


def _counted(study: optuna.Study) -> Sequence[optuna.trial.FrozenTrial]:
    """The trials that came to an end, without interrupted ones."""
    return [trial for trial in study.trials if "exit_code" in trial.user_attrs]


def _finished(optuna: Any, folder: Path, name: str) -> int:
    """The number of trials so far: a resumed sampler must not draw the same values again."""
    if not (folder / _DATABASE).exists():
        return 0
    return len(optuna.load_study(storage=f"sqlite:///{folder / _DATABASE}", study_name=name).trials)


def _suggest(trial: optuna.Trial, key: str, space: Mapping[str, Any]) -> Any:
    try:
        if "choices" in space:
            return trial.suggest_categorical(key, space["choices"])
        options = {name: space[name] for name in ("log", "step") if name in space}
        if isinstance(space["low"], int) and isinstance(space["high"], int):
            return trial.suggest_int(key, space["low"], space["high"], **options)
        return trial.suggest_float(key, space["low"], space["high"], **options)
    except ValueError as error:  # Optuna's own rules, such as choices that are other than before
        raise ValueError(f"search.{key}: {' '.join(str(error).split())}") from error


def _first(space: Mapping[str, Any]) -> Any:
    return space["choices"][0] if "choices" in space else space["low"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )
