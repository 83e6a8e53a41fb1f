"""Vector environments that ids register themselves: the same game as the single environment, and plain errors."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import registry
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lightning_a3c import A3CModule, EnvConfig, GradientParallel
from lightning_a3c.collection.rollout import Rollout
from lightning_a3c.environments.checks import BadEnvironment
from lightning_a3c.environments.making import make_training_env
from lightning_a3c.environments.task import describe_task
from tests.command_line import lightning_a3c
from tests.scripted import NumberPolicy
from tests.small_runs import data, trainer

BOX = spaces.Box(-1.0, 1.0, (2,))


class Sums(gymnasium.Env):
    """Observes its last action; the reward is the sum of it."""

    observation_space = action_space = BOX

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        return action, float(action.sum()), False, False, {}


class VectorSums(VectorEnv):
    def __init__(
        self,
        num_envs: int,
        mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        reward: float = 0.0,
        space: spaces.Space = BOX,
        max_episode_steps: int = 10,
        width: int = 2,
    ) -> None:
        self.num_envs, self.reward, self.width = num_envs, reward, width
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = space, BOX
        self.observation_space, self.action_space = batch_space(space, num_envs), batch_space(BOX, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros((self.num_envs, self.width), np.float32), {}

    def step(self, actions: np.ndarray) -> Any:
        ended = np.zeros(self.num_envs, dtype=bool)
        return actions, actions.sum(axis=1) + self.reward, ended, ended, {}


@pytest.fixture(autouse=True)
def sums() -> Any:
    gymnasium.register("Sums-v0", Sums, vector_entry_point=VectorSums)
    yield
    del registry["Sums-v0"]


def test_cartpole_in_numpy_plays_as_the_single_environment() -> None:
    env = make_training_env(EnvConfig("CartPole-v1", num_envs=3, backend="vector"))
    single = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    own, rng = env.unwrapped, np.random.default_rng(0)
    assert isinstance(own, CartPoleVectorEnv)
    compared = 0
    for _ in range(300):
        actions, before, resets = rng.integers(2, size=3), own.state.copy(), own.prev_done.copy()
        observations, rewards, terminated, _, _ = env.step(actions)
        for index in np.flatnonzero(~resets):
            single.reset()
            single.state = before[:, index]
            theirs = single.step(int(actions[index]))
            np.testing.assert_allclose(observations[index], theirs[0], rtol=1e-6, atol=1e-7)
            assert (rewards[index], terminated[index]) == theirs[1:3]
            compared += 1
    assert compared > 800


def test_steps_that_only_reset_are_no_transitions() -> None:
    env = make_training_env(EnvConfig("CartPole-v1", num_envs=4, backend="vector"))
    rollout = Rollout(env, NumberPolicy(), n_steps=3, discount=1.0, seed=0)
    transitions, stats = rollout.collect(400, policy_version=1)
    lengths = stats.episode_lengths[stats.episode_lengths > 0]
    assert (stats.episode_returns[stats.episode_lengths > 0] == lengths).all()  # a reward of 1 a step
    assert transitions.returns.min() >= 1  # a reset would have the reward 0


def test_actions_of_box_spaces_arrive_in_their_shape() -> None:
    env = make_training_env(EnvConfig("Sums-v0", num_envs=3, backend="vector"))
    env.reset()
    observations, rewards, *_ = env.step(np.full((3, 2), 0.5, np.float32))
    assert observations.tolist() == [[0.5, 0.5]] * 3
    assert rewards.tolist() == [1.0] * 3


def test_numbers_that_are_not_finite_are_refused() -> None:
    env = make_training_env(EnvConfig("Sums-v0", num_envs=1, backend="vector", kwargs={"reward": np.inf}))
    env.reset()
    with pytest.raises(BadEnvironment, match="Sums-v0: step returned a reward that is NaN or infinite"):
        env.step(np.zeros((1, 2), np.float32))
    env = make_training_env(EnvConfig("Sums-v0", num_envs=1, backend="vector"))
    with pytest.raises(BadEnvironment, match="step returned an observation that is NaN or infinite"):
        env.step(np.full((1, 2), np.nan, np.float32))


def register_both(**vector_kwargs: Any) -> None:
    """`Sums-v0` whose vector environment alone takes these arguments."""
    gymnasium.register("Sums-v0", Sums, vector_entry_point=lambda num_envs, **_: VectorSums(num_envs, **vector_kwargs))


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
@pytest.mark.parametrize(
    ("vector_kwargs", "message"),
    [
        ({"mode": AutoresetMode.DISABLED}, "must reset in the same or the next step, its autoreset_mode is"),
        ({"space": spaces.Box(0.0, 1.0, (2,))}, "cannot be trained in one and tested in the other; set env.backend"),
        ({"width": 3}, r"reset of its vector environment of 2 returned observations \(2, 3\) instead of \(2, 2\)"),
        ({"reward": np.inf}, "its vector environment: Sums-v0: step returned a reward that is NaN or infinite"),
        ({"speed": 1}, "env.backend 'vector' cannot make Sums-v0 with env.kwargs {}: TypeError: .*speed"),
    ],
)
def test_a_vector_environment_that_does_not_fit_the_single_one_is_refused(vector_kwargs, message) -> None:
    register_both(**vector_kwargs)
    with pytest.raises(ValueError, match=message):
        describe_task(EnvConfig("Sums-v0", backend="vector"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"id": "Pendulum-v1"},
            "needs an id that registers a vector environment, Pendulum-v1 does not; set env.backend",
        ),
        (
            {"wrappers": [{"class_path": "gymnasium.wrappers.TimeAwareObservation"}]},
            r"env.wrappers .* needs single environments, not the backend 'vector'; set env.backend to",
        ),
        ({"num_threads": 2}, "env.num_threads 2 has no effect on CartPole-v1"),
    ],
)
def test_what_a_vector_environment_cannot_play_is_refused(fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        describe_task(EnvConfig(**{"backend": "vector"} | fields))


def test_synchronous_collection_with_a_vector_environment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"which env\.backend 'vector' cannot give; set env\.backend to 'auto'"):
        data(env=EnvConfig(num_envs=4, backend="vector"), synchronous=True)


@pytest.mark.parametrize("callbacks", [[], [GradientParallel()]], ids=["data mode", "gradient mode"])
def test_a_run_trains_with_a_vector_environment_of_its_own(tmp_path, callbacks) -> None:
    module = data(env=EnvConfig("Sums-v0", num_envs=4, backend="vector"), num_workers=0)
    learner = A3CModule.for_data(module)
    trainer(tmp_path, *callbacks, max_steps=20).fit(learner, datamodule=module)
    assert learner.progress.env_steps >= 20 * 32


def test_the_command_line_says_what_it_trains_with(tmp_path: Path) -> None:
    short = ["--data.num_workers=1", "--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    done = lightning_a3c("fit", *short, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Training steps CartPole-v1 with the vector environment that its id registers." in done.stderr + done.stdout
