"""Vector environments as they are made, and the seeds that they take."""

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_vector_env, reset_seed


@pytest.mark.parametrize("env_id", ["CartPole-v1", "PongNoFrameskip-v4"])
def test_every_environment_resets_in_the_same_step(make, env_id):
    assert make(env_id).metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


def test_a_time_limit_that_a_script_has_changed_is_played(make, monkeypatch):
    monkeypatch.setattr(gymnasium.registry["MountainCar-v0"], "max_episode_steps", 3)
    env = make("MountainCar-v0")
    env.reset(seed=0)
    assert [bool(env.step(np.array([0]))[3][0]) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 8])
def test_a_seed_that_fits_is_taken_as_it_is(seed: int) -> None:
    assert reset_seed(seed, num_envs=8) == seed


@pytest.fixture(scope="module")
def two_games() -> Iterator[VectorEnv]:
    env = make_vector_env(EnvConfig("ALE/Pong-v5", num_envs=2))
    yield env
    env.close()


@pytest.mark.parametrize("seed", [2**31 - 7, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**70])
def test_any_larger_seed_is_made_one_that_every_sub_environment_can_take(seed: int, two_games: VectorEnv) -> None:
    assert 0 <= reset_seed(seed, num_envs=8) <= 2**31 - 8
    assert reset_seed(seed, num_envs=8) != reset_seed(seed + 1, num_envs=8)
    two_games.reset(seed=reset_seed(seed, num_envs=2))
