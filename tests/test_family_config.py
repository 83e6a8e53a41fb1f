"""`--config auto`: which configuration an environment gets, and that runs train with it."""

from pathlib import Path

import pytest
import yaml

from lightning_a3c.command_line.family_config import (
    environment_of,
    family_config,
    wants_family_config,
    with_family_config,
)
from tests.command_line import lightning_a3c

SHORT = ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--data.num_workers=0"]


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("CartPole-v1", "suite/discrete"),
        ("Pendulum-v1", "suite/continuous"),
        ("FrozenLake-v1", "suite/grid"),  # one-hot coded
        ("Blackjack-v1", "suite/grid"),  # of several parts
        ("PongNoFrameskip-v4", "suite/atari"),
        ("ALE/Breakout-v5", "suite/atari"),
    ],
)
def test_actions_and_observations_decide(env_id: str, name: str) -> None:
    assert family_config(env_id) == name


def test_the_environment_is_that_of_the_last_option_or_of_the_last_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("data: {env: {id: Acrobot-v1}}")
    second.write_text("data: {env: {id: Pendulum-v1}}")
    with pytest.raises(ValueError, match=r"goes by the environment, and none is named; add --data\.env\.id"):
        environment_of(["fit"])
    assert environment_of(["fit", "-c", "auto", "-c", str(first), f"--config={second}"]) == "Pendulum-v1"
    assert environment_of(["fit", f"--config={first}", "--data.env.id", "MountainCar-v0"]) == "MountainCar-v0"


def test_only_the_value_of_the_option_is_replaced() -> None:
    given = ["fit", "--config=auto", "-c", "auto", "--config", "auto", "--data.num_workers", "auto", "--name=auto"]
    assert with_family_config(given, "x") == [
        *("fit", "--config=x", "-c", "x", "--config", "x", "--data.num_workers", "auto", "--name=auto")
    ]


def test_fit_takes_the_values_of_the_family_and_the_name_of_the_environment(tmp_path: Path) -> None:
    done = lightning_a3c("fit", "--config", "auto", "--data.env.id=Pendulum-v1", *SHORT, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--config auto takes suite/continuous for Pendulum-v1" in done.stderr
    config = yaml.safe_load((tmp_path / "runs/Pendulum-v1/1/csv/version_0/config.yaml").read_text())
    assert config["data"]["targets"] == "gae"
    assert config["model"]["normalize_observations"]


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert wants_family_config(["fit", "--config", "auto"])
    (tmp_path / "auto.yaml").touch()
    assert not wants_family_config(["fit", "--config", "auto"])


def test_an_environment_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    wrong = lightning_a3c("fit", "--config=auto", "--data.env.id=Pendulum-v9", *SHORT, folder=tmp_path)
    assert wrong.returncode != 0
    assert wrong.stderr.count("\n") == 1
    assert "env.id 'Pendulum-v9' is not a known environment" in wrong.stderr


def test_fit_without_a_configuration_points_to_it(tmp_path: Path) -> None:
    done = lightning_a3c("fit", *SHORT, folder=tmp_path)
    assert "No configuration is named; --config auto takes values for environments of this kind" in done.stderr
