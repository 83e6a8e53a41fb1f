"""Sweeps: what their files may say, and one that prunes, goes on and draws."""

import os
import sys
from pathlib import Path

import pytest

from lightning_a3c.command_line.sweep import Sweep, read_sweep, study_figures
from tests.command_line import lightning_a3c

RANGE = {"low": 1, "high": 4}

SMALL = """
trials: {trials}
prune_every: {prune_every}
options:
  data.num_workers: 0
  data.env.num_envs: 2
  data.micro_batch_size: 8
  data.batch_size: 8
  data.updates_per_epoch: 20
  trainer.max_steps: 40
  trainer.accelerator: cpu
search:
  optimizer.init_args.lr: {{low: 1.0e-4, high: 1.0e-2, log: true}}
  model.orthogonal: {{choices: [true, false]}}
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("serch: {data.n_steps: {choices: [1]}}", "has an unknown key serch; did you mean search?"),
        ("trials: 3", "has no search"),
        ("search: {data.n_steps: [1, 2]}", r"search.data.n_steps must be {choices: \[...\]} or {low: ..., high: ...}"),
        ("search: {a.b: {low: 1, hgh: 2}}", r"search.a.b must be"),
        ("search: {a.b: {low: 1e-4, high: 1}}", r"must have numbers as low and high, .* \(write 1.0e-4, not 1e-4\)"),
        ("search: {a.b: {low: 2, high: 1}}", "search.a.b: low must not be above high"),
        ("search: {a.b: {low: 0, high: 1, log: true}}", "search.a.b: low must be above 0 with log"),
        ("{search: {a.b: {choices: [1]}}, trials: 0}", "trials must be an integer of at least 1, got 0"),
    ],
)
def test_what_is_wrong_in_a_sweeps_file_is_said_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_sweep(tmp_path / "s.yaml")
    assert "\n" not in str(error.value)


def test_the_file_that_the_guide_shows_is_read(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide.md").read_text()
    (tmp_path / "tune.yaml").write_text(guide.split('```text title="tune.yaml"\n')[1].split("```")[0])
    sweep = read_sweep(tmp_path / "tune.yaml")
    assert (sweep.name, sweep.config, sweep.trials, sweep.prune_every) == ("tune", "cartpole_data", 30, 20000)
    assert sweep.options == {"trainer.max_time": "00:00:02:00"}
    assert [*sweep.search] == ["optimizer.init_args.lr", "data.n_steps", "model.entropy_weight"]


def test_the_values_of_a_trial_become_arguments_after_the_fixed_ones() -> None:
    sweep = Sweep("s", {"data.n_steps": RANGE}, "pong", options={"data.synchronous": True, "network": None})
    assert sweep.arguments({"data.n_steps": 3}) == [
        *("--config=pong", "--data.synchronous=true", "--network=null", "--data.n_steps=3"),
    ]


def test_an_option_that_does_not_exist_is_told_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "s.yaml").write_text("search: {data.n_stpes: {choices: [4, 8]}}")
    refused = lightning_a3c("sweep", "s.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert "unknown option --data.n_stpes; did you mean --data.n_steps?" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_sweep_prunes_and_goes_on_where_it_was_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(
        "optuna.pruners.MedianPruner", lambda: optuna.pruners.ThresholdPruner(lower=1e9, n_warmup_steps=3)
    )
    (tmp_path / "s.yaml").write_text(SMALL.format(trials=2, prune_every=1000))  # too long for the pruner
    done = lightning_a3c("sweep", "s.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Best: return_100" in done.stdout
    folder = tmp_path / "runs/s"
    assert {path.name for path in folder.iterdir()} == {
        *("1", "2", "sweep.db", "parallel_coordinates.png", "importances.png"),
    }
    (tmp_path / "s.yaml").write_text(SMALL.format(trials=3, prune_every=10))
    again = lightning_a3c("sweep", "s.yaml", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Trial 3 of 3" in again.stdout
    assert "Trial 2 of 3" not in again.stdout
    assert "runs/s/3: pruned with" in again.stdout
    study = optuna.load_study(storage=f"sqlite:///{folder / 'sweep.db'}", study_name="s")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert len({trial.params["optimizer.init_args.lr"] for trial in study.trials}) == 3
    (tmp_path / "s.yaml").write_text(SMALL.format(trials=4, prune_every=10).replace("num_envs: 2", "num_envs: 4"))
    changed = lightning_a3c("sweep", "s.yaml", folder=tmp_path)
    assert changed.returncode == 1
    assert "options.data.env.num_envs is 4, but the runs in runs/s had 2" in changed.stderr
    assert sorted(path.name for path in folder.glob("[0-9]")) == ["1", "2", "3"]


def test_the_figures_of_a_sweep_take_high_returns_for_good_and_name_options_in_full() -> None:
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(direction="maximize")
    best, worst = "optimizer.init_args.lr", "model.entropy_weight"  # what decides the best runs, and the worst
    for at in range(40):
        values = {best: (at % 8) / 8, worst: (at % 5) / 5}
        distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in values}
        value = -1000.0 if values[worst] == 0.8 else 100 * values[best]
        study.add_trial(optuna.create_trial(params=values, distributions=distributions, value=value))
    figures = study_figures(study)
    lines, bars = figures["parallel_coordinates"].axes[0], figures["importances"].axes[0]
    assert [label.get_text() for label in lines.get_xticklabels()] == ["return_100", worst, best]
    assert [label.get_text() for label in bars.get_yticklabels()] == [worst, best]  # the uppermost is the last
    (runs,) = lines.collections
    colors = runs.to_rgba(runs.get_array())[:, :3].sum(axis=1)
    assert runs.get_segments()[colors.argmin()][0][1] == study.best_value
