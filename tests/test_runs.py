"""Reading run folders: joined, filtered, and refused where they are damaged."""

import math
import shutil
from pathlib import Path

import pytest

from lightning_a3c.runs import UnreadableRun, read_run


def log(folder: Path, version: int, *rows: tuple[float | str, ...], header: str = "env_steps,return_100") -> Path:
    path = folder / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_real_run_is_read_with_what_describes_it(cartpole_run: Path) -> None:
    run = read_run(cartpole_run)
    assert run.name == "cartpole_data"
    assert len(run.column("env_steps")) == 24  # 120 updates, one row in 5
    assert run.solved_bound == 475
    assert run.machine is not None
    assert run.machine["cores"] >= 1
    assert run.config is not None
    assert "CartPole-v1" in run.config
    assert run.test_results is not None
    assert run.video == cartpole_run / "checkpoints/last.test.mp4"


def test_one_version_can_be_read_by_itself(cartpole_run: Path) -> None:
    run = read_run(cartpole_run / "csv/version_0")
    assert len(run.column("env_steps")) == 24


def test_a_resumed_run_continues_where_its_checkpoint_was(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1), (20, 2), (30, 3))
    log(tmp_path, 1, (25, 4), (35, 5))  # from the checkpoint at 20
    run = read_run(tmp_path)
    assert run.column("env_steps").tolist() == [10, 20, 25, 35]
    assert run.column("return_100").tolist() == [1, 2, 4, 5]


def test_a_fresh_start_replaces_what_was_there(tmp_path: Path) -> None:
    log(tmp_path, 9, (10, 1), (20, 2))
    log(tmp_path, 10, (9, 7), (19, 8))  # the tenth is newer than the ninth
    assert read_run(tmp_path).column("return_100").tolist() == [7, 8]


def test_rows_of_tests_and_validations_are_no_training(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1, ""), ("", "", 5), header="env_steps,return_100,val/return_mean")
    log(tmp_path, 1, (5,), header="test/return_mean")
    run = read_run(tmp_path)
    assert run.column("return_100").tolist() == [1]
    assert run.log_folder.name == "version_0"


def test_a_key_logged_by_only_one_version_is_missing_in_the_other(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1))
    log(tmp_path, 1, (20, 2, 3), header="env_steps,return_100,grad_norm")
    values = read_run(tmp_path).column("grad_norm").tolist()
    assert math.isnan(values[0])
    assert values[1] == 3


def test_a_truncated_log_is_refused_with_its_line(cartpole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(cartpole_run, folder)
    path = folder / "csv/version_0/metrics.csv"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableRun, match=r"metrics.csv line 25 has \d+ of \d+ values: the file was cut off"):
        read_run(folder)


@pytest.mark.parametrize("name", ["checkpoints/last.test.json", "csv/version_0/machine.json"])
def test_truncated_facts_are_refused_with_their_file(name: str, cartpole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(cartpole_run, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:30])
    run = read_run(folder)
    with pytest.raises(UnreadableRun, match=rf"{name} is damaged .*remove it or make it again"):
        _ = run.test_results, run.machine


def test_a_log_that_is_no_table_of_numbers_is_refused(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, "<script>"))
    with pytest.raises(UnreadableRun, match="is not a metrics file of numbers"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "holds no metrics.csv; train with pytorch_lightning.loggers.CSVLogger"),
        (lambda folder: log(folder, 0), "has logged no training yet"),
        (lambda folder: log(folder, 0, (5,), header="test/return_mean"), "has logged no training yet"),
        (
            lambda folder: [log(folder / name, 0, (1, 1)).parents[1].rename(folder / f"{name}_csv") for name in "ab"],
            "holds logs of several runs; name one",
        ),
    ],
)
def test_folders_without_one_run_are_refused(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UnreadableRun, match=message):
        read_run(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRun, match=r"no-run is not a folder"):
        read_run(tmp_path / "no-run")


def test_a_key_that_was_never_logged_is_named_beside_those_that_were(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1))
    with pytest.raises(UnreadableRun, match=r"never logged 'train_seconds'; it logged env_steps, return_100"):
        read_run(tmp_path).column("train_seconds")
