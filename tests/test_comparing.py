"""Which runs belong together, what they are called, and what differs."""

from pathlib import Path

import numpy as np
import pytest

from lightning_a3c.viewing.comparing import differences, grouped, settings_of
from lightning_a3c.viewing.runs import Run

CONFIG = """
seed_everything: {seed}
trainer:
  default_root_dir: {folder}
  logger:
  - class_path: pytorch_lightning.loggers.CSVLogger
    init_args: {{save_dir: {folder}}}
  callbacks:
  - class_path: lightning_a3c.StopWhenSolved
    init_args: {{bound: 475.0}}
  - class_path: pytorch_lightning.callbacks.ModelCheckpoint
    init_args: {{dirpath: {folder}/checkpoints, save_last: true}}
  plugins:
    class_path: lightning_a3c.AutoPrecision
    init_args: {{}}
data:
  env: {{id: CartPole-v1}}
optimizer:
  class_path: torch.optim.Adam
  init_args: {{lr: {lr}, betas: [0.9, 0.99]}}
ckpt_path: {ckpt_path}
"""


def run(folder: Path, seed: int = 0, lr: float = 1e-3, ckpt_path: str = "null") -> Run:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(seed=seed, folder=folder, lr=lr, ckpt_path=ckpt_path))
    return Run(folder, {"env_steps": np.arange(3.0)}, folder)


def test_seeds_and_folders_make_no_other_configuration(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "a_seed0", 0),
        run(tmp_path / "b", lr=3e-3),
        run(tmp_path / "a_seed1", 1, ckpt_path="last.ckpt"),
    ]
    assert [(group.label, [each.name for each in group.runs]) for group in grouped(runs)] == [
        ("a", ["a_seed0", "a_seed1"]),
        ("b", ["b"]),
    ]


def test_settings_are_flat_and_name_the_class_that_they_belong_to(tmp_path: Path) -> None:
    assert settings_of(run(tmp_path / "a")) == {
        "data.env.id": "CartPole-v1",
        "optimizer": "Adam",
        "optimizer.betas": "[0.9, 0.99]",
        "optimizer.lr": "0.001",
        "trainer.callbacks.ModelCheckpoint": "ModelCheckpoint",
        "trainer.callbacks.ModelCheckpoint.save_last": "True",
        "trainer.callbacks.StopWhenSolved": "StopWhenSolved",
        "trainer.callbacks.StopWhenSolved.bound": "475",
        "trainer.plugins": "AutoPrecision",
    }


def test_only_what_differs_is_in_the_table(tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare", {"env_steps": np.arange(3.0)}, tmp_path / "bare")
    groups = grouped([run(tmp_path / "a"), run(tmp_path / "b", lr=3e-3)])
    assert differences(groups) == {"optimizer.lr": ["0.001", "0.003"]}
    assert differences(grouped([groups[0].runs[0], bare]))["optimizer.lr"] == ["0.001", "–"]


def test_a_run_without_a_configuration_stands_alone(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name, {"env_steps": np.arange(3.0)}, tmp_path / name) for name in ("a_seed0", "a_seed1")]
    assert [group.label for group in grouped(runs)] == ["a_seed0", "a_seed1"]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["pong/1", "pong/2", "pong/10"], "pong"),
        (["x_seed10", "x_seed11"], "x"),
        (["lr0.001"], "lr0.001"),
        (["one", "two"], "one"),
    ],
)
def test_a_group_is_called_what_its_runs_have_in_common(names: list[str], label: str, tmp_path: Path) -> None:
    assert [group.label for group in grouped([run(tmp_path / name) for name in names])] == [label]


def test_groups_of_one_name_say_what_sets_them_apart(tmp_path: Path) -> None:
    runs = [run(tmp_path / "x/pong", lr=1e-3), run(tmp_path / "y/pong", lr=3e-3)]
    assert [group.label for group in grouped(runs)] == ["pong, lr 0.001", "pong, lr 0.003"]
