"""Every example runs, with a budget far too small to learn anything."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from tests.command_line import lightning_a3c, run_script

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs a copy of an example with arguments, in a folder of its own."""

    def run(name: str, *args: str) -> None:
        copy = tmp_path / name
        copy.write_text((EXAMPLES / name).read_text())
        monkeypatch.setattr(sys, "argv", [name, *args])
        run_script(copy)

    return run


def test_own_environment_trains_and_tests(run_example, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("own_environment.py", "5")
    assert "test/return_mean" in capsys.readouterr().out


def test_own_network_trains(run_example, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("own_network.py", "5")
    assert "mean return of the last episodes: " in capsys.readouterr().out


def test_plain_loop_plays_with_a_checkpoint(
    run_example, cartpole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_example("plain_loop.py", str(cartpole_run / "checkpoints/last.ckpt"), "2")
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["episode 0", "episode 1"]


def printed_by(name: str, *args: str, folder: Path) -> str:
    """What an example prints that starts processes of its own from the script."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(EXAMPLES / name), *args]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ddp_trains_two_learners(tmp_path: Path) -> None:
    last = printed_by("ddp.py", "4", folder=tmp_path).splitlines()[-1]
    learners, env_steps = last.removeprefix("learners: ").split(", env steps: ")
    assert learners == "2"
    assert int(env_steps) >= 4 * 512  # counted over both


@pytest.mark.slow
def test_ray_train_places_two_learners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.train", exc_type=ImportError)  # which needs more packages than Ray
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_worker_niceness"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("RAY_ADDRESS", "local")  # whatever else runs on this machine
    monkeypatch.setenv("HOME", str(tmp_path))  # where it leaves its results
    assert "learners: 2, env steps: " in printed_by("ray_train.py", "4", folder=tmp_path)


def test_the_sweep_runs_and_names_its_best_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    content = yaml.safe_load((EXAMPLES / "sweep.yaml").read_text())
    content |= {"trials": 1, "options": {"trainer.max_steps": 4, "data.num_workers": 0}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    done = lightning_a3c("sweep", "sweep.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lightning-a3c fit --config=cartpole_data" in done.stdout
    assert (tmp_path / "runs/sweep/1/checkpoints/last.ckpt").exists()


@pytest.mark.slow
def test_ray_tune_names_the_best_of_its_trials(tmp_path: Path) -> None:
    pytest.importorskip("ray.tune", exc_type=ImportError)  # the extra of this package has Ray without Tune
    assert "best: return_100 " in printed_by("ray_tune.py", "20", "2", folder=tmp_path).splitlines()[-1]


def test_quickstart_shows_a_curve_and_a_video_and_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # kept in Git without outputs
    budget = next(cell for cell in notebook.cells if "UPDATES = " in cell.source)
    budget.source = budget.source.replace("UPDATES = 3000", "UPDATES = 20")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [set(output.data) for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("image/png" in kinds for kinds in shown)
    video = (tmp_path / "runs/quickstart/cartpole.mp4").read_bytes()
    assert len(video) > 1000
    assert any("data:video/mp4;base64," in str(output) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert float(notebook.cells[-1].outputs[-1].data["text/plain"]) > 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert 20 <= len(lines) <= 50
    assert f"python examples/{path.name}" in lines[0]
