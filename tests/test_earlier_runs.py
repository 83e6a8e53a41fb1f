"""A folder's checkpoints are the newest run's; an earlier run's are set aside and nothing is lost."""

import fcntl
import os
import re
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_a3c.learning.earlier_runs import file_names, set_aside
from tests.command_line import Done, lightning_a3c

SMALL = ["--data.num_workers=0", "--data.env.num_envs=2", "--data.micro_batch_size=8", "--data.batch_size=8"]
SMALL += ["--trainer.logger=false", "--trainer.enable_model_summary=false"]
SMALL += ["--trainer.callbacks=pytorch_lightning.callbacks.ModelCheckpoint", "--trainer.callbacks.dirpath=ck"]
SMALL += ["--trainer.callbacks.save_last=true"]


def fit(folder: Path, *args: str) -> Done:
    return lightning_a3c("fit", *SMALL, *args, folder=folder)


def updates(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_a_fresh_run_sets_the_checkpoints_of_an_earlier_one_aside_and_a_resumed_one_does_not(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.max_steps=2").returncode == 0
    for name in ("mine.ckpt", "last.test.json", "last.test.mp4", "solved.ckpt", "notes.json"):
        (tmp_path / "ck" / name).write_text(name)
    resumed = fit(tmp_path, "--trainer.max_steps=3", "--ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    assert not (tmp_path / "ck/earlier-1").exists()
    assert updates(tmp_path / "ck/last.ckpt") == 3

    refused = fit(tmp_path, "--trainer.max_steps=4", "--data.n_steps=0")
    assert refused.returncode == 1
    assert not (tmp_path / "ck/earlier-1").exists()

    again = fit(tmp_path, "--trainer.max_steps=4")
    assert again.returncode == 0, again.stderr
    assert re.search(r"ck held the checkpoints of an earlier run; they are in .*ck/earlier-1 now", again.stderr)
    assert updates(tmp_path / "ck/last.ckpt") == 4
    assert updates(tmp_path / "ck/earlier-1/last.ckpt") == 3
    kept = {path.name for path in (tmp_path / "ck/earlier-1").iterdir()}
    assert kept >= {"last.ckpt", "last.test.json", "last.test.mp4", "solved.ckpt"}
    there = {path.name for path in (tmp_path / "ck").iterdir()}
    assert there == {"earlier-1", "mine.ckpt", "notes.json", "last.ckpt", "epoch=0-step=4.ckpt"}


def test_the_files_of_a_run_that_still_writes_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "ck"
    folder.mkdir()
    (folder / "last.ckpt").write_text("of another run that is alive")
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    done = fit(tmp_path, "--trainer.max_steps=2")
    os.close(other)
    assert done.returncode == 0, done.stderr
    assert "another run is writing checkpoints to" in done.stderr
    assert (folder / "last.ckpt").read_text() == "of another run that is alive"
    assert updates(folder / "last-v1.ckpt") == 2


@pytest.mark.parametrize(
    ("filename", "name", "is_ours"),
    [
        (None, "last.ckpt", True),
        (None, "last-v12.ckpt", True),
        (None, "solved.ckpt", True),
        (None, "solved.test.mp4", True),
        (None, "epoch=3-step=2000.ckpt", True),
        (None, "epoch=3-step=2000-v1.test.json", True),
        ("{step}-{return_100:.1f}", "step=2000-return_100=-12.5.ckpt", True),
        ("{step}-{return_100:.1f}", "step=2000-return_100=nan.ckpt", True),
        ("best", "best.ckpt", True),
        ("best", "best of all.ckpt", False),
        (None, "best.ckpt", False),
        (None, "last.ckpt.bak", False),
        (None, "my-last.ckpt", False),
        (None, "epoch.ckpt", False),
        (None, "test.json", False),
        (None, ".last.partial-12.ckpt", False),
    ],
)
def test_only_names_that_a_run_gives_count(filename: str | None, name: str, is_ours: bool) -> None:
    callback = ModelCheckpoint(filename=filename)
    assert bool(file_names(callback).fullmatch(name)) == is_ours


def test_values_without_their_names_count_where_lightning_writes_them_so() -> None:
    names = file_names(ModelCheckpoint(filename="{step}", auto_insert_metric_name=False))
    assert names.fullmatch("2000.ckpt")
    assert not names.fullmatch("mine.ckpt")


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "last.ckpt").write_text(f"run {number}")
        assert set_aside(tmp_path, file_names(None)) == tmp_path / f"earlier-{number}"
    assert [(tmp_path / f"earlier-{n}/last.ckpt").read_text() for n in (1, 2)] == ["run 1", "run 2"]
    assert set_aside(tmp_path, file_names(None)) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier-1", "earlier-2"]


def test_a_link_to_the_last_checkpoint_still_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "epoch=0-step=4.ckpt").write_text("weights")
    (tmp_path / "last.ckpt").symlink_to("epoch=0-step=4.ckpt")
    set_aside(tmp_path, file_names(None))
    assert (tmp_path / "earlier-1/last.ckpt").read_text() == "weights"
