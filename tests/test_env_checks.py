"""Environments that misbehave are named with id, sub-environment and worker."""

from typing import Any

import gymnasium
import numpy as np
import pytest

import tests.scripted
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, Supervision
from lightning_a3c.env_checks import BadEnvironment
from lightning_a3c.envs import make_vector_env
from lightning_a3c.pool import WorkerError


class Misbehaving(tests.scripted.SeededLengthEnv):
    """Does `what` at step `at` if its first seed is odd, as that of the second sub-environment is here."""

    def __init__(self, what: str, at: int = 3) -> None:
        super().__init__()
        self.what = what
        self.at = at
        self.steps = 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, *rest = super().step(action)
        if self.steps == self.at and self.length == 10:
            if self.what == "raise":
                raise RuntimeError("broken on purpose")
            reward = float("nan") if self.what == "reward" else reward
            changed = {"shape": np.zeros(2, np.float32), "dtype": np.zeros(1, np.int64), "nan": np.full(1, np.nan)}
            observation = changed.get(self.what, observation)
            observation = observation.astype(np.float32) if self.what == "nan" else observation
        return observation, reward, *rest


gymnasium.register("Misbehaving-v0", entry_point="tests.test_env_checks:Misbehaving", disable_env_checker=True)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("reward", "step gave the reward nan"),
        ("shape", r"step gave an observation float32 \(2,\), its space is float32 \(1,\)"),
        ("dtype", r"step gave an observation int64 \(1,\), its space is float32 \(1,\)"),
        ("nan", "step gave an observation with NaN or infinite numbers"),
    ],
)
def test_what_an_environment_must_not_give_is_named_where_it_happens(what: str, message: str) -> None:
    env = make_vector_env(EnvConfig("Misbehaving-v0", num_envs=2, kwargs={"what": what}))
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    env.step(np.array([0, 0]))
    with pytest.raises(BadEnvironment, match=f"Misbehaving-v0, sub-environment 1: {message}"):
        env.step(np.array([0, 0]))
    env.close()


def test_an_exception_in_a_worker_names_worker_environment_and_sub_environment() -> None:
    env = EnvConfig("tests.test_env_checks:Misbehaving-v0", num_envs=2, kwargs={"what": "raise", "at": 30})
    data = CollectorDataModule(
        env, num_workers=1, micro_batch_size=8, batch_size=8, seed=4, supervision=Supervision(max_restarts=0)
    )
    stream = data.dataset(A3CModule.for_data(data).net)
    expected = (
        r"(?s)collector 0 raised:.*broken on purpose\nin tests.test_env_checks:Misbehaving-v0, sub-environment \d"
    )
    with pytest.raises(WorkerError, match=expected):
        for _ in stream:
            pass
    stream.close()
