"""A folder for each run: numbers are taken once, and names find the newest run's checkpoints."""

import os
from pathlib import Path

import pytest

from lightning_a3c.viewing.numbered_runs import RunFolder, newest_checkpoint, numbered, run_folder_of
from lightning_a3c.viewing.run_table import run_table
from lightning_a3c.viewing.runs import read_run


def checkpoint(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_each_run_gets_the_next_number_even_if_earlier_ones_were_removed(tmp_path: Path) -> None:
    for name in ("2", "10", "notes", "3.bak"):
        (tmp_path / name).mkdir()
    assert [path.name for path in numbered(tmp_path)] == ["2", "10"]
    assert RunFolder.next_in(tmp_path).path.name == "11"
    assert RunFolder.next_in(tmp_path).path.name == "12"


def test_a_run_that_wrote_nothing_leaves_nothing_and_one_that_did_leaves_all(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    first = RunFolder.next_in(tmp_path / "mine" / "runs" / "pong")
    first.close()
    assert not list((tmp_path / "mine").iterdir())
    second = RunFolder.next_in(tmp_path / "mine" / "runs" / "pong")
    (second.path / "file").touch()
    second.close()
    second.close()
    assert (tmp_path / "mine/runs/pong/1/file").exists()


def test_a_folder_that_a_run_holds_cannot_be_held_twice(tmp_path: Path) -> None:
    first = RunFolder.next_in(tmp_path)
    with pytest.raises(BlockingIOError):
        RunFolder(first.path)
    (first.path / "file").touch()
    first.close()
    RunFolder(first.path).close()


def test_the_newest_checkpoint_counts_whatever_its_run_is_called(tmp_path: Path) -> None:
    assert newest_checkpoint("last", tmp_path / "runs") is None
    old = checkpoint(tmp_path / "runs/pong/checkpoints/last.ckpt", age=9)  # of a release without run folders
    assert newest_checkpoint("last", tmp_path / "runs") == old
    checkpoint(tmp_path / "runs/pong/10/checkpoints/last.ckpt", age=3)
    checkpoint(tmp_path / "runs/pong/10/checkpoints/earlier-1/last.ckpt", age=0)
    newest = checkpoint(tmp_path / "runs/pong/9/checkpoints/last-v1.ckpt", age=1)  # run 9 was resumed later
    other = checkpoint(tmp_path / "runs/taxi/1/checkpoints/last.ckpt", age=0)
    best = checkpoint(tmp_path / "runs/pong/9/checkpoints/best.ckpt", age=2)
    assert newest_checkpoint("last", tmp_path / "runs/pong") == newest
    assert newest_checkpoint("best", tmp_path / "runs/pong") == best
    assert newest_checkpoint("last", tmp_path / "runs") == other


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("runs/pong/3/checkpoints/last.ckpt", "runs/pong/3"),
        ("runs/pong/checkpoints/last.ckpt", None),
        ("results/pong/policy.ckpt", None),
    ],
)
def test_a_checkpoint_tells_its_run_folder(path: str, folder: str | None) -> None:
    assert run_folder_of(Path(path)) == (Path(folder) if folder else None)


def log(folder: Path, text: str = "env_steps,return_100,train_seconds,step\n64,1.5,30,0\n128,,60,1\n") -> None:
    (folder / "csv/version_0").mkdir(parents=True)
    (folder / "csv/version_0/metrics.csv").write_text(text)


def test_the_table_has_a_line_for_each_run_and_a_message_for_each_that_is_damaged(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        log(tmp_path / f"pong/{number}")
    log(tmp_path / "old", "env_steps,step\n5,0\n")
    log(tmp_path / "cut/1", "env_steps,step\n5\n")
    (tmp_path / "pong/2/csv/version_0/config.yaml").write_text(
        "{name: pong, seed_everything: 7, trainer: {callbacks: {class_path: a.StopWhenSolved, init_args: {bound: 1}}}}"
    )
    checkpoint(tmp_path / "pong/2/checkpoints/solved.ckpt", age=0)
    table, unreadable = run_table(tmp_path)
    header, *lines = [line.split() for line in table.splitlines()]
    assert header == ["run", "config", "seed", "env", "steps", "return_100", "solved", "minutes"]
    assert lines == [
        [str(tmp_path / "old"), "–", "–", "5", "–", "–", "–"],
        [str(tmp_path / "pong/1"), "–", "–", "128", "1.50", "–", "1.0"],
        [str(tmp_path / "pong/2"), "pong", "7", "128", "1.50", "yes", "1.0"],
        [str(tmp_path / "pong/10"), "–", "–", "128", "1.50", "–", "1.0"],
    ]
    assert len(unreadable) == 1
    assert "cut/1" in unreadable[0]


def test_a_folder_of_numbered_runs_stands_for_the_newest_that_has_logs(tmp_path: Path) -> None:
    for number in (9, 10):
        log(tmp_path / f"pong/{number}")
    (tmp_path / "pong/11").mkdir()
    run = read_run(tmp_path / "pong")
    assert run.folder == tmp_path / "pong/10"
    assert run.name == "pong/10"
