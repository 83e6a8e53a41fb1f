"""Counts of a run and the mean of its last 100 episodes."""

import json

import pytest
import torch

from lightning_a3c.learning.progress import Progress
from lightning_a3c.rl.types import RolloutStats


def stats(*returns, env_steps=(32,), places=0, length=5):
    """Stats of these episodes, then `places` unused places."""
    return RolloutStats(
        policy_version=torch.ones(len(env_steps), dtype=torch.int64),
        env_steps=torch.tensor(env_steps),
        episode_returns=torch.tensor([*returns, *[0.0] * places], dtype=torch.float32),
        episode_lengths=torch.tensor([*[length] * len(returns), *[0] * places], dtype=torch.int64),
        observation_moments=torch.zeros(len(env_steps), 2, 0),
        return_moments=torch.zeros(len(env_steps), 3),
        collector=torch.zeros(len(env_steps), dtype=torch.int64),
    )


@pytest.fixture
def progress():
    progress = Progress()
    progress.start()
    return progress


def test_there_is_no_mean_before_the_first_episode(progress):
    progress.update(stats(places=3))
    assert progress.mean_return is None
    assert progress.episodes == 0


def test_fewer_than_100_episodes_are_averaged_over_all_of_them(progress):
    progress.update(stats(1.0, 3.0))
    progress.update(stats(8.0))
    assert progress.mean_return == 4.0


def test_only_the_last_100_episodes_count(progress):
    progress.update(stats(*[1000.0] * 50))
    progress.update(stats(*[0.0] * 50))
    progress.update(stats(*[10.0] * 50))  # pushes the first 50 out
    assert progress.mean_return == 5.0
    assert progress.episodes == 150


def test_episodes_of_all_workers_are_pooled(progress):
    # two messages of one update: three episodes of one worker, one of the other
    progress.update(stats(1.0, 1.0, 1.0, 5.0, env_steps=(32, 32)))
    assert progress.mean_return == 2.0  # and not the mean of the workers' means, 3


def test_unused_places_are_no_episodes(progress):
    progress.update(stats(6.0, places=9))
    assert progress.mean_return == 6.0
    assert list(progress.returns) == [6.0]
    assert list(progress.lengths) == [5]


def test_episode_with_return_zero_is_an_episode(progress):
    progress.update(stats(0.0, 4.0, places=2))
    assert progress.episodes == 2
    assert progress.mean_return == 2.0


def test_env_steps_of_all_messages_add_up(progress):
    progress.update(stats(env_steps=(32, 40)))
    progress.update(stats(env_steps=(8,)))
    assert progress.env_steps == 80


def test_speed_counts_only_steps_since_the_start():
    progress = Progress()
    progress.load_state_dict({"env_steps": 10**12, "episodes": 0, "train_seconds": 5.0, "returns": [], "lengths": []})
    progress.start()
    progress.update(stats(env_steps=(32,)))
    assert 0 < progress.steps_per_second <= 32 / 1e-9  # 32 steps, not 10¹² of them
    assert progress.train_seconds > 5.0


def test_state_round_trip_restores_everything(progress):
    progress.update(stats(*range(120), env_steps=(32, 40)))
    restored = Progress()
    restored.load_state_dict(progress.state_dict())
    assert restored.state_dict() == progress.state_dict()
    assert restored.env_steps == 72
    assert restored.episodes == 120
    assert restored.mean_return == progress.mean_return == 69.5  # 20 … 119


def test_restored_window_still_holds_100_episodes(progress):
    progress.update(stats(*[0.0] * 100))
    restored = Progress()
    restored.load_state_dict(progress.state_dict())
    restored.start()
    restored.update(stats(*[1.0] * 100))
    assert restored.mean_return == 1.0


def test_state_is_plain_values(progress):
    progress.update(stats(1.0, 2.0))
    assert json.loads(json.dumps(progress.state_dict())) == progress.state_dict()
