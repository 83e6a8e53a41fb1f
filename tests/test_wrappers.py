"""Wrappers for tasks that need memory."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import tests.test_every_space  # noqa: F401  registers Identity…-v0
from lightning_a3c import EnvConfig, ObserveElements, ObservePreviousStep
from lightning_a3c.environments.task import describe_task


def test_some_elements_are_shown_in_the_order_asked_for() -> None:
    env = ObserveElements(gymnasium.make("CartPole-v1"), indices=[2, 0])
    whole, _ = gymnasium.make("CartPole-v1").reset(seed=1)
    shown, _ = env.reset(seed=1)
    assert shown.tolist() == [whole[2], whole[0]]
    assert env.observation_space.high.tolist() == env.unwrapped.observation_space.high[[2, 0]].tolist()


@pytest.mark.parametrize(
    ("env_id", "indices", "message"),
    [
        ("CartPole-v1", [], r"indices must be in 0 … 3, got \[\]"),
        ("CartPole-v1", [4], r"indices must be in 0 … 3, got \[4\]"),
        ("FrozenLake-v1", [0], "needs observations that are a vector, got Discrete"),
    ],
)
def test_elements_that_do_not_exist_are_refused(env_id: str, indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObserveElements(gymnasium.make(env_id), indices=indices)


def test_the_previous_step_is_told_and_forgotten_at_a_reset() -> None:
    env = ObservePreviousStep(gymnasium.make("CartPole-v1"))
    first, _ = env.reset(seed=1)
    assert (first["previous_action"], first["previous_reward"].tolist()) == (0, [0.0])
    second, *_ = env.step(1)
    assert (second["previous_action"], second["previous_reward"].tolist()) == (1, [1.0])
    again, _ = env.reset()
    assert (again["previous_action"], again["previous_reward"].tolist()) == (0, [0.0])


@pytest.mark.parametrize("kind", ["Discrete", "Box", "MultiDiscrete", "MultiBinary", "Dict", "Tuple"])
def test_every_action_space_has_a_neutral_action(kind: str) -> None:
    env = ObservePreviousStep(gymnasium.make(f"Identity{kind}-v0"))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    observation, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)


@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped version|infinity)")  # both are intended
def test_the_wrappers_keep_to_gymnasiums_rules_and_are_found_by_their_public_name() -> None:
    wrappers: list[dict[str, Any]] = [
        {"class_path": "lightning_a3c.ObserveElements", "init_args": {"indices": [0, 2]}},
        {"class_path": "lightning_a3c.ObservePreviousStep"},
    ]
    config = EnvConfig("CartPole-v1", wrappers=wrappers)
    bare = gymnasium.make("CartPole-v1").unwrapped
    check_env(ObservePreviousStep(ObserveElements(bare, [0, 2])), skip_render_check=True)
    task = describe_task(config)
    assert task.observation_parts == [
        ["observation", [2], "float32"],
        ["previous_action", [2], "float32"],
        ["previous_reward", [1], "float32"],
    ]


def test_a_bounded_action_is_neutral_within_its_bounds() -> None:
    class Bounded(gymnasium.Env[np.ndarray, np.ndarray]):
        observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(2, 3, (1,))

        def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
            super().reset(**options)
            return np.zeros(1, np.float32), {}

    observation, _ = ObservePreviousStep(Bounded()).reset()
    assert observation["previous_action"].tolist() == [2.0]
