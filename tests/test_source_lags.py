"""The lag of each source is a mean over the last updates, and is logged where there are several sources."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from lightning_a3c import RayCollectors
from lightning_a3c.collection.rollout import empty_stats
from lightning_a3c.learning.source_lags import SourceLags
from lightning_a3c.rl.types import Batch
from tests.small_runs import data, trainer


def batch(collectors: list[int], lags: list[int]) -> Batch:
    stats = empty_stats(1, 1)._replace(collector=torch.tensor(collectors))
    return Batch((), stats, torch.tensor(lags), torch.zeros(1), torch.zeros(1))  # type: ignore[arg-type]


def begun(folder: Path, learners: int = 1, **changes: object) -> SourceLags:
    run, lags = trainer(folder, devices=learners, strategy="ddp" if learners > 1 else "auto"), SourceLags()
    run.datamodule = data(**changes)
    lags.begin(run)
    return lags


def test_one_pool_of_workers_tells_its_worst_worker(tmp_path: Path) -> None:
    lags = begun(tmp_path)
    lags.update(batch([0, 1], [1, 4]))
    lags.update(batch([1, 1], [6, 8]))
    assert lags.metrics() == {"policy_lag_worst": 6.0}


def test_each_of_several_learners_tells_the_mean_of_its_workers(tmp_path: Path) -> None:
    lags = begun(tmp_path, learners=2)  # two workers each
    lags.update(batch([0, 1, 2, 3], [1, 2, 3, 4]))
    lags.update(batch([0, 0, 3, 3], [3, 4, 5, 6]))
    assert lags.metrics() == {"policy_lag_worst": 5.0, "policy_lag/learner_0": 2.5, "policy_lag/learner_1": 4.5}


@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
def test_actors_are_numbered_through_all_learners(tmp_path: Path) -> None:
    lags = begun(tmp_path, learners=2, num_workers=4, batch_size=64, collectors=RayCollectors(actors=2))
    lags.update(batch([0, 1, 5, 7], [1, 2, 7, 9]))
    assert lags.metrics() == {
        "policy_lag_worst": 9.0,
        "policy_lag/actor_0": 1.5,
        "policy_lag/actor_2": 7.0,
        "policy_lag/actor_3": 9.0,
    }


def test_only_the_last_50_updates_count(tmp_path: Path) -> None:
    lags = begun(tmp_path)
    lags.update(batch([0], [1000]))
    for _ in range(50):
        lags.update(batch([0, 1], [2, 1]))
    assert lags.metrics() == {"policy_lag_worst": 2.0}
