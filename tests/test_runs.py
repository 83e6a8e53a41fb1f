"""Reading run folders: joined, filtered, and refused where they are damaged."""

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_a3c.viewing.runs import UnreadableRun, read_run


def log(folder: Path, version: int, *rows: tuple[float | str, ...], header: str = "env_steps,return_100") -> Path:
    path = folder / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_real_run_is_read_with_what_describes_it(cartpole_run: Path) -> None:
    run = read_run(cartpole_run)
    assert run.name == "cartpole_data/1"
    assert len(run.column("env_steps")) == 24  # one for each update
    assert run.solved_bound == 475
    assert run.machine is not None
    assert run.machine["cores"] >= 1
    assert run.config is not None
    assert "CartPole-v1" in run.config
    assert run.test_results is not None
    assert run.video == cartpole_run / "checkpoints/last.test.mp4"


def test_a_validation_stands_in_the_row_of_the_update_before_it(tmp_path: Path) -> None:
    rows = [("", 0, 1.0), (10, 49, ""), (20, 99, ""), ("", 99, 7.0), (30, 149, ""), ("", 180, 8.0)]
    log(tmp_path, 0, *rows, header="env_steps,step,val/return_mean")
    run = read_run(tmp_path)
    assert run.column("env_steps").tolist() == [10, 20, 30]
    assert run.column("val/return_mean").tolist()[1:] == [7, 8]
    assert math.isnan(run.column("val/return_mean")[0])  # before training: no env steps yet


def test_a_numbered_run_is_called_by_its_configuration_too(tmp_path: Path) -> None:
    log(tmp_path / "pong/3", 0, (10, 1))
    assert read_run(tmp_path / "pong/3").name == "pong/3"


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


def configured(log_file: Path, ckpt_path: str | None, started: str = "2025-01-01T00:00") -> Path:
    """The folder of a log, with what the command line leaves there."""
    (log_file.parent / "config.yaml").write_text(yaml.safe_dump({"ckpt_path": ckpt_path}))
    (log_file.parent / "machine.json").write_text(json.dumps({"started": started}))
    return log_file.parent


def test_a_fresh_start_that_logs_less_often_shows_nothing_of_the_earlier_run(tmp_path: Path) -> None:
    configured(log(tmp_path, 0, (1, 10, 1), (2, 20, 2), header="step,env_steps,return_100"), None)
    newer = log(tmp_path, 1, (5, 50, 7), (10, 100, 8), header="step,env_steps,return_100")
    configured(newer, None)
    assert read_run(tmp_path).column("return_100").tolist() == [7, 8]
    (newer.parent / "config.yaml").unlink()  # as from a script: its rows tell
    (newer.parent / "metrics.csv").write_text("step,env_steps,return_100\n4,50,7\n9,100,8\n")
    assert read_run(tmp_path).column("return_100").tolist() == [7, 8]


def test_a_run_resumed_twice_is_one_run(tmp_path: Path) -> None:
    configured(log(tmp_path, 0, (10, 1), (20, 2), (30, 3)), None)
    configured(log(tmp_path, 1, (25, 4), (35, 5)), "last.ckpt")
    configured(log(tmp_path, 2, (32, 6), (42, 7)), "last.ckpt")
    assert read_run(tmp_path).column("return_100").tolist() == [1, 2, 4, 6, 7]


@pytest.mark.parametrize("form", ["run/", "./run/.", "link", "../{name}/run"])
def test_a_run_has_one_name_however_its_folder_is_given(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(tmp_path / "run", 0, (10, 1))
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    assert read_run(form.format(name=tmp_path.name)).name == "run"


def results(path: Path, **facts: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return path


def test_tests_of_untrained_weights_are_not_the_runs(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1))
    results(tmp_path / "csv/version_1/untrained.test.json", checkpoint=None, env_steps_trained=0)
    results(tmp_path / "csv/version_1/test.json", checkpoint=None, env_steps_trained=0)  # as older versions called it
    assert read_run(tmp_path).test_results is None
    results(tmp_path / "csv/version_0/test.json", checkpoint=None, env_steps_trained=10)
    assert read_run(tmp_path).test_results == {"checkpoint": None, "env_steps_trained": 10}


def test_files_of_other_programs_are_not_taken_for_results(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1))
    results(tmp_path / "latest.json", checkpoint="a.ckpt", env_steps_trained=10)
    results(tmp_path / "unit.test.json", passed=True)
    (tmp_path / "test.json").write_text("[1, 2]")
    (tmp_path / "holidays.mp4").touch()
    assert read_run(tmp_path).test_results is None
    assert read_run(tmp_path).video is None


def test_tests_and_videos_are_those_of_the_newest_run(tmp_path: Path) -> None:
    old = configured(log(tmp_path, 0, (10, 1)), None, started="2025-01-01T00:00")
    board = tmp_path / "tensorboard/version_0"  # its versions need not be those of the CSV logger
    results(board / "machine.json", started="2025-01-01T00:00")
    for folder in (old, board, tmp_path / "checkpoints/earlier-1"):
        results(folder / "last.test.json", checkpoint="last.ckpt", env_steps_trained=10)
        (folder / "last.test.mp4").touch()
        (folder / "solved.ckpt").touch()
    (old / "videos").mkdir()
    (old / "videos/update=0000060.mp4").touch()
    assert read_run(tmp_path).test_results is not None
    configured(log(tmp_path, 1, (10, 2)), None, started="2025-02-01T00:00")
    run = read_run(tmp_path)
    assert (run.test_results, run.video, run.has_solved_checkpoint) == (None, None, False)
    results(tmp_path / "checkpoints/last.test.json", checkpoint="last.ckpt", env_steps_trained=7)
    assert run.test_results == {"checkpoint": "last.ckpt", "env_steps_trained": 7}


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    (log(tmp_path, 0, (10, 1)).parent / "config.yaml").write_text("trainer: [")
    with pytest.raises(UnreadableRun, match=r"config.yaml is damaged \(.*\); remove it or create it again"):
        _ = read_run(tmp_path).solved_bound


def test_what_the_command_line_noted_last_counts(tmp_path: Path) -> None:
    folder = log(tmp_path, 0, (10, 1)).parent
    for name in ("config.yaml", "config_2.yaml", "config_10.yaml", "config_old.yaml"):
        (folder / name).write_text(f"note: {name}")
    assert read_run(tmp_path).config == "note: config_10.yaml"


@pytest.mark.parametrize("text", ["", "trainer: null", "trainer: {callbacks: null}", "trainer: {callbacks: [a.B]}"])
def test_a_configuration_without_a_bound_has_none(text: str, tmp_path: Path) -> None:
    (log(tmp_path, 0, (10, 1)).parent / "config.yaml").write_text(text)
    assert read_run(tmp_path).solved_bound is None


@pytest.mark.parametrize(
    ("rows", "unlogged"),
    [
        ([(49, 500), (99, 1000), (149, 1500)], 0),
        ([(49, 500), (99, 1000), (109, 1100)], 0),  # the last update's row
        ([(49, 500), (99, 1000), (109, 1000)], 10),  # the row before, again
        ([(49, 500), (99, 1000), (109, 1010)], 9),  # of the first update of the epoch
        ([(49, 512), (99, 1000), (100, 1024)], 0),  # workers step 8 environments at once
        ([(49, 500)], 0),
    ],
)
def test_a_last_row_that_is_older_than_the_run_is_noticed(
    rows: list[tuple[int, int]], unlogged: int, tmp_path: Path
) -> None:
    log(tmp_path, 0, *rows, header="step,env_steps")
    assert read_run(tmp_path).unlogged_updates == unlogged


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
    with pytest.raises(UnreadableRun, match=rf"{name} is damaged .*remove it or create it again"):
        _ = run.test_results, run.machine


def test_a_log_that_is_no_table_of_numbers_is_refused(tmp_path: Path) -> None:
    log(tmp_path, 0, (10, "<script>"))
    with pytest.raises(UnreadableRun, match="is not a metrics file of numbers"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe,step", r"metrics.csv is damaged \("), (b"", "metrics.csv is empty: its run logged")],
)
def test_a_log_that_is_damaged_or_empty_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    log(tmp_path, 0, (10, 1)).write_bytes(content)
    with pytest.raises(UnreadableRun, match=message):
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
