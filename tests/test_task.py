"""What a configuration turns out to be, and refusal of what cannot work."""

import random
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
)

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c.environments.atari import AtariConfig
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.registry import hint_at_extra
from lightning_a3c.environments.task import describe_task, env_config_of


@pytest.mark.parametrize(
    ("env_id", "sticky"), [("PongNoFrameskip-v4", 0.0), ("ALE/Pong-v5", 0.25), ("Pong-v0", 0.25), ("Pong-v4", 0.0)]
)
def test_sticky_actions_are_those_of_the_id_unless_given(env_id, sticky):
    assert describe_task(EnvConfig(id=env_id)).sticky_actions == sticky
    assert describe_task(EnvConfig(id=env_id, atari=AtariConfig(sticky_actions=0.1))).sticky_actions == 0.1


@pytest.mark.parametrize(("full", "num_actions"), [(True, 18), (False, 6)])
def test_full_action_space_has_18_actions(full, num_actions):
    config = EnvConfig(id="ALE/Pong-v5", atari=AtariConfig(full_action_space=full))
    assert describe_task(config).num_actions == num_actions


def test_task_of_pong_says_what_is_played():
    task = describe_task(EnvConfig(id="PongNoFrameskip-v4"))
    assert str(task) == (
        "env_id PongNoFrameskip-v4, observation_shape (4, 84, 84), observation_dtype uint8, num_actions 6, "
        "frame_skip 4, sticky_actions 0.0, clip_rewards True, episodic_life False, full_action_space False, "
        "noop_max 30, fire_on_reset True, observation_low 0.0, observation_high 255.0"
    )


def test_environments_other_than_atari_skip_no_frames_and_clip_no_rewards():
    task = describe_task(EnvConfig(id="CartPole-v1"))
    assert (task.frame_skip, task.sticky_actions, task.clip_rewards) == (1, 0.0, False)
    assert str(task) == (
        "env_id CartPole-v1, observation_shape (4,), observation_dtype float32, num_actions 2, clip_rewards False"
    )


@pytest.mark.parametrize(("env_id", "clip"), [("CartPole-v1", True), ("PongNoFrameskip-v4", False)])
def test_reward_clipping_can_be_chosen(env_id, clip):
    assert describe_task(EnvConfig(id=env_id, clip_rewards=clip)).clip_rewards is clip


def test_discrete_observations_become_one_hot_vectors(make):
    assert describe_task(EnvConfig(id="FrozenLake-v1")).observation_shape == (16,)
    observations, _ = make("FrozenLake-v1", num_envs=2).reset(seed=0)
    assert observations.tolist() == [[1] + [0] * 15] * 2


def test_tuple_observations_travel_packed_by_part():
    # Blackjack: 32 sums, 11 cards and a usable ace, each one-hot
    task = describe_task(EnvConfig(id="Blackjack-v1"))
    assert task.observation_parts == [["0", [32], "float32"], ["1", [11], "float32"], ["2", [2], "float32"]]
    assert task.observation_shape == (4 * (32 + 11 + 2),)


def test_keyword_arguments_reach_the_environment():
    assert describe_task(EnvConfig(id="FrozenLake-v1", kwargs={"map_name": "8x8"})).observation_shape == (64,)


def test_id_with_a_module_imports_it_first():
    assert describe_task(EnvConfig(id="tests.scripted:SeededLength-v0")).num_actions == 2


@pytest.mark.parametrize(
    ("env_id", "meant"), [("CartPol-v1", "CartPole-v1"), ("PongNoFrameskip-v5", "PongNoFrameskip-v4")]
)
def test_unknown_id_suggests_near_ones(env_id, meant):
    with pytest.raises(ValueError, match=f"env.id '{env_id}' is not a known environment; did you mean {meant}"):
        describe_task(EnvConfig(id=env_id))


def test_unknown_id_without_a_module_says_how_own_environments_are_named():
    with pytest.raises(ValueError, match="one of your own takes its module: my_module:Corridor-v0"):
        describe_task(EnvConfig(id="Corridor-v0"))


def test_unknown_id_with_a_module_suggests_ids_with_it():
    with pytest.raises(ValueError, match=r"did you mean tests\.scripted:SeededLength-v0"):
        describe_task(EnvConfig(id="tests.scripted:SededLength-v0"))


@pytest.mark.parametrize(
    ("text", "extra"), [("Box2D is not installed", "box2d"), ("MinAtar", "minatar"), ("minigrid", "minigrid")]
)
def test_a_missing_package_that_an_extra_installs_is_named(text, extra):
    assert hint_at_extra(text) == f"; pip install 'lightning-a3c[{extra}]'"


def test_unknown_id_that_resembles_none_says_where_to_look():
    with pytest.raises(ValueError, match=r"`gymnasium.pprint_registry\(\)` lists the known ones"):
        describe_task(EnvConfig(id="Zzzzzz"))


def test_id_of_a_module_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"env\.id 'no_such_module:Env-v0' is not a known environment"):
        describe_task(EnvConfig(id="no_such_module:Env-v0"))


@pytest.mark.parametrize("error", [ModuleNotFoundError, gymnasium.error.DependencyNotInstalled])
def test_an_environment_that_needs_a_missing_package_is_refused(error):
    def make():
        raise error("Box2D is not installed")

    gymnasium.register("Lander-v0", entry_point=make)
    with pytest.raises(ValueError, match=r"env\.id 'Lander-v0' cannot be made: Box2D is not installed"):
        describe_task(EnvConfig(id="Lander-v0"))
    del gymnasium.registry["Lander-v0"]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Box(0, 1, ()), "no axis"),
        (spaces.Sequence(spaces.Discrete(3)), "make them so with a wrapper"),
        (spaces.Text(5), "make them so with a wrapper"),
        (spaces.Dict(mission=spaces.Text(5)), "no arrays to learn from"),
    ],
)
def test_observations_that_are_no_arrays_with_an_axis_are_refused(space, reason):
    class Odd(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(2)

    gymnasium.register("Odd-v0", entry_point=Odd)
    with pytest.raises(ValueError, match=rf"'Odd-v0'.*the observation space .*{reason}"):
        describe_task(EnvConfig(id="Odd-v0"))
    del gymnasium.registry["Odd-v0"]


def test_an_import_that_fails_within_a_module_is_named(tmp_path, monkeypatch):
    (tmp_path / "mazes.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"mazes cannot be imported: No module named 'no_such_package'"):
        describe_task(EnvConfig(id="mazes:Maze-v0"))


def test_a_box_of_actions_is_described_by_its_bounds():
    task = describe_task(EnvConfig(id="Pendulum-v1"))
    assert (task.num_actions, task.action_shape) == (1, (1,))
    assert task.action_family == {"family": "box", "low": [-2.0], "high": [2.0]}


@pytest.mark.parametrize("num_envs", [0, -1])
def test_fewer_than_one_environment_is_refused(num_envs):
    with pytest.raises(ValueError, match=f"env.num_envs must be >= 1, got {num_envs}"):
        describe_task(EnvConfig(num_envs=num_envs))


@pytest.mark.parametrize("num_threads", [0, 9])
def test_threads_without_an_environment_are_refused(num_threads):
    with pytest.raises(ValueError, match=rf"env.num_threads must be in 1 … env.num_envs \(8\), got {num_threads}"):
        describe_task(EnvConfig("PongNoFrameskip-v4", num_envs=8, num_threads=num_threads))


def test_threads_for_another_environment_are_refused():
    with pytest.raises(ValueError, match=r"env\.num_threads 2 has no effect on CartPole-v1"):
        describe_task(EnvConfig(id="CartPole-v1", num_threads=2))


def test_atari_options_for_another_environment_are_refused():
    with pytest.raises(ValueError, match=r"env.atari {'noop_max': 3} has no effect on CartPole-v1"):
        describe_task(EnvConfig(id="CartPole-v1", atari=AtariConfig(noop_max=3)))


def test_keyword_arguments_for_atari_are_refused():
    with pytest.raises(ValueError, match=r"env.kwargs {'mode': 1} has no effect on Atari ids"):
        describe_task(EnvConfig(id="ALE/Pong-v5", kwargs={"mode": 1}))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"frame_skip": 0}, "env.atari.frame_skip must be >= 1, got 0"),
        ({"noop_max": -1}, "env.atari.noop_max must be >= 0, got -1"),
        ({"sticky_actions": 1.5}, r"env.atari.sticky_actions must be in \[0, 1\], got 1.5"),
    ],
)
def test_atari_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        describe_task(EnvConfig(id="ALE/Pong-v5", atari=AtariConfig(**option)))


@pytest.mark.parametrize(
    "config",
    [
        EnvConfig("CartPole-v1", kwargs={"sutton_barto_reward": True}),
        EnvConfig("BreakoutNoFrameskip-v4", clip_rewards=False, atari=AtariConfig(2, 0.1, 7, True, True, False)),
    ],
)
def test_what_a_checkpoint_keeps_rebuilds_the_same_environment(config):
    task = describe_task(config)
    assert describe_task(env_config_of(task.to_dict())) == task


def test_continuous_actions_of_an_atari_id_are_not_dropped(register_atari):
    atari = AtariConfig(noop_max=0, fire_on_reset=False)  # no-ops are discrete
    task = describe_task(EnvConfig(register_atari("Continuous-v0", continuous=True), atari=atari))
    assert task.action_family["family"] == "box"


def test_what_a_config_leaves_open_is_what_the_atari_id_says(register_atari):
    own = describe_task(EnvConfig(register_atari("Own-v0", frameskip=2, full_action_space=True)))
    assert (own.frame_skip, own.num_actions, own.full_action_space) == (2, 18, True)
    given = describe_task(EnvConfig("Own-v0", atari=AtariConfig(frame_skip=4, full_action_space=False)))
    assert (given.frame_skip, given.num_actions, given.full_action_space) == (4, 4, False)


def test_an_atari_id_that_says_nothing_of_sticky_actions_has_those_of_ale(register):
    assert (
        describe_task(EnvConfig(register("Bare-v0", "ale_py.env:AtariEnv", kwargs={"game": "pong"}))).sticky_actions
        == 0.25
    )


class Faulty(gymnasium.Env):
    """Wrong at its first reset or step, as `fault` says."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
    closed = 0

    def __init__(self, fault):
        self.fault = fault
        if fault == "make":
            raise RuntimeError("no\nlicence")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == "reset":
            raise TypeError("cannot add\napples")
        random.random()
        np.random.rand()  # an environment's own doing
        return np.zeros(2, np.float32) if self.fault == "bare" else (np.zeros(2, np.float32), {})

    def step(self, action):
        if self.fault == "step":
            raise ZeroDivisionError("division by zero")
        given = (
            np.full(2, np.nan, np.float32) if self.fault == "nan" else np.zeros(2, np.float32),
            0.0,
            False,
            False,
            {},
        )
        return given[:4] if self.fault == "four" else given

    def close(self):
        Faulty.closed += 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("make", "env.id 'Faulty-v0' cannot be made: RuntimeError: no licence"),
        ("reset", "env.id 'Faulty-v0': reset raised TypeError: cannot add apples"),
        ("step", "env.id 'Faulty-v0': step raised ZeroDivisionError: division by zero"),
        ("bare", "env.id 'Faulty-v0': reset must return (observation, info), got one ndarray"),
        (
            "four",
            "env.id 'Faulty-v0': step must return (observation, reward, terminated, truncated, info), got 4 values",
        ),
        ("nan", "env.id 'Faulty-v0': step returned an observation with NaN or infinite numbers"),
    ],
)
def test_an_environment_that_is_wrong_at_once_is_told_in_one_line_and_closed(register, fault, message):
    register("Faulty-v0", Faulty, disable_env_checker=True)
    closed = Faulty.closed
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        describe_task(EnvConfig("Faulty-v0", kwargs={"fault": fault}))
    assert str(caught.value) == message
    assert caught.value.__cause__ is not None
    assert Faulty.closed - closed == (fault != "make")


def test_a_module_that_fails_when_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_mazes.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="broken_mazes cannot be imported: ZeroDivisionError: division by zero"):
        describe_task(EnvConfig("broken_mazes:Maze-v0"))


class OwnStatistics(gymnasium.ObservationWrapper):
    """Scales by what it has seen, without help from Gymnasium."""

    def __init__(self, env):
        super().__init__(env)
        self.mean, self.var, self.count = np.zeros(4), np.ones(4), 0

    def observation(self, observation):
        self.count += 1
        return observation


def frozen(env):
    env = NormalizeObservation(env)
    env.update_running_mean = False
    return env


@pytest.mark.parametrize(
    ("wrap", "named"),
    [
        (NormalizeObservation, ["NormalizeObservation"]),
        (lambda env: gymnasium.wrappers.TimeLimit(NormalizeReward(NormalizeObservation(env)), 5),
         ["NormalizeReward", "NormalizeObservation", "all reported returns"]),
        (OwnStatistics, ["OwnStatistics"]),
        (frozen, []),
        (lambda env: env, []),
    ],
)  # fmt: skip
def test_running_statistics_are_warned_of_once(register, wrap, named):
    register("Scaled-v0", lambda: wrap(gymnasium.make("CartPole-v1")))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        describe_task(EnvConfig("Scaled-v0"))
    assert len(told) == bool(named)
    assert all(word in str(told[0].message) for word in [*named, "env.id 'Scaled-v0'", "TransformObservation"] if named)


def test_a_checkpoint_says_which_argument_it_could_not_keep(register):
    register("Faulty-v0", Faulty)
    kwargs = {"fault": [len, {"a": 1, 2: (3, None)}]}
    plain = describe_task(EnvConfig("Faulty-v0", kwargs=kwargs)).to_dict()
    assert plain["kwargs"] == {"fault": ["not kept: <built-in function len>", {"a": 1, 2: (3, None)}]}
    with pytest.raises(ValueError, match=r"lacks an argument of env\.kwargs .* <built-in function len>"):
        env_config_of(plain)


class Shows(gymnasium.Env):
    """Anything in its observation space. It is still being written, and cannot step."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space):
        self.observation_space = observation_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}


@pytest.mark.parametrize(
    ("space", "bounds"),
    [
        (spaces.Box(0, 255, (16,), np.uint8), (0, 255)),
        (spaces.Box(np.zeros(2, np.uint8), np.array([9, 200], np.uint8), dtype=np.uint8), (0, 200)),
        (spaces.Box(-1, 1, (3, 40, 40), np.float32), (-1, 1)),
        (spaces.Box(0, 1, (4,), np.float16), (0, 1)),
        (spaces.Box(-2, 3, (4,), np.float64), (-2, 3)),
        (spaces.Box(0, 65_535, (4,), np.int32), (0, 65_535)),
        (spaces.Box(0, 65_536, (4,), np.int32), (None, None)),
        (spaces.Box(-np.inf, np.inf, (4,), np.float32), (None, None)),
        (spaces.Box(0, np.inf, (4,), np.float32), (None, None)),
        (spaces.Box(-1, np.finfo(np.float32).max, (4,), np.float32), (None, None)),
        (spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32)), (None, None)),
        (spaces.Discrete(5), (0, 1)),
        (spaces.MultiDiscrete([3, 4]), (0, 1)),
        (spaces.Dict(a=spaces.Discrete(5), b=spaces.Box(0, 1, (2,), np.float32)), (None, None)),
    ],
)
def test_the_task_has_the_bounds_that_all_elements_of_an_observation_share(space, bounds):
    gymnasium.register("Shows-v0", entry_point=Shows, kwargs={"observation_space": space})
    try:
        task = describe_task(EnvConfig("Shows-v0"))
    finally:
        del gymnasium.registry["Shows-v0"]
    assert (task.observation_low, task.observation_high) == bounds
