"""EnvPool as a backend: the same environments as Gymnasium's and ALE's, and plain errors where they are not."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from lightning_a3c import A3CModule, AtariConfig, EnvConfig, GradientParallel
from lightning_a3c.collection.rollout import Rollout
from lightning_a3c.environments import envpool_only
from lightning_a3c.environments import envpool_tasks as backend
from lightning_a3c.environments.checks import BadEnvironment
from lightning_a3c.environments.making import make_env, make_training_env, make_vector_env, training_backend
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.environments.task import describe_task
from lightning_a3c.sharing.export import export_policy, find_source
from tests.command_line import lightning_a3c
from tests.scripted import NumberPolicy
from tests.small_runs import data, dataset, trainer
from tests.test_pool import gone, pool_of

pytest.importorskip("envpool")

ANGLES = {"Pendulum-v1": 1, "Acrobot-v1": 2}  # observations begin with the cosine and sine of so many
SAME = ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]


@pytest.fixture
def pool() -> Iterator[Callable[..., VectorEnv]]:
    """Builds environments of EnvPool as collectors do, and closes them after the test."""
    made: list[VectorEnv] = []

    def build(env_id: str, num_envs: int = 1, **fields: object) -> VectorEnv:
        made.append(make_training_env(EnvConfig(env_id, num_envs, backend="envpool", **fields)))
        return made[-1]

    yield build
    for env in made:
        env.close()


def set_state(env: gymnasium.Env, observation: np.ndarray) -> None:
    """Bring one of Gymnasium's classic environments into the state that `observation` shows."""
    numbers, split = observation.astype(np.float64), 2 * ANGLES.get(env.spec.id, 0)
    angles = np.arctan2(numbers[1:split:2], numbers[0:split:2])
    env.unwrapped.state = np.concatenate([angles, numbers[split:]])


def play(env: VectorEnv, actions: np.ndarray) -> list[tuple]:
    """What each step gives; `actions` are [T, E, ...]."""
    return [env.step(action) for action in actions]


def random_actions(env: VectorEnv, steps: int) -> np.ndarray:
    env.single_action_space.seed(0)
    return np.stack([[env.single_action_space.sample() for _ in range(env.num_envs)] for _ in range(steps)])


@pytest.mark.parametrize("env_id", SAME)
def test_every_step_equals_gymnasiums_from_the_same_state(pool, env_id):
    env, single = pool(env_id), gymnasium.make(env_id)
    observations, _ = env.reset(seed=1)
    single.reset(seed=1)
    for action in random_actions(env, 300):
        single.reset()
        set_state(single, observations[0])
        expected, reward, terminated, _, _ = single.unwrapped.step(action[0])
        observations, rewards, terminations, _, info = env.step(action)
        np.testing.assert_allclose(info.get("final_obs", observations)[0], expected, atol=1e-6)
        np.testing.assert_allclose(rewards, reward, atol=1e-5)
        assert terminations[0] == terminated


@pytest.mark.parametrize("env_id", SAME)
def test_episodes_begin_as_gymnasiums_do(pool, env_id):
    begun = pool(env_id, num_envs=2000).reset(seed=0)[0]
    single = gymnasium.make(env_id)
    expected = np.stack([single.reset(seed=seed)[0] for seed in range(2000)])
    spread = expected.std(0)
    assert np.all(np.abs(begun.mean(0) - expected.mean(0)) <= 0.15 * spread)  # 4.7 standard errors
    np.testing.assert_allclose(begun.std(0), spread, rtol=0.1)
    assert np.all(begun.min(0) >= expected.min(0) - 0.05 * spread)
    assert np.all(begun.max(0) <= expected.max(0) + 0.05 * spread)


def test_it_resets_in_the_same_step_and_keeps_the_final_observation(pool):
    env, longer = pool("Pendulum-v1", num_envs=2, kwargs={"max_episode_steps": 3}), pool("Pendulum-v1", num_envs=2)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    first = env.reset(seed=5)[0]
    np.testing.assert_array_equal(longer.reset(seed=5)[0], first)
    actions = random_actions(env, 3)
    *_, (observations, _, terminated, truncated, info) = play(env, actions)
    *_, (going_on, *_) = play(longer, actions)
    assert truncated.tolist() == [True, True]
    assert terminated.tolist() == [False, False]
    np.testing.assert_array_equal(info["final_obs"], going_on)
    assert np.all(np.abs(observations[:, 2]) <= 1)  # the first speeds of an episode
    assert not np.any(observations == going_on)


def test_only_environments_that_ended_begin_anew(pool):
    env = pool("CartPole-v1", num_envs=4)
    env.reset(seed=0)
    for _ in range(200):
        observations, _, terminated, _, info = env.step(np.array([0, 1, 0, 1]))
        if terminated.any():
            same = (info["final_obs"] == observations).all(axis=1)
            assert same.tolist() == (~terminated).tolist()
            assert np.all(np.abs(observations[terminated]) <= 0.05)


def test_pendulum_truncates_after_200_steps_and_never_terminates(pool):
    env = pool("Pendulum-v1", num_envs=3)
    env.reset(seed=0)
    flags = [(step[2].any(), step[3].all()) for step in play(env, random_actions(env, 400))]
    assert [t for t, (_, truncated) in enumerate(flags, 1) if truncated] == [200, 400]
    assert not any(terminated for terminated, _ in flags)


def test_an_episode_that_terminates_in_its_last_step_is_not_only_truncated(pool):
    env = pool("CartPole-v1")
    env.reset(seed=0)
    fall = next(t for t in range(1, 100) if env.step(np.array([1]))[2][0])
    limited = pool("CartPole-v1", kwargs={"max_episode_steps": fall})
    limited.reset(seed=0)
    *_, (_, _, terminated, truncated, _) = play(limited, np.ones((fall, 1), dtype=int))
    assert (terminated[0], truncated[0]) == (True, True)


def test_a_time_limit_that_a_script_has_changed_or_lifted_is_played(pool, monkeypatch):
    monkeypatch.setattr(gymnasium.registry["MountainCar-v0"], "max_episode_steps", 3)
    env = pool("MountainCar-v0")
    env.reset(seed=0)
    assert [step[3].item() for step in play(env, np.zeros((3, 1), dtype=int))] == [False, False, True]
    monkeypatch.setattr(gymnasium.registry["MountainCar-v0"], "max_episode_steps", None)
    env = pool("MountainCar-v0")
    env.reset(seed=0)
    assert not any(step[3].item() for step in play(env, np.zeros((300, 1), dtype=int)))


def test_a_seed_gives_the_same_episodes_and_each_environment_its_own(pool):
    env = pool("CartPole-v1", num_envs=3)
    actions = random_actions(env, 60)

    def played(seed: int | None) -> np.ndarray:
        return np.stack([env.reset(seed=seed)[0], *(step[0] for step in play(env, actions))])

    once, again, other, random = played(7), played(7), played(8), pool("CartPole-v1", num_envs=3).reset()[0]
    np.testing.assert_array_equal(once, again)
    assert len(np.unique(once[0], axis=0)) == 3
    np.testing.assert_array_equal(once[0][1:], other[0][:-1])  # sub-environment i is seeded with seed + i
    assert not np.isin(random, once).any()


@pytest.mark.parametrize(("env_id", "reward"), [("CartPole-v1", 1), ("MountainCar-v0", -1)])
def test_a_rollout_counts_exactly_the_steps_of_each_episode(pool, env_id, reward):
    rollout = Rollout(pool(env_id, num_envs=4), NumberPolicy(), n_steps=3, discount=0.99, seed=1)
    _, stats = rollout.collect(2000, policy_version=1)
    lengths = stats.episode_lengths[stats.episode_lengths > 0]
    assert len(lengths) >= 8
    assert (stats.episode_returns[: len(lengths)] == reward * lengths).all()
    assert rollout.env_steps - 4 * 200 <= lengths.sum() <= rollout.env_steps
    assert lengths.max() <= 200


@pytest.mark.parametrize(
    ("env_id", "fire", "noops"),
    [("PongNoFrameskip-v4", False, 1), ("BreakoutNoFrameskip-v4", True, 0), ("SpaceInvadersNoFrameskip-v4", False, 1)],
)
def test_games_show_and_pay_what_ales_do_for_the_same_actions(pool, env_id, fire, noops):
    env = pool(env_id, atari=AtariConfig(noop_max=1, fire_on_reset=fire))
    game = gymnasium.make(env_id, frameskip=1, max_episode_steps=-1)
    stacked = FrameStackObservation(AtariPreprocessing(game, noop_max=0, frame_skip=4), 4, padding_type="zero")
    observations, _ = env.reset(seed=0)
    stacked.reset(seed=0)
    for action in [0] * noops + [1] * fire:
        game.unwrapped.step(action)
    assert not observations[0, :3].any()
    assert observations[0, 3].any()
    for t, action in enumerate(random_actions(env, 150)):
        expected, reward, terminated, _, _ = stacked.step(action[0])
        observations, rewards, terminations, truncations, info = env.step(action)
        seen = info["final_obs"][0] if "final_obs" in info else observations[0]
        begun = min(t + 1, 4)  # the frame before these is the reset's, where Gymnasium's missed the actions above
        np.testing.assert_array_equal(seen[-begun:], expected[-begun:])
        assert (rewards[0], terminations[0], truncations[0]) == (reward, terminated, False)
        assert not seen[: max(0, 2 - t)].any()  # black before the episode
        if terminated:
            break


def test_a_lost_life_ends_no_game(pool):
    env = pool("BreakoutNoFrameskip-v4", num_envs=2, atari=AtariConfig(episodic_life=True))
    env.reset(seed=0)
    losses, games = np.zeros(2), np.zeros(2)
    for action in random_actions(env, 600):
        *_, terminated, _, info = env.step(action)
        losses += info["lightning_a3c.life_lost"]
        games += terminated
        if games.all():
            break
    assert (losses >= 4 * games).all()
    assert games.all()


def test_numbers_that_are_not_finite_are_an_error_that_names_the_environment(pool):
    env = pool("Pendulum-v1", num_envs=2)
    env.reset(seed=0)
    with pytest.raises(BadEnvironment, match=r"Pendulum-v1: step returned a reward that is NaN or infinite"):
        env.step(np.full((2, 1), np.nan, dtype=np.float32))


def test_options_of_a_reset_are_refused(pool):
    with pytest.raises(ValueError, match="EnvPool takes no options on reset"):
        pool("CartPole-v1").reset(options={"low": 0.0})


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1"])
def test_a_discrete_observation_is_one_hot(pool, env_id):
    config = EnvConfig(env_id, backend="envpool")
    observations, _ = pool(env_id, num_envs=2).reset(seed=0)
    assert observations.shape == (2, *describe_task(config).observation_shape)
    assert observations.sum(1).tolist() == [1, 1]


MINIGRIDS = [f"minigrid:MiniGrid-{name}-v0" for name in ("Empty-5x5", "DoorKey-5x5", "MemoryS7", "SimpleCrossingS9N1")]


@pytest.mark.parametrize("limit", [None, 30])
def test_minigrid_shows_and_pays_what_it_does_itself_for_the_same_actions(pool, limit):
    kwargs = {} if limit is None else {"max_episode_steps": limit}
    config = EnvConfig("minigrid:MiniGrid-Empty-5x5-v0", kwargs=kwargs)  # its episodes begin alike
    actions = np.random.default_rng(0).choice(7, size=(2000, 1), p=[0.15, 0.2, 0.45, 0.05, 0.05, 0.05, 0.05])
    with closing(make_vector_env(config, num_envs=1)) as own:
        theirs = pool(config.id, kwargs=kwargs)
        assert np.array_equal(own.reset(seed=0)[0], theirs.reset(seed=0)[0])
        ended = 0
        for action in actions:
            expected, shown = own.step(action), theirs.step(action)
            assert np.array_equal(expected[0], shown[0])
            assert np.allclose(expected[1], shown[1])
            assert [flag.tolist() for flag in expected[2:4]] == [flag.tolist() for flag in shown[2:4]]
            ended += int((shown[2] | shown[3]).sum())
    assert ended >= 20


@pytest.fixture(params=["CoinrunEasy-v0", "D1Basic-v1"])
def only_envpools(request, tmp_path, monkeypatch) -> str:
    """An id of Procgen or ViZDoom, which Gymnasium lacks; ViZDoom writes into the current folder."""
    monkeypatch.chdir(tmp_path)
    try:
        describe_task(EnvConfig(request.param))
    except ValueError as error:
        if "Qt 5" in str(error):
            pytest.skip("Procgen needs Qt 5: apt install libqt5gui5")
        raise
    return request.param


@pytest.mark.parametrize("kwargs", [{}, {"max_episode_steps": 50}])
def test_what_gymnasium_lacks_is_validated_as_it_was_trained(pool, only_envpools, kwargs):
    trained = pool(only_envpools, num_envs=3, kwargs=kwargs)
    with closing(make_vector_env(EnvConfig(only_envpools, kwargs=kwargs), num_envs=3)) as watched:
        assert np.array_equal(trained.reset(seed=4)[0], watched.reset(seed=4)[0])
        ended = np.zeros(2, dtype=int)
        for actions in random_actions(trained, 1001):
            expected, shown = watched.step(actions), trained.step(actions)
            for theirs, ours in zip(expected[:4], shown[:4], strict=True):
                assert np.array_equal(theirs, ours)
            ended += shown[2].sum(), shown[3].sum()
    assert ended.sum() >= 3
    assert ended[1] >= 3 or not kwargs


@pytest.mark.parametrize("only_envpools", ["CoinrunEasy-v0"], indirect=True)
def test_procgens_own_limit_truncates(pool, only_envpools):
    env = pool(only_envpools)
    env.reset(seed=1)
    steps = play(env, np.full((1000, 1), 4))  # stands still
    assert [t for t, (_, _, terminated, truncated, _) in enumerate(steps, 1) if terminated or truncated] == [1000]
    assert steps[-1][3]


def test_what_gymnasium_lacks_is_trained_in_envpool_unless_the_run_is_synchronous(only_envpools):
    config = EnvConfig(only_envpools)
    assert [training_backend(config, synchronous) for synchronous in (False, True)] == ["envpool", "gymnasium"]
    keys = EnvConfig(only_envpools, wrappers=[{"class_path": "gymnasium.wrappers.GrayscaleObservation"}])
    assert training_backend(keys, synchronous=False) == "gymnasium"


@pytest.mark.parametrize("backend_name", ["envpool", "gymnasium"])
def test_what_gymnasium_lacks_trains_and_is_filmed(only_envpools, backend_name, tmp_path):
    module = data(env=EnvConfig(only_envpools, num_envs=4, backend=backend_name))
    learner = A3CModule.for_data(module)
    trainer(tmp_path, max_steps=3).fit(learner, datamodule=module)
    assert learner.progress.env_steps >= 3 * 32
    with closing(make_env(EnvConfig(only_envpools), render_mode="rgb_array")) as env:
        env.reset(seed=0)
        frame = env.render()
    assert (frame.ndim, frame.shape[2], frame.dtype) == (3, 3, np.uint8)


@pytest.mark.parametrize("only_envpools", ["D1Basic-v1"], indirect=True)
def test_arguments_of_what_gymnasium_lacks_are_envpools(pool, only_envpools):
    assert pool("D1Basic-v1", kwargs={"img_width": 40}).reset(seed=0)[0].shape == (1, 4, 84, 40)
    limited = pool("D1Basic-v1", kwargs={"max_episode_steps": 7})
    limited.reset(seed=0)
    assert [bool(step[3]) for step in play(limited, np.zeros((7, 1), dtype=int))] == [False] * 6 + [True]
    unlimited = pool("D1Basic-v1", kwargs={"max_episode_steps": -1})
    unlimited.reset(seed=0)
    assert not any(step[2] | step[3] for step in play(unlimited, np.zeros((50, 1), dtype=int)))


@pytest.mark.parametrize("backend_name", ["auto", "envpool", "gymnasium"])
@pytest.mark.parametrize("key", ["size", "num_envs", "task_id", "use_combined_action"])
@pytest.mark.parametrize("only_envpools", ["D1Basic-v1"], indirect=True)
def test_an_argument_that_envpool_does_not_take_is_refused_whichever_backend_plays(only_envpools, key, backend_name):
    message = f"'{key}', which EnvPool's D1Basic-v1 does not take; it takes max_episode_steps, .*, frame_skip"
    with pytest.raises(ValueError, match=message):
        describe_task(EnvConfig("D1Basic-v1", backend=backend_name, kwargs={key: 1}))


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("D1Basik-v1", "did you mean D1Basic-v1"),
        ("Chess-v1", "of EnvPool's own tasks only Procgen's and ViZDoom's can be used"),
        ("Pong-v5", "did you mean Pong-v4 or Pong-v0 or ALE/Pong-v5"),
    ],
)
def test_an_unknown_id_is_looked_for_among_envpools(env_id, message):
    with pytest.raises(ValueError, match=message):
        spec_of(env_id)


def test_an_envpool_that_cannot_be_imported_does_not_hide_that_an_id_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    backend.ids.cache_clear()
    with pytest.raises(ValueError, match=r"'CartPol-v1' is not a known environment; did you mean CartPole-v1"):
        spec_of("CartPol-v1")


def test_without_envpool_an_unknown_id_says_what_it_may_lack(monkeypatch):
    monkeypatch.setattr(envpool_only, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"Procgen and ViZDoom tasks need pip install 'lightning-a3c\[envpool\]'"):
        spec_of("TakeCover-v1")


@pytest.mark.parametrize("only_envpools", ["D1Basic-v1"], indirect=True)
def test_a_card_says_that_the_environment_needs_envpool(only_envpools, tmp_path):
    module = data(env=EnvConfig(only_envpools, num_envs=4))
    fitting = trainer(tmp_path, max_steps=1)
    fitting.fit(A3CModule.for_data(module), datamodule=module)
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    export_policy(find_source(tmp_path / "last.ckpt"), tmp_path / "policy")
    assert "pip install 'lightning-a3c[envpool]'" in (tmp_path / "policy" / "README.md").read_text()


@pytest.mark.parametrize("only_envpools", ["D1Basic-v1"], indirect=True)
def test_a_custom_scenario_of_vizdoom_says_what_it_lacks(only_envpools):
    with pytest.raises(ValueError, match=r"env.id 'VizdoomCustom-v1': EnvPool's VizdoomCustom-v1 cannot be made with"):
        describe_task(EnvConfig("VizdoomCustom-v1"))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "PongNoFrameskip-v4", "FrozenLake-v1", *MINIGRIDS])
def test_the_task_is_the_same_whichever_backend_plays_it(env_id):
    assert describe_task(EnvConfig(env_id, backend="envpool")) == describe_task(EnvConfig(env_id))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "Taxi-v4"}, "env.id 'Taxi-v4' is not among EnvPool's environments; set env.backend to 'auto'"),
        ({"id": "LunarLander-v2x"}, "did you mean LunarLander-v3"),
        ({"id": "Blackjack-v1"}, "is registered with {'sab': True, 'natural': False}, EnvPool lacks that"),
        ({"kwargs": {"sutton_barto_reward": True}}, "'sutton_barto_reward', which EnvPool's CartPole-v1 does not take"),
        ({"action_mask": "info"}, "env.action_mask info needs environments in Python"),
        ({"observation_keys": ["a"]}, r"env.observation_keys \['a'\] needs environments in Python"),
        ({"wrappers": [{"class_path": "gymnasium.wrappers.TimeAwareObservation"}]}, r"env.wrappers \[.* needs envir"),
        (
            {"id": "minigrid:MiniGrid-Fetch-5x5-N2-v0"},
            r"is registered with {'size': 5, 'numObjs': 2}, EnvPool lacks that",
        ),
        ({"id": MINIGRIDS[1], "kwargs": {"size": 6}}, "'size', which EnvPool's MiniGrid-DoorKey-5x5-v0 does not take"),
        ({"num_envs": 0}, "env.num_envs must be >= 1, got 0"),
        ({"num_envs": 2, "num_threads": 3}, r"env.num_threads must be in 1 … env.num_envs \(2\), got 3"),
        ({"id": "PongNoFrameskip-v4", "atari": AtariConfig(noop_max=0)}, "noop_max must be >= 1 with EnvPool, got 0"),
    ],
)
def test_what_envpool_cannot_play_is_refused_in_one_line(fields, message):
    with pytest.raises(ValueError, match=message) as refused:
        describe_task(EnvConfig(**({"backend": "envpool"} | fields)))
    assert "\n" not in str(refused.value)


def test_an_id_that_a_program_registered_is_not_played_as_gymnasiums(monkeypatch):
    monkeypatch.setattr(gymnasium.registry["CartPole-v1"], "entry_point", "tests.scripted:ChaoticCartPole")
    with pytest.raises(ValueError, match=r"is registered as tests.scripted:ChaoticCartPole .* but EnvPool has the ori"):
        describe_task(EnvConfig("CartPole-v1", backend="envpool"))
    assert training_backend(EnvConfig("CartPole-v1"), synchronous=False) == "gymnasium"


def test_without_envpool_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(backend, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"needs EnvPool: pip install 'lightning-a3c\[envpool\]'"):
        describe_task(EnvConfig(backend="envpool"))


def test_another_release_of_envpool_is_left_alone(monkeypatch):
    monkeypatch.setattr(backend, "installed_version", lambda: "0.8.4")
    assert training_backend(EnvConfig("Pendulum-v1"), synchronous=False) == "gymnasium"


def test_an_envpool_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ValueError, match=r"EnvPool 1.* is installed but cannot be imported .*set env.backend to 'gym"):
        make_training_env(EnvConfig("CartPole-v1", num_envs=1, backend="envpool"))


def test_synchronous_collection_with_envpool_is_refused():
    with pytest.raises(ValueError, match=r"with data.synchronous every episode gets a seed of its own"):
        data(env=EnvConfig(num_envs=4, backend="envpool"), synchronous=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "ray"}, "env.backend must be one of auto, gymnasium, ale, vector, envpool, got 'ray'"),
        ({"backend": "ale"}, "env.backend 'ale' cannot play CartPole-v1, which is not an Atari game"),
    ],
)
def test_a_backend_that_does_not_exist_or_cannot_play_the_id_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        describe_task(EnvConfig(**fields))


@pytest.mark.parametrize(
    ("fields", "synchronous", "expected"),
    [
        ({}, False, "vector"),
        ({}, True, "gymnasium"),
        ({"kwargs": {"sutton_barto_reward": True}}, False, "vector"),
        ({"id": "Pendulum-v1"}, False, "envpool"),
        ({"id": "Pendulum-v1"}, True, "gymnasium"),
        ({"id": "Pendulum-v1", "kwargs": {"max_episode_steps": 100}}, False, "envpool"),
        ({"id": "Pendulum-v1", "kwargs": {"g": 9.81}}, False, "gymnasium"),
        ({"wrappers": [{"class_path": "gymnasium.wrappers.TimeAwareObservation"}]}, False, "gymnasium"),
        ({"backend": "gymnasium"}, False, "gymnasium"),
        ({"id": "LunarLander-v3"}, False, "gymnasium"),
        ({"id": "HalfCheetah-v5"}, False, "gymnasium"),
        ({"id": "PongNoFrameskip-v4"}, False, "ale"),
        ({"id": "PongNoFrameskip-v4", "backend": "envpool"}, False, "envpool"),
    ],
)
def test_auto_takes_the_fastest_that_plays_the_same_where_reproducibility_is_not_promised(
    fields, synchronous, expected
):
    assert training_backend(EnvConfig(**fields), synchronous) == expected


def test_auto_takes_gymnasium_where_envpool_is_not_installed(monkeypatch):
    monkeypatch.setattr(backend, "is_installed", lambda: False)
    assert training_backend(EnvConfig("Pendulum-v1"), synchronous=False) == "gymnasium"


@pytest.mark.parametrize("callbacks", [[], [GradientParallel()]], ids=["data mode", "gradient mode"])
def test_a_run_trains_with_envpool(tmp_path, callbacks):
    module = data(env=EnvConfig("CartPole-v1", num_envs=4, backend="envpool"))
    learner = A3CModule.for_data(module)
    trainer(tmp_path, *callbacks, max_steps=20).fit(learner, datamodule=module)
    assert learner.progress.env_steps >= 20 * 32
    assert learner.progress.episodes > 0


def test_a_run_of_minigrid_trains_with_envpool(tmp_path):
    module = data(env=EnvConfig(MINIGRIDS[1], num_envs=4, backend="envpool"))
    learner = A3CModule.for_data(module)
    trainer(tmp_path, max_steps=5).fit(learner, datamodule=module)
    assert learner.progress.env_steps >= 5 * 32


def test_the_command_line_says_that_it_trains_with_envpool(tmp_path: Path) -> None:
    short = ["--data.num_workers=0", "--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    done = lightning_a3c("fit", "--data.env.backend=envpool", *short, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Training steps CartPole-v1 with EnvPool 1." in done.stderr + done.stdout
    wrong = lightning_a3c("fit", "--data.env.backend=envpool", "--data.env.id=Taxi-v4", *short, folder=tmp_path)
    assert wrong.returncode != 0
    assert "Traceback" not in wrong.stderr
    assert "is not among EnvPool's environments" in wrong.stderr


def test_a_killed_worker_is_replaced_and_leaves_nothing_behind() -> None:
    env = EnvConfig("CartPole-v1", num_envs=4, backend="envpool")
    with closing(dataset(env=env, updates_per_epoch=100_000)) as stream:
        batches = iter(stream)
        next(batches)
        pids = [*pool_of(stream).pids]
        os.kill(pids[0], signal.SIGKILL)
        replaced = next(batch for batch in batches if batch.worker_restarts == 1)
        assert len(replaced.payload.returns) == 32
        pids += pool_of(stream).pids
    assert all(gone(pid) for pid in pids)
