"""Environments that misbehave are named with id, sub-environment and worker."""

from typing import Any

import gymnasium
import numpy as np
import pytest

import tests.scripted
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, Supervision
from lightning_a3c.env_checks import BadEnvironment, Whereabouts
from lightning_a3c.envs import make_vector_env
from lightning_a3c.pool import WorkerError

WHEREABOUTS = Whereabouts()
SEEN: list[str] = []


class Observed(tests.scripted.SeededLengthEnv):
    """Notes where an observer of its process would see it at each call."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        SEEN.append(WHEREABOUTS.describe("Observed-v0"))
        return super().reset(**kwargs)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        SEEN.append(WHEREABOUTS.describe("Observed-v0"))
        return super().step(action)


gymnasium.register("Observed-v0", entry_point="tests.test_env_checks:Observed", disable_env_checker=True)


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
    env = EnvConfig("tests.scripted:Misbehaving-v0", num_envs=2, kwargs={"what": "raise", "at": 30})
    data = CollectorDataModule(
        env, num_workers=1, micro_batch_size=8, batch_size=8, seed=4, supervision=Supervision(max_restarts=0)
    )
    stream = data.dataset(A3CModule.for_data(data).net)
    expected = r"(?s)collector 0 raised:.*broken on purpose\nin tests.scripted:Misbehaving-v0, sub-environment \d"
    with pytest.raises(WorkerError, match=expected):
        for _ in stream:
            pass
    stream.close()


def test_an_observer_sees_the_call_and_the_sub_environment() -> None:
    env = make_vector_env(EnvConfig("Observed-v0", num_envs=2), whereabouts=WHEREABOUTS)
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    assert [
        f"in {call} of Observed-v0, sub-environment {index}" for call in ("reset", "step") for index in (0, 1)
    ] == SEEN
    assert WHEREABOUTS.describe("Observed-v0") == "outside Observed-v0"
    env.close()


def test_atari_is_named_as_a_whole() -> None:
    whereabouts = Whereabouts()
    env = make_vector_env(EnvConfig("PongNoFrameskip-v4", num_envs=2), whereabouts=whereabouts)
    env.reset(seed=np.array([0, 1]))
    with pytest.raises(Exception) as error:  # noqa: PT011  # the emulator's own
        env.step(np.array([0, 0, 0]))
    assert error.value.__notes__ == ["in PongNoFrameskip-v4"]
    env.close()


@pytest.mark.parametrize(("what", "call"), [("hang", "step"), ("slow reset", "reset")])
def test_an_environment_that_hangs_or_resets_slowly_is_named_with_its_worker(what: str, call: str) -> None:
    env = EnvConfig("tests.scripted:Misbehaving-v0", num_envs=2, kwargs={"what": what, "at": 30})
    patience = Supervision(max_restarts=0, timeout=15)
    data = CollectorDataModule(
        env,
        num_workers=1,
        micro_batch_size=8,
        batch_size=8,
        seed=4,
        supervision=patience,
    )
    stream = data.dataset(A3CModule.for_data(data).net)
    expected = (
        rf"collector 0 \(process \d+\) hangs: it did nothing for 15 s and is in {call} of "
        r"tests.scripted:Misbehaving-v0, sub-environment \d"
    )
    with pytest.raises(WorkerError, match=expected):
        for _ in stream:
            pass
    stream.close()
