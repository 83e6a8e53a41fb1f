"""Statistics of returns, against numbers worked by hand."""

import pytest
import torch

from lightning_a3c.learning.summary import bootstrap_interval, summarize


def test_mean_std_median_min_and_max_of_a_sample() -> None:
    summary = {how: value.item() for how, value in summarize(torch.tensor([1.0, 2.0, 4.0, 9.0])).items()}
    assert summary == {"mean": 4.0, "std": pytest.approx(9.5**0.5), "median": 3.0, "min": 1.0, "max": 9.0}


def test_interval_of_equal_values_is_that_value() -> None:
    assert bootstrap_interval(torch.full((5,), 3.0)) == (3.0, 3.0)


def test_interval_is_about_two_standard_errors_to_either_side() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 10 + 50
    low, high = bootstrap_interval(values)
    error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.3 * error)


def test_interval_is_the_same_each_time_and_leaves_the_global_random_state_alone() -> None:
    values = torch.arange(10.0)
    before = torch.get_rng_state()
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert torch.equal(torch.get_rng_state(), before)
