"""What environments give reaches a module, and its actions reach environments, in plain Gymnasium loops."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import tests.scripted  # noqa: F401  registers Masked-v0
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig
from lightning_a3c.environments.encoding import TaskEncoding
from lightning_a3c.environments.making import make_vector_env, wrapped
from lightning_a3c.environments.task import describe_task
from tests.small_runs import trainer
from tests.test_every_space import SPACES

FLATTENED = {"class_path": "gymnasium.wrappers.FlattenObservation"}


class Nested(gymnasium.Env[Any, Any]):
    """Five steps of a nested observation with a text, and actions of every kind."""

    observation_space = spaces.Dict(
        [
            ("words", spaces.Text(5)),
            ("sight", spaces.Box(0, 255, (4, 4, 3), np.uint8)),
            ("body", spaces.Tuple((spaces.Discrete(3, start=1), spaces.Dict(arm=spaces.Box(-9, 9, (2,), np.float64))))),
            ("keys", spaces.MultiBinary(2)),
        ]
    )
    action_space = spaces.Tuple(
        (
            spaces.Discrete(3, start=-1),
            spaces.Dict(push=spaces.Box(-1, 1, (2, 2), np.float32), kinds=spaces.MultiDiscrete([[2, 3], [4, 2]])),
            spaces.MultiBinary(2),
        )
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observation_space.sample(), 0.0, self.steps >= 5, False, {}


gymnasium.register("Nested-v0", entry_point="tests.test_encoding:Nested")

CONFIGS = [
    EnvConfig("CartPole-v1"),
    EnvConfig("Pendulum-v1"),
    EnvConfig("FrozenLake-v1"),
    EnvConfig("Taxi-v4", action_mask="info"),
    EnvConfig("Masked-v0", action_mask="action_masks()"),
    EnvConfig("Blackjack-v1"),
    EnvConfig("Nested-v0"),
    EnvConfig("Nested-v0", observation_keys=["body", "keys"]),
    EnvConfig("Nested-v0", wrappers=[{"class_path": "tests.test_encoding.OnlyBody"}]),
    *(EnvConfig(f"Identity{kind}-v0") for kind in SPACES),
]
IDS = [f"{number}-{config.id}" for number, config in enumerate(CONFIGS)]


class OnlyBody(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations of the nested environment's body."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["body"]  # type: ignore[index]

    def observation(self, observation: Any) -> Any:
        return observation["body"]


def module_for(config: EnvConfig, folder: Path) -> A3CModule:
    """A module that has been a checkpoint, which holds plain values."""
    data = CollectorDataModule(config, num_workers=0)
    fitting = trainer(folder)
    fitting.strategy.connect(A3CModule.for_data(data))
    fitting.save_checkpoint(folder / "a.ckpt")
    return A3CModule.load_from_checkpoint(folder / "a.ckpt", weights_only=True)


def masks_of(env: Any, config: EnvConfig, info: dict[str, Any]) -> dict[str, Any]:
    return {"action_mask": env.unwrapped.action_masks()} if config.action_mask == "action_masks()" else info


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_loaded_agent_plays_in_a_plain_loop(config: EnvConfig, tmp_path: Path) -> None:
    module = module_for(config, tmp_path)
    env = wrapped(gymnasium.make(config.id), config)
    observation, info = env.reset(seed=0)
    for _ in range(20):
        info = masks_of(env, config, info)
        action = module.decode(module.act(module.encode(observation, info))[0])
        assert env.action_space.contains(action), action
        if config.action_mask:
            assert info["action_mask"][action]
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            observation, info = env.reset()


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_encoded_observations_are_those_of_training(config: EnvConfig) -> None:
    encoding = TaskEncoding(describe_task(config).to_dict())
    theirs = make_vector_env(config, num_envs=1).reset(seed=5)[0]
    env = wrapped(gymnasium.make(config.id), config)
    observation, info = env.reset(seed=5)
    ours = encoding.encode(observation, masks_of(env, config, info))
    np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))
    assert ours.dtype == np.dtype(describe_task(config).observation_dtype)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_vector_environment_is_played_like_single_ones(config: EnvConfig, tmp_path: Path) -> None:
    module = module_for(config, tmp_path)
    envs = gymnasium.vector.SyncVectorEnv([lambda: wrapped(gymnasium.make(config.id), config)] * 3)
    observations, infos = envs.reset(seed=0)
    if config.action_mask == "action_masks()":
        infos = {"action_mask": np.stack([env.unwrapped.action_masks() for env in envs.envs])}
    encoded = module.encode(observations, infos)
    single = [module.encode(*one(envs, observations, infos, index)) for index in range(3)]
    torch.testing.assert_close(encoded, torch.cat(single), rtol=0, atol=0)
    actions = module.act(encoded, greedy=True)
    envs.step(module.decode(actions))
    first = module.decode(actions[0])
    assert envs.single_action_space.contains(first)
    whole = next(iter(gymnasium.vector.utils.iterate(envs.action_space, module.decode(actions))))
    torch.testing.assert_close(numbers(whole, envs), numbers(first, envs))


def numbers(action: Any, envs: Any) -> Any:
    return torch.from_numpy(np.asarray(spaces.flatten(envs.single_action_space, action)))


def one(envs: Any, observations: Any, infos: dict[str, Any], index: int) -> tuple[Any, dict[str, Any]]:
    batch = list(gymnasium.vector.utils.iterate(envs.observation_space, observations))
    return batch[index], {"action_mask": infos["action_mask"][index]} if "action_mask" in infos else {}


@pytest.mark.parametrize(
    ("config", "observation", "info", "message"),
    [
        (EnvConfig("CartPole-v1"), np.zeros(3), None, r"has the shape \(3,\), not \(4,\)"),
        (EnvConfig("FrozenLake-v1"), 16, None, "out of range"),
        (EnvConfig("FrozenLake-v1"), 0.5, None, "it is float64"),
        (EnvConfig("Taxi-v4", action_mask="info"), 3, None, "mask is missing; give the info that came with"),
        (EnvConfig("Taxi-v4", action_mask="info"), 3, {"action_mask": np.zeros(6)}, "allows no action"),
        (EnvConfig("Taxi-v4", action_mask="info"), 3, {"action_mask": np.ones(5)}, r"shape \(5,\); \(6,\)"),
        (EnvConfig("Masked-v0", action_mask="action_masks()"), np.zeros(2), None, 'get_wrapper_attr."action_masks"'),
        (EnvConfig("IdentityDict-v0"), {"a": 1}, None, "does not fit the space"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(
    config: EnvConfig, observation: Any, info: Any, message: str
) -> None:
    encoding = TaskEncoding(describe_task(config).to_dict())
    with pytest.raises(ValueError, match=message):
        encoding.encode(observation, info)


def test_an_action_of_another_shape_is_refused() -> None:
    encoding = TaskEncoding(describe_task(EnvConfig("Pendulum-v1")).to_dict())
    with pytest.raises(ValueError, match=r"an action has the shape \(1,\) and a batch \('B', 1\), got \(2, 3\)"):
        encoding.decode(np.zeros((2, 3)))


def test_a_module_without_a_task_encodes_one_array() -> None:
    module = A3CModule(observation_shape=(4,), num_actions=2)
    assert module.encode(np.zeros(4)).shape == (1, 4)
    assert module.decode(module.act(module.encode(np.zeros(4)))[0]) in (0, 1)


def test_checkpoints_from_before_spaces_were_described_say_what_helps(tmp_path: Path) -> None:
    whole = describe_task(EnvConfig("IdentityDict-v0")).to_dict()
    task = describe_task(EnvConfig("IdentityDict-v0")).to_dict()
    del task["observation_space"], task["action_space"]
    module = A3CModule(task["observation_shape"], task["num_actions"], task=task)
    with pytest.raises(ValueError, match=r"made before checkpoints described .*load_from_checkpoint\(path, task="):
        module.encode({"a": 1, "b": np.zeros(1)})
    fitting = trainer(tmp_path)
    fitting.strategy.connect(module)
    fitting.save_checkpoint(tmp_path / "old.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "old.ckpt", task=whole)
    assert len(loaded.encode({"a": 1, "b": np.zeros(1)})) == 1
    pendulum = describe_task(EnvConfig("Pendulum-v1")).to_dict()
    del pendulum["action_space"]
    assert TaskEncoding(pendulum).decode(np.zeros(1)).dtype == np.float32
