"""Batches of fresh experience, from this process or from workers."""

import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_a3c import A3CModule, EnvConfig
from tests.small_runs import data, dataset


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_is_the_stated_number_of_whole_batches(num_workers: int) -> None:
    stream = dataset(num_workers=num_workers)
    batches = list(stream)
    stream.close()
    assert len(batches) == len(stream) == 5
    for batch in batches:
        assert batch.payload.observations.shape == (32, 4)
        assert batch.payload.actions.dtype == torch.int64
        assert batch.payload.returns.shape == (32,)
        assert batch.stats.policy_version.shape == (2,)
    total = sum(int(batch.stats.env_steps.sum()) for batch in batches)
    assert total >= 5 * 32


def test_workers_act_with_the_weights_of_the_last_optimizer_step() -> None:
    module = data(updates_per_epoch=500)
    net = A3CModule.for_data(module).net
    always = []
    with closing(module.dataset(net)) as stream:
        for batch in stream:
            with torch.no_grad():  # an "optimizer step" after which the policy always chooses action 1
                net.policy[-1].bias.copy_(torch.tensor([-50.0, 50.0]))
            always.append(bool((batch.payload.actions == 1).all()))
            if len(always) >= 20 and all(always[-10:]):  # later where a worker has waited for a processor
                break
    assert not always[0]
    assert all(always[-10:])


def test_policy_lag_counts_updates_and_is_bounded_by_slots_and_window() -> None:
    stream = dataset(updates_per_epoch=40)
    lag = torch.cat([batch.policy_lag for batch in stream])
    stream.close()
    assert lag.min() >= 0
    assert 0 < lag[-20:].float().mean() <= (2 + 1) * 2 / 2  # (slots + window) · workers / payloads an update


def test_a_batch_may_need_more_messages_than_there_are_slots() -> None:
    stream = dataset(num_workers=1, slots_per_worker=1, batch_size=64, updates_per_epoch=3)
    assert [len(batch.payload.returns) for batch in stream] == [64] * 3
    stream.close()


def test_one_worker_sends_exactly_what_serial_mode_collects() -> None:
    serial, parallel = dataset(num_workers=0, batch_size=16), dataset(num_workers=1, batch_size=16)
    parallel.net.load_state_dict(serial.net.state_dict())
    for own, theirs in zip(serial, parallel, strict=True):
        assert torch.equal(own.payload.observations, theirs.payload.observations)
        assert torch.equal(own.payload.returns, theirs.payload.returns)
    serial.close()
    parallel.close()


def test_an_iteration_left_early_is_not_continued_by_the_next() -> None:
    with closing(dataset(num_workers=0)) as stream:
        next(iter(stream))
        assert len(list(stream)) == 5
        stream.load_state_dict({"position": 3})
        assert [len(list(stream)) for _ in range(2)] == [2, 5]


def test_a_data_loader_with_workers_is_refused() -> None:
    loader = DataLoader(dataset(), batch_size=None, num_workers=1, multiprocessing_context="forkserver")
    batches = iter(loader)
    with pytest.raises(RuntimeError, match="num_workers=0"):
        next(batches)
    batches._shutdown_workers()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_is_let_go_before_the_next_is_gathered(num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(dataset(num_workers=num_workers)) as stream:
        batches = iter(stream)
        observations = weakref.ref(next(batches).payload.observations)
        take, kept = type(stream._backend).take, []

        def watched(*args: object) -> object:
            kept.append(observations())
            return take(*args)

        monkeypatch.setattr(type(stream._backend), "take", watched)
        next(batches)
    assert kept == [None]


def test_pytorchs_settings_are_the_users_again_after_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True}, raising=False)
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    module = data(learner_threads=before[0] + 1)
    wide = {"class_path": "lightning_a3c.MLP", "init_args": {"hidden_sizes": [512, 512]}}
    with closing(module.dataset(A3CModule.for_data(module, network=wide).net)) as stream:
        next(iter(stream))
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (before[0] + 1, "medium")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


class TellsPrecision(gymnasium.Env[np.ndarray, int]):
    """Every step ends an episode, whose return is 1 where oneDNN multiplies float32 matrices."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(4, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(4, np.float32), float(torch.get_float32_matmul_precision() == "medium"), True, False, {}


@pytest.mark.parametrize(("width", "is_wide"), [(64, False), (512, True)])
def test_workers_and_learner_multiply_alike(width: int, is_wide: bool, register: Callable[..., str]) -> None:
    env = EnvConfig(register("TellsPrecision-v0", "tests.test_stream:TellsPrecision"), num_envs=4)
    module = data(env=env, num_workers=1)
    network = {"class_path": "lightning_a3c.MLP", "init_args": {"hidden_sizes": [width, width]}}
    with closing(module.dataset(A3CModule.for_data(module, network=network).net)) as stream:
        stats = next(iter(stream)).stats
        of_learner = float(torch.get_float32_matmul_precision() == "medium")
    assert set(stats.episode_returns[stats.episode_lengths > 0].tolist()) == {of_learner}
    assert of_learner <= is_wide  # on other processors, MKL multiplies for all


def test_a_data_loader_in_this_process_works() -> None:
    stream = dataset()
    assert len(list(DataLoader(stream, batch_size=None, num_workers=0))) == 5
    stream.close()


def test_the_same_seed_gives_the_same_experience_in_serial_mode() -> None:
    first, second = dataset(num_workers=0), dataset(num_workers=0)
    second.net.load_state_dict(first.net.state_dict())
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.payload.observations, other.payload.observations)
        assert torch.equal(one.payload.actions, other.payload.actions)
    first.close()
    second.close()
