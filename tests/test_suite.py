"""The pure parts of `benchmarks/suite.py`: choosing parts, skipping, reading results, intervals, table and figure."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import suite

    return suite


@pytest.fixture
def suite_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import suite_table

    return suite_table


def write_run(
    root: Path, part: str, seed: int, returns: list[float], env_steps: int = 600, seconds: float = 60
) -> Path:
    folder = root / "lightning_a3c" / f"{part}_seed{seed}"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({"command": "lightning-a3c fit", "backend": "EnvPool 1.2.5"}))
    (folder / "test.json").write_text(json.dumps({"policy": "greedy", "returns": returns}))
    rows = "env_steps,train_seconds,return_100\n100,10,\n300,30,5\n"
    (folder / "metrics.csv").write_text(f"{rows}{env_steps},{seconds},9\n")
    return folder


def write_failure(root: Path, part: str, seed: int) -> None:
    folder = root / "lightning_a3c" / f"{part}_seed{seed}"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({"backend": "Gymnasium", "failed": "fit", "error": []}))


def test_a_name_stands_for_a_part_or_for_all_of_a_family(suite: ModuleType) -> None:
    assert suite.parts(["grid/doorkey"]) == ["grid/doorkey"]
    assert suite.parts(["discrete", "grid/doorkey"]) == [
        *("discrete/acrobot", "discrete/cartpole", "discrete/lunarlander", "discrete/mountaincar", "grid/doorkey")
    ]
    assert len(suite.parts([])) == len([*(ROOT / "configs/suite").glob("*/*.yaml")])
    with pytest.raises(ValueError, match="there is no part 'grid/door'; parts are atari/beam_rider"):
        suite.parts(["grid/door"])


def test_every_part_has_its_two_configurations(suite: ModuleType) -> None:
    for part in suite.parts([]):
        assert all(path.is_file() for path in suite.configs_of(part))


def test_every_published_score_and_every_run_of_stable_baselines3_belongs_to_a_part(
    suite: ModuleType, suite_table: ModuleType
) -> None:
    assert {*suite_table.BARS} <= {*suite.parts([])}


def test_a_run_with_results_or_a_failure_is_done(suite: ModuleType, tmp_path: Path) -> None:
    planned = suite.Planned("continuous/hopper", "lightning_a3c", 1)
    assert not suite.is_done(planned, tmp_path)
    planned.folder(tmp_path).mkdir(parents=True)
    assert not suite.is_done(planned, tmp_path)  # copying was interrupted
    (planned.folder(tmp_path) / "about.json").touch()
    assert suite.is_done(planned, tmp_path)
    assert not suite.is_done(planned._replace(seed=2), tmp_path)
    write_failure(tmp_path, "continuous/hopper", 3)
    assert suite.is_done(planned._replace(seed=3), tmp_path)


def test_the_log_tells_what_stepped_the_environments(suite: ModuleType) -> None:
    log = "Training steps CartPole-v1 with EnvPool 1.2.5. Validation, test, play and videos use Gymnasium."
    assert suite.backend(log, "discrete/cartpole") == "EnvPool 1.2.5"
    assert suite.backend("", "continuous/hopper") == "Gymnasium"
    assert suite.backend("", "atari/pong") == "ALE"


def test_an_interval_of_equal_returns_is_a_point(suite_table: ModuleType) -> None:
    assert suite_table.interval([np.full(5, 3.0), np.full(5, 3.0)]) == (3.0, 3.0)


def test_an_interval_reaches_from_the_worst_seed_to_the_best_when_episodes_of_a_seed_are_equal(
    suite_table: ModuleType,
) -> None:
    # three seeds: all of a draw are the worst one in 1 of 27 draws, above 2.5 %
    assert suite_table.interval([np.full(9, 0.0), np.full(9, 5.0), np.full(9, 10.0)]) == (0.0, 10.0)


def test_an_interval_of_one_seed_is_that_of_its_episodes(suite_table: ModuleType) -> None:
    returns = np.random.default_rng(1).normal(size=400)
    low, high = suite_table.interval([returns])
    error = 1.96 * returns.std() / 20
    assert low == pytest.approx(returns.mean() - error, abs=0.01)
    assert high == pytest.approx(returns.mean() + error, abs=0.01)


def test_the_table_shows_every_started_run(suite_table: ModuleType, tmp_path: Path) -> None:
    write_run(tmp_path, "continuous/hopper", 0, [1300.0, 1500.0], env_steps=600, seconds=60)
    write_run(tmp_path, "continuous/hopper", 1, [1300.0, 1100.0], env_steps=1800, seconds=180)
    write_run(tmp_path, "continuous/halfcheetah", 0, [2000.0])
    write_run(tmp_path, "memory/memory_s13", 0, [0.5, 0.5])
    write_run(tmp_path, "grid/doorkey", 0, [0.97])
    write_failure(tmp_path, "grid/doorkey", 1)
    write_failure(tmp_path, "continuous/walker2d", 0)
    rows = suite_table.table(suite_table.read_results(tmp_path)).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    walker, hopper, doorkey, memory = (cells[index] for index in (2, 1, 3, 4))
    assert hopper[:4] == ["continuous/hopper", "lightning_a3c, EnvPool 1.2.5, greedy", "0, 1", "1,300"]
    assert hopper[5:] == ["1,253", "yes", "1,200", "2.0", "10"]
    assert cells[0][5:7] == ["1,830, then 3,041", "the first"]
    assert walker[:4] == ["continuous/walker2d", "lightning_a3c", "0 (failed)", "–"]
    assert doorkey[2] == "0, 1 (failed)"
    assert doorkey[6] == "no"  # a failed run counts
    assert memory[3:7] == ["0.500", "0.500 … 0.500", "–", "–"]


def test_the_figure_has_a_panel_for_each_part_that_was_tested(suite_table: ModuleType, tmp_path: Path) -> None:
    write_run(tmp_path, "continuous/hopper", 0, [1300.0])
    write_run(tmp_path, "continuous/hopper", 1, [1300.0])
    write_run(tmp_path, "grid/doorkey", 0, [0.97])
    write_failure(tmp_path, "continuous/walker2d", 0)
    drawing = suite_table.figure(suite_table.read_results(tmp_path))
    shown = [axis for axis in drawing.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["continuous/hopper", "grid/doorkey"]
    curve, test = shown[0].lines[:2]
    assert curve.get_xydata().tolist() == [[0.0003, 5.0], [0.0006, 9.0]]
    assert test.get_xydata().tolist() == [[0.0006, 1300.0]]


def test_a_part_is_trained_tested_and_skipped_the_second_time(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks/suite.py", "discrete/cartpole", "--seeds=1", "--episodes=2"]
    command += [f"--results={tmp_path / 'results'}", f"--runs={tmp_path / 'runs'}"]
    options = ["--options", "--trainer.max_steps=4", "--data.env.backend=gymnasium", "--trainer.log_every_n_steps=1"]
    first, second = (subprocess.run([*command, *options], capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "lightning_a3c discrete/cartpole, seed 0: tested" in first.stdout
    folder = tmp_path / "results/lightning_a3c/discrete/cartpole_seed0"
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"about.json", "config.yaml", "machine.json", "metrics.csv", "test.json"}
    assert len(json.loads((folder / "test.json").read_text())["returns"]) == 2
    assert (tmp_path / "results/figure.png").exists()
    assert "| discrete/cartpole | lightning_a3c, Gymnasium, greedy | 0 |" in (tmp_path / "results/table.md").read_text()
    assert "lightning_a3c discrete/cartpole, seed 0: done before" in second.stdout
