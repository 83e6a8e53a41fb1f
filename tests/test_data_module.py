"""What a data module takes, and what it refuses before any process starts."""

import logging
import random
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from lightning_a3c import A3CModule, EnvConfig
from tests.small_runs import data, trainer


def test_an_id_alone_stands_for_its_config() -> None:
    assert data(env="CartPole-v1").env == EnvConfig("CartPole-v1")


@pytest.mark.parametrize("env", [None, 3, CartPoleEnv])
def test_what_is_neither_an_id_nor_a_config_is_refused(env: object) -> None:
    with pytest.raises(ValueError, match=r"^data\.env must be a Gymnasium id or an EnvConfig, got "):
        data(env=env)


def test_trying_an_environment_leaves_the_random_numbers_of_the_process_alone() -> None:
    def states() -> list[object]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    data(env=EnvConfig("tests.scripted:DrawsGlobally-v0", num_envs=4))
    assert states() == before


@pytest.mark.parametrize(
    ("num_workers", "micro_batch_size", "slots"), [(4, 32, 2), (2, 32, 4), (1, 32, 8), (16, 32, 1), (4, 64, 1)]
)
def test_workers_share_room_for_two_updates(num_workers: int, micro_batch_size: int, slots: int) -> None:
    module = data(num_workers=num_workers, micro_batch_size=micro_batch_size, batch_size=128)
    assert module.slots_per_worker == slots
    assert data(slots_per_worker=5).slots_per_worker == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "data.n_steps must be >= 1, got 0"),
        ({"discount": 1.5}, r"data.discount must be in \[0, 1\], got 1.5"),
        ({"num_workers": -1}, "data.num_workers must be >= 0, got -1"),
        ({"batch_size": 40}, "data.batch_size must be a multiple of data.micro_batch_size, got 40 and 16"),
        ({"slots_per_worker": 0}, "data.slots_per_worker must be >= 1, got 0"),
        ({"eval_episodes": 0}, "data.eval_episodes must be >= 1, got 0"),
        ({"learner_threads": 0}, "data.learner_threads must be >= 1, got 0"),
        ({"worker_precision": "bf16"}, "data.worker_precision must be .*, got 'bf16'"),
        ({"worker_device": "gpu"}, "data.worker_device must be .*, got 'gpu': Expected one of cpu, cuda"),
        ({"eval_policy": "argmax"}, "data.eval_policy must be .*, got 'argmax'"),
        ({"targets": "td"}, "data.targets must be .*, got 'td'"),
        ({"gae_lambda": 1.5}, r"data.gae_lambda must be in \[0, 1\], got 1.5"),
        ({"num_workers": "4"}, "data.num_workers must be a whole number, got '4'"),
        ({"batch_size": 32.5}, r"data.batch_size must be a whole number, got 32.5"),
        ({"env": EnvConfig("CartPole-v1", num_envs=0)}, "env.num_envs must be >= 1, got 0"),
        ({"gae_lambda": "0.9"}, "data.gae_lambda must be a number, got '0.9'"),
        ({"discount": True}, "data.discount must be a number, got True"),
        ({"synchronous": "no"}, "data.synchronous must be true or false, got 'no'"),
    ],
)
def test_bad_values_are_refused_before_any_process_starts(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_envs": "4"}, "env.num_envs must be a whole number, got '4'"),
        ({"observation_keys": "pos"}, r"env.observation_keys must be a list of names such as .*, got 'pos'"),
        ({"observation_keys": []}, r"env.observation_keys must name at least one part, got \[\]; leave it out"),
        ({"observation_keys": [1]}, r"env.observation_keys must be names, got \[1\]"),
        (
            {"wrappers": {"class_path": "gymnasium.wrappers.TimeLimit"}},
            "env.wrappers must be a list of .*, got {'class",
        ),
        ({"kwargs": ["goal"]}, r"env.kwargs must be a dict such as .*, got \['goal'\]"),
        ({"action_mask": True}, 'env.action_mask must be text such as "info", or null, got True'),
        ({"clip_rewards": "yes"}, "env.clip_rewards must be true, false or null, got 'yes'"),
        ({"atari": {"frame_skip": 4}}, "env.atari must be an AtariConfig, got {'frame_skip': 4}"),
    ],
)
def test_fields_of_an_environment_with_a_wrong_type_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnvConfig("CartPole-v1", **fields)


def test_a_window_that_synchronous_collection_cuts_short_is_told() -> None:
    advice = r"data.n_steps 5 acts as 4: .* set data.n_steps to 4, or data.micro_batch_size to 20"
    with pytest.warns(UserWarning, match=advice):  # micro-batches of 16 from 4 environments
        data(n_steps=5, synchronous=True)
    data(n_steps=4, synchronous=True)  # warnings are errors here
    data(n_steps=5)


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"env.id must be a Gymnasium id such as 'CartPole-v1', got EnvSpec"):
        EnvConfig(gymnasium.spec("CartPole-v1"))


@pytest.mark.parametrize(
    ("changes", "bound"),
    [  # (slots + messages that a window spans) × workers / messages of a batch
        ({}, (2 + 1) * 2 / 2),
        ({"num_workers": 8}, (1 + 1) * 8 / 2),
        ({"n_steps": 12}, (2 + 3) * 2 / 2),
        ({"slots_per_worker": 30}, (30 + 1) * 2 / 2),
        ({"num_workers": 0, "n_steps": 12}, 2),
        ({"synchronous": True}, 0),
    ],
)
def test_the_lag_to_expect_follows_from_workers_slots_and_batch(changes: dict[str, int], bound: float) -> None:
    assert data(**changes).lag_bound == bound


def test_the_lag_to_expect_is_printed_and_a_large_one_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small, large = data(num_workers=0), data(slots_per_worker=61, num_workers=1)
    with caplog.at_level(logging.INFO):
        trainer(tmp_path, max_steps=1).fit(A3CModule.for_data(small), datamodule=small)
    assert "policy lag: at most about 1 versions of the weights" in caplog.text
    with pytest.warns(UserWarning, match=r"about 31 versions.*raise data.batch_size, take more learners .*to vtrace"):
        trainer(tmp_path, max_steps=1).fit(A3CModule.for_data(large), datamodule=large)
