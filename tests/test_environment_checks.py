"""Environments that misbehave are named with id, sub-environment and worker."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import tests.scripted
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, Supervision
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.environments.checks import BadEnvironment, CallTracker
from lightning_a3c.environments.making import make_vector_env
from lightning_a3c.environments.spaces import ObservationLayout

TRACKER = CallTracker()
SEEN: list[str] = []


class Observed(tests.scripted.SeededLengthEnv):
    """Notes where an observer of its process would see it at each call."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        SEEN.append(TRACKER.describe("Observed-v0"))
        return super().reset(**kwargs)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        SEEN.append(TRACKER.describe("Observed-v0"))
        return super().step(action)


class Gives(gymnasium.Env[Any, Any]):
    """Its t-th step gives the t-th of `steps`, changes to (observation, reward, terminated, truncated, info)."""

    action_space = spaces.Discrete(2)

    def __init__(self, steps: list[dict[str, Any]], space: Any = None, first: Any = None) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32) if space is None else space
        self.steps = steps
        self.first = np.zeros(2, np.float32) if first is None else first
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        return self.first, {"final_obs": 0, "lives": None}

    def step(self, action: int) -> Any:
        given = {"observation": self.first, "reward": 0.0, "terminated": False, "truncated": False, "info": {}}
        changed = self.steps[self.t % len(self.steps)]
        self.t += 1
        return tuple((given | changed).values())


class Recycles(gymnasium.Env[Any, Any]):
    """Writes every observation into one array: the number of the step."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, pays: list[float]) -> None:
        self.array, self.pays = np.zeros(1, np.float32), pays

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.array[:] = 0
        return self.array, {}

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.array += 1
        self.pays[0] += 1
        return self.array, self.pays[0], False, False, {}


gymnasium.register("Gives-v0", entry_point="tests.test_environment_checks:Gives", disable_env_checker=True)
gymnasium.register(
    "Recycles-v0",
    entry_point="tests.test_environment_checks:Recycles",
    max_episode_steps=3,
    disable_env_checker=True,  # it would complain
)
gymnasium.register("Observed-v0", entry_point="tests.test_environment_checks:Observed", disable_env_checker=True)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("reward", "step returned the reward nan"),
        ("shape", r"step returned an observation float32 \(2,\), its space is float32 \(1,\)"),
        ("dtype", r"step returned an observation int64 \(1,\), its space is float32 \(1,\)"),
        ("nan", "step returned an observation with NaN or infinite numbers"),
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
    env = make_vector_env(EnvConfig("Observed-v0", num_envs=2), call_tracker=TRACKER)
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    assert [
        f"in {call} of Observed-v0, sub-environment {index}" for call in ("reset", "step") for index in (0, 1)
    ] == SEEN
    assert TRACKER.describe("Observed-v0") == "outside Observed-v0"
    env.close()


def test_atari_is_named_as_a_whole() -> None:
    call_tracker = CallTracker()
    env = make_vector_env(EnvConfig("PongNoFrameskip-v4", num_envs=2), call_tracker=call_tracker)
    env.reset(seed=np.array([0, 1]))
    with pytest.raises(AssertionError, match="batch_size=2") as error:  # of the emulator
        env.step(np.array([0, 0, 0]))
    assert error.value.__notes__ == ["in PongNoFrameskip-v4"]
    env.close()


@pytest.mark.parametrize(("what", "call"), [("hang", "step"), ("slow reset", "reset")])
def test_an_environment_that_hangs_or_resets_slowly_is_named_with_its_worker(
    what: str, call: str, hurry: Callable[[float], None]
) -> None:
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
    batches = iter(stream)
    next(batches)
    hurry(10)
    with pytest.raises(WorkerError, match=expected):
        for _ in batches:
            pass
    stream.close()


def step_once(num_envs: int = 1, **kwargs: Any) -> Any:
    """The first step of `Gives-v0`."""
    env = make_vector_env(EnvConfig("Gives-v0", num_envs=num_envs, kwargs=kwargs))
    env.reset(seed=0)
    return env.step(np.zeros(num_envs, dtype=np.int64))


def test_an_environment_that_recycles_its_array_does_not_change_what_was_seen() -> None:
    env = make_vector_env(EnvConfig("Recycles-v0", num_envs=2, kwargs={"pays": [0.0]}))
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros(2, dtype=np.int64))
    observations, _, _, truncated, info = env.step(np.zeros(2, dtype=np.int64))
    assert truncated.all()
    assert [final.tolist() for final in info["final_obs"]] == [[3.0], [3.0]]
    assert observations.tolist() == [[0.0], [0.0]]
    env.close()


def test_sub_environments_share_no_list_or_array_of_their_arguments() -> None:
    kwargs = {"pays": [0.0]}
    env = make_vector_env(EnvConfig("Recycles-v0", num_envs=2, kwargs=kwargs))
    env.reset(seed=0)
    assert env.step(np.zeros(2, dtype=np.int64))[1].tolist() == [1.0, 1.0]
    assert kwargs == {"pays": [0.0]}
    env.close()


@pytest.mark.parametrize(
    "reward", [1, 1.0, True, np.int64(1), np.float32(1), np.bool_(True), np.array(1), np.array([1.0]), np.array([[1]])]
)
def test_a_finite_number_is_a_reward_in_whatever_form(reward: Any) -> None:
    assert step_once(steps=[{"reward": reward}])[1].tolist() == [1.0]


@pytest.mark.parametrize(
    "reward", [None, "1", np.nan, -np.inf, 1e39, 10**400, 1j, [1.0, 2.0], np.zeros(2), np.zeros(0), {}, np.array("1")]
)
def test_anything_else_is_refused_with_the_environments_name(reward: Any) -> None:
    with pytest.raises(BadEnvironment, match=r"^Gives-v0, sub-environment 0: step returned the reward .*no finite"):
        step_once(steps=[{"reward": reward}])


@pytest.mark.parametrize("flag", [True, 1, np.bool_(True), np.array(True), np.array([True]), 1.0])
def test_an_end_is_true_in_whatever_form(flag: Any) -> None:
    assert step_once(steps=[{"terminated": flag}])[2].tolist() == [True]
    assert step_once(steps=[{"truncated": flag}])[3].tolist() == [True]


@pytest.mark.parametrize("flag", [None, "yes", 2, np.nan, [True, False]])
@pytest.mark.parametrize("which", ["terminated", "truncated"])
def test_an_end_that_is_neither_true_nor_false_is_refused(which: str, flag: Any) -> None:
    with pytest.raises(BadEnvironment, match=f"sub-environment 0: step returned {which} .* neither true nor false"):
        step_once(steps=[{which: flag}])


def test_nothing_in_info_ends_a_run_when_it_is_not_read() -> None:
    infos = [
        {"a": np.zeros(2)}, {"a": np.zeros(3)}, {"a": None}, {"a": {"b": 1}}, {"a": "text", "_a": 1}, {1: 2}, None, [],
        {"final_obs": 1, "_final_obs": 2, "final_info": [3]}, {"lives": "many", "episode": {"r": None}},
    ]  # fmt: skip
    steps = [{"info": info, "truncated": t % 3 == 0} for t, info in enumerate(infos)]
    env = make_vector_env(EnvConfig("Gives-v0", num_envs=2, kwargs={"steps": steps}))
    env.reset(seed=0)
    env.envs[1].unwrapped.t = 3  # so that the two never give the same kind of info at once
    for t in range(2 * len(steps)):
        info = env.step(np.zeros(2, dtype=np.int64))[4]
        assert set(info) <= {"final_obs", "_final_obs", "final_info", "_final_info"}, t
    env.close()


def test_a_lost_life_is_all_that_is_read_of_info() -> None:
    info = step_once(steps=[{"info": {"lightning_a3c.life_lost": np.bool_(True), "other": 1}}])[4]
    assert info["lightning_a3c.life_lost"].tolist() == [True]
    assert "other" not in info


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (spaces.Discrete(4), -1),
        (spaces.MultiDiscrete([2, 3]), np.array([0, -1])),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), (0, -1)),
        (spaces.Dict(a=spaces.Discrete(2)), {"a": -1}),
    ],
)
def test_a_number_below_its_space_is_not_coded_as_another(space: Any, observation: Any) -> None:
    with pytest.raises(BadEnvironment, match=r"sub-environment 0: step returned the observation .* its space is"):
        step_once(steps=[{"observation": observation}], space=space, first=space.sample())


def test_a_number_in_a_dict_that_is_not_finite_is_named() -> None:
    space = spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Discrete(2))
    with pytest.raises(BadEnvironment, match="an observation with NaN"):
        step_once(steps=[{"observation": {"a": np.array([0, np.nan]), "b": 1}}], space=space, first=space.sample())


def test_a_key_that_is_missing_from_a_dict_is_named() -> None:
    space = spaces.Dict(a=spaces.Box(0, 1, (2,)))
    with pytest.raises(
        BadEnvironment, match=r"step returned the observation \{'b': 1\}, which does not fit its space Dict"
    ):
        step_once(steps=[{"observation": {"b": 1}}], space=space, first=space.sample())


def test_observations_that_float32_cannot_hold_are_named() -> None:
    space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    layout = ObservationLayout(space)
    assert [layout.is_finite(np.array([number])) for number in (1e300, np.nan, -1e38, 0.0)] == [
        False,
        False,
        True,
        True,
    ]
