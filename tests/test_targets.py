"""Return targets, worked by hand and against literal definitions."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from lightning_a3c.rl.targets import (
    VTraceConfig,
    gae_returns,
    lambda_returns,
    n_step_returns,
    vtrace_targets,
)


def returns(rewards, not_done, bootstrap, discount):
    """One environment: the lists run over time."""
    result = n_step_returns(
        torch.tensor(rewards).unsqueeze(1), torch.tensor(not_done).unsqueeze(1), torch.tensor([bootstrap]), discount
    )
    assert result.shape == (1,)
    return result.item()


def test_unbroken_window_adds_discounted_rewards_and_bootstrap():
    # 1 + 2/2 + 4/4 + 16/8
    assert returns([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], 16.0, discount=0.5) == 5.0


def test_termination_inside_the_window_cuts_later_rewards_and_bootstrap():
    # 1 + 2/2, and nothing of the next episode's 4 or of the bootstrap
    assert returns([1.0, 2.0, 4.0], [1.0, 0.0, 1.0], 16.0, discount=0.5) == 2.0


def test_termination_at_the_last_step_of_the_window_drops_only_the_bootstrap():
    # 1 + 2/2 + 4/4
    assert returns([1.0, 2.0, 4.0], [1.0, 1.0, 0.0], 16.0, discount=0.5) == 3.0


def test_truncation_keeps_the_bootstrap_that_its_reward_contains():
    # reward 2 with γ · V(final) = 0.5 · 8 folded in is 6; 1 + 6/2
    assert returns([1.0, 6.0, 4.0], [1.0, 0.0, 1.0], 16.0, discount=0.5) == 4.0


def test_of_two_episodes_that_end_in_one_window_only_the_first_counts():
    assert returns([1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 0.0, 1.0], 16.0, discount=0.5) == 1.0


def test_one_step_window_is_the_temporal_difference_target():
    # 3 + 10/2
    assert returns([3.0], [1.0], 10.0, discount=0.5) == 8.0


def test_discount_zero_sees_only_the_first_reward():
    assert returns([3.0, 5.0, 7.0], [1.0, 1.0, 1.0], 100.0, discount=0.0) == 3.0


def test_discount_one_sums_rewards_and_bootstrap():
    assert returns([3.0, 5.0, 7.0], [1.0, 1.0, 1.0], 100.0, discount=1.0) == 115.0


def test_environments_of_a_batch_do_not_mix():
    rewards = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    not_done = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # 1 + 2/2 + 4/4; the other one ends at its first step
    assert_close(n_step_returns(rewards, not_done, torch.tensor([4.0, 4.0]), 0.5), torch.tensor([3.0, 10.0]))


def test_inputs_are_left_as_they_were():
    rewards, not_done, bootstrap = torch.ones(3, 2), torch.ones(3, 2), torch.ones(2)
    n_step_returns(rewards, not_done, bootstrap, 0.5)
    assert (rewards == 1).all()
    assert (not_done == 1).all()
    assert (bootstrap == 1).all()


@pytest.mark.parametrize(
    ("rewards", "not_done", "bootstrap"),
    [((3, 2), (2, 2), (2,)), ((3, 2), (3, 2), (3,)), ((3, 2), (3, 2), (2, 1)), ((3, 2), (3, 1), (2,))],
)
def test_shapes_that_do_not_fit_are_refused(rewards, not_done, bootstrap):
    with pytest.raises(ValueError, match=r"do not fit: \[N, B\], \[N, B\] and \[B\] are needed"):
        n_step_returns(torch.ones(rewards), torch.ones(not_done), torch.ones(bootstrap), 0.5)


@given(st.integers(1, 8), st.integers(1, 5), st.floats(0, 1), st.randoms(use_true_random=False))
def test_any_window_equals_the_sum_written_out(steps: int, envs: int, discount: float, chance: random.Random) -> None:
    rewards = [[chance.uniform(-10, 10) for _ in range(envs)] for _ in range(steps)]
    not_done = [[float(chance.random() < 0.8) for _ in range(envs)] for _ in range(steps)]
    bootstrap = [chance.uniform(-10, 10) for _ in range(envs)]
    returns = n_step_returns(
        *(torch.tensor(values, dtype=torch.float64) for values in (rewards, not_done, bootstrap)), discount
    )
    for env in range(envs):
        expected, weight = 0.0, 1.0
        for t in range(steps):
            expected += weight * rewards[t][env]
            weight *= discount * not_done[t][env]
        expected += weight * bootstrap[env]
        assert returns[env].item() == pytest.approx(expected, abs=1e-9)


def gae(rewards, not_done, values, bootstrap, discount, gae_lambda):
    """One environment: the lists run over time."""
    columns = [torch.tensor(column).unsqueeze(1) for column in (rewards, not_done, values)]
    result = gae_returns(*columns, torch.tensor([bootstrap]), discount, gae_lambda)
    assert result.shape == (1,)
    return result.item()


def test_gae_adds_discounted_errors_to_the_value():
    # errors 1 + 4/2 - 2 = 1, 2 + 8/2 - 4 = 2, 4 + 16/2 - 8 = 4; 2 + 1 + 2/4 + 4/16
    assert gae([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], [2.0, 4.0, 8.0], 16.0, discount=0.5, gae_lambda=0.5) == 3.75


def test_gae_ends_with_the_episode():
    # errors 1 + 4/2 - 2 = 1, 2 - 4 = -2; 2 + 1 - 2/4
    assert gae([1.0, 2.0, 4.0], [1.0, 0.0, 1.0], [2.0, 4.0, 8.0], 16.0, discount=0.5, gae_lambda=0.5) == 2.5


def test_gae_with_lambda_zero_is_the_temporal_difference_target():
    # 1 + 4/2
    assert gae([1.0, 2.0], [1.0, 1.0], [2.0, 4.0], 16.0, discount=0.5, gae_lambda=0.0) == 3.0


def literal_gae(rewards, not_done, values, bootstrap, discount, gae_lambda):
    """The recursion R = r + γc[(1 − λ)V' + λR'], from the end of the window."""
    following, result = bootstrap, bootstrap
    for reward, cont, value in reversed(list(zip(rewards, not_done, values, strict=True))):
        result = reward + discount * cont * ((1 - gae_lambda) * following + gae_lambda * result)
        following = value
    return result


WINDOWS = st.lists(
    st.tuples(st.floats(-10, 10, width=32), st.sampled_from([0.0, 1.0]), st.floats(-10, 10, width=32)),
    min_size=1,
    max_size=8,
)
FRACTIONS = st.floats(0, 1, width=32)


@given(WINDOWS, st.floats(-10, 10, width=32), FRACTIONS, FRACTIONS)
def test_gae_is_the_recursion_over_mixed_targets(window, bootstrap, discount, gae_lambda):
    columns = [list(column) for column in zip(*window, strict=True)]
    found = gae(*columns, bootstrap, discount, gae_lambda)
    assert_close(found, literal_gae(*columns, bootstrap, discount, gae_lambda), rtol=1e-4, atol=1e-3)


@given(WINDOWS, st.floats(-10, 10, width=32), FRACTIONS)
def test_gae_with_lambda_one_is_the_n_step_return(window, bootstrap, discount):
    rewards, not_done, values = (list(column) for column in zip(*window, strict=True))
    n_step = returns(rewards, not_done, bootstrap, discount)
    assert_close(gae(rewards, not_done, values, bootstrap, discount, 1.0), n_step, rtol=1e-4, atol=1e-3)


def test_gae_shapes_that_do_not_fit_are_named():
    window = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"values \(3,\) and bootstrap \(2,\) do not fit"):
        gae_returns(window, window, torch.zeros(3), torch.zeros(2), 0.9, 0.9)


def literal_vtrace(log_ratios, rewards, discounts, values, bootstrap, config):
    """Espeholt et al. 2018, equation 1, term by term, for one environment."""
    length = len(rewards)
    following = [*values[1:], bootstrap]
    ratios = [math.exp(ratio) for ratio in log_ratios]
    rho = [min(config.rho_bar, ratio) for ratio in ratios]
    c = [config.trace_lambda * min(config.c_bar, ratio) for ratio in ratios]
    targets = []
    for start in range(length):
        total = values[start]
        for step in range(start, length):
            weight = math.prod(discounts[k] * c[k] for k in range(start, step))
            total += weight * rho[step] * (rewards[step] + discounts[step] * following[step] - values[step])
        targets.append(total)
    after = [*targets[1:], bootstrap]
    advantages = [rho[k] * (rewards[k] + discounts[k] * after[k] - values[k]) for k in range(length)]
    return targets, advantages


def column(numbers):
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def vtrace(log_ratios, rewards, discounts, values, bootstrap, config):
    last = torch.tensor([bootstrap], dtype=torch.float64)
    found = vtrace_targets(column(log_ratios), column(rewards), column(discounts), column(values), last, config)
    return found.values[:, 0].tolist(), found.advantages[:, 0].tolist()


def test_vtrace_by_hand():
    # ratios 2 and 1/2: rho 1, 1/2; c 1, 1/2. Errors 1·(1 + 4/2 − 2) = 1 and ½·(3 + 8/2 − 4) = 1.5
    targets, advantages = vtrace([math.log(2), math.log(0.5)], [1, 3], [0.5, 0.5], [2, 4], 8, VTraceConfig())
    # v1 = 4 + 1.5, v0 = 2 + 1 + ½·1·1.5; advantages 1·(1 + 5.5/2 − 2) and ½·(3 + 8/2 − 4)
    assert targets == pytest.approx([3.75, 5.5])
    assert advantages == pytest.approx([1.75, 1.5])


def test_vtrace_does_not_see_the_next_episode():
    before, _ = vtrace([0, 0, 0], [1, 2, 3], [0.9, 0, 0.9], [1, 1, 1], 5, VTraceConfig())
    after, _ = vtrace([0, 0, 2], [1, 2, 99], [0.9, 0, 0.9], [1, 1, -7], 50, VTraceConfig())
    assert before[:2] == after[:2] == pytest.approx([1 + 0.9 * 2, 2])


WINDOWS = st.integers(1, 6).flatmap(
    lambda length: st.tuples(
        *(st.lists(st.floats(-3, 3), min_size=length, max_size=length) for _ in range(3)),
        st.lists(st.sampled_from([0.0, 0.5, 0.9]), min_size=length, max_size=length),
        st.floats(-3, 3),
    )
)
CLIPS = st.builds(VTraceConfig, st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 1))


@given(WINDOWS, CLIPS)
def test_vtrace_equals_its_definition(window, config):
    log_ratios, rewards, values, discounts, bootstrap = window
    found = vtrace(log_ratios, rewards, discounts, values, bootstrap, config)
    expected = literal_vtrace(log_ratios, rewards, discounts, values, bootstrap, config)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(WINDOWS)
def test_vtrace_of_the_policys_own_steps_is_the_n_step_return(window):
    _, rewards, values, discounts, bootstrap = window
    unclipped = VTraceConfig(rho_bar=math.inf, c_bar=math.inf)
    targets, _ = vtrace([0.0] * len(rewards), rewards, discounts, values, bootstrap, unclipped)
    last = torch.tensor([bootstrap], dtype=torch.float64)
    expected = lambda_returns(column(rewards), column(discounts), column(values), last, gae_lambda=1.0)
    assert targets == pytest.approx(expected[:, 0].tolist(), rel=1e-6, abs=1e-6)


@given(WINDOWS, st.floats(0, 1))
def test_the_lambda_return_of_each_step_is_that_of_the_window_from_there(window, gae_lambda):
    _, rewards, values, _, bootstrap = window
    not_done = column([float(index % 3 != 1) for index in range(len(rewards))])
    last = torch.tensor([bootstrap], dtype=torch.float64)
    found = lambda_returns(column(rewards), 0.9 * not_done, column(values), last, gae_lambda)
    for step in range(len(rewards)):
        expected = gae_returns(column(rewards)[step:], not_done[step:], column(values)[step:], last, 0.9, gae_lambda)
        assert_close(found[step], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho_bar": 0}, "data.vtrace.rho_bar must be > 0, got 0"),
        ({"c_bar": math.nan}, "data.vtrace.c_bar must be > 0, got nan"),
        ({"trace_lambda": 1.1}, r"data.vtrace.trace_lambda must be in \[0, 1\], got 1.1"),
    ],
)
def test_vtrace_refuses_impossible_clips(options, message):
    with pytest.raises(ValueError, match=message):
        VTraceConfig(**options)
