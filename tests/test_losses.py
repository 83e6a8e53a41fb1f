"""The combined loss, worked by hand."""

from math import log, pi

import pytest
import torch
from torch.testing import assert_close

from lightning_a3c.rl.action_spec import BoxSpec, DiscreteSpec
from lightning_a3c.rl.losses import A2CLoss, explained_variance, policy_loss

# π = (1/2, 1/2) and (1/4, 3/4); A = R − V = (2, −1)
LOGITS = torch.tensor([[0.0, 0.0], [0.0, log(3)]])
VALUES = torch.tensor([1.0, 2.0])
ACTIONS = torch.tensor([0, 1])
RETURNS = torch.tensor([3.0, 1.0])

POLICY = -(2 * log(1 / 2) - 1 * log(3 / 4)) / 2
ENTROPY = (log(2) - (log(1 / 4) / 4 + 3 * log(3 / 4) / 4)) / 2


def scalar(value):
    return torch.tensor(value, dtype=torch.float32)


def test_policy_term_is_minus_the_mean_of_advantage_times_log_probability():
    assert_close(A2CLoss()(LOGITS, VALUES, ACTIONS, RETURNS).loss_policy, scalar(POLICY))


def test_value_term_is_the_mean_squared_error():
    # (2² + 1²) / 2
    assert_close(A2CLoss()(LOGITS, VALUES, ACTIONS, RETURNS).loss_value, scalar(2.5))


def test_entropy_term_is_the_negative_entropy_times_its_weight():
    terms = A2CLoss(entropy_weight=0.1)(LOGITS, VALUES, ACTIONS, RETURNS)
    assert_close(terms.entropy, scalar(ENTROPY))
    assert_close(terms.loss_entropy, scalar(-0.1 * ENTROPY))


@pytest.mark.parametrize(("update", "weight"), [(0, 0.1), (50, 0.06), (100, 0.02), (1000, 0.02)])
def test_the_entropy_weight_falls_on_a_straight_line_and_stays(update: int, weight: float):
    loss = A2CLoss(entropy_weight=0.1, final_entropy_weight=0.02, entropy_updates=100)
    assert_close(loss(LOGITS, VALUES, ACTIONS, RETURNS, update).loss_entropy, scalar(-weight * ENTROPY))


def test_a_constant_entropy_weight_does_not_depend_on_the_update():
    assert A2CLoss(entropy_weight=0.1).entropy_weight_at(1000) == 0.1


def test_total_is_the_weighted_sum_of_the_three_terms():
    terms = A2CLoss(entropy_weight=0.1, value_weight=0.5)(LOGITS, VALUES, ACTIONS, RETURNS)
    assert_close(terms.loss_total, scalar(0.5 * 2.5 + POLICY - 0.1 * ENTROPY))


def test_default_weights_are_the_algorithms():
    terms = A2CLoss()(LOGITS, VALUES, ACTIONS, RETURNS)
    assert_close(terms.loss_total, scalar(2.5 + POLICY - 0.01 * ENTROPY))


def test_means_of_advantage_value_and_target_are_reported():
    terms = A2CLoss()(LOGITS, VALUES, ACTIONS, RETURNS)
    assert_close(terms.advantage, scalar(0.5))
    assert_close(terms.value, scalar(1.5))
    assert_close(terms.batch_return, scalar(2.0))


def test_every_term_is_a_float32_scalar():
    for term in A2CLoss()(LOGITS, VALUES, ACTIONS, RETURNS):
        assert term.shape == ()
        assert term.dtype == torch.float32


def test_no_gradient_flows_through_the_advantages():
    values = VALUES.clone().requires_grad_()
    A2CLoss(value_weight=0.5)(LOGITS, values, ACTIONS, RETURNS).loss_total.backward()
    # of the squared error alone: 0.5 · 2 (V − R) / 2
    assert_close(values.grad, torch.tensor([-1.0, 0.5]))


def test_policy_loss_detaches_advantages_by_itself():
    advantages = torch.tensor([2.0, -1.0], requires_grad=True)
    log_prob = torch.tensor([-0.5, -0.3], requires_grad=True)
    policy_loss(log_prob, advantages).backward()
    assert advantages.grad is None


def test_policy_gradient_raises_the_logit_of_an_action_better_than_expected():
    logits = LOGITS.clone().requires_grad_()
    A2CLoss(entropy_weight=0)(logits, VALUES, ACTIONS, RETURNS).loss_total.backward()
    # A (π − onehot(a)) / 2
    assert_close(logits.grad, torch.tensor([[-0.5, 0.5], [-0.125, 0.125]]))


def test_entropy_bonus_pulls_towards_the_uniform_policy():
    logits = torch.tensor([[1.0, 0.0]], requires_grad=True)
    A2CLoss(entropy_weight=1.0)(logits, torch.zeros(1), torch.tensor([0]), torch.zeros(1)).loss_total.backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]  # descent lowers the greater logit


@pytest.mark.parametrize("num_actions", [2, 6, 18])
def test_entropy_of_the_uniform_policy_is_the_log_of_the_number_of_actions(num_actions):
    _, entropy = DiscreteSpec(num_actions).log_prob_and_entropy(torch.zeros(5, num_actions), torch.zeros(5).long())
    assert_close(entropy, torch.full((5,), log(num_actions)))


def test_entropy_of_a_certain_policy_is_zero():
    _, entropy = DiscreteSpec(2).log_prob_and_entropy(torch.tensor([[0.0, 100.0]]), torch.tensor([1]))
    assert_close(entropy, torch.zeros(1))


def test_explained_variance_of_a_perfect_critic_is_one():
    assert explained_variance(RETURNS, RETURNS).item() == 1.0


def test_explained_variance_of_a_constant_critic_is_zero():
    assert explained_variance(torch.tensor([7.0, 7.0]), RETURNS).item() == 0.0


def test_explained_variance_of_a_critic_worse_than_a_constant_is_negative():
    # R = (3, 1), V = (1, 3): R − V = (2, −2), variances 4 and 1
    assert explained_variance(torch.tensor([1.0, 3.0]), RETURNS).item() == -3.0


@pytest.mark.parametrize("values", [[1.0, 2.0], [5.0, 5.0]])
def test_explained_variance_is_zero_where_returns_do_not_vary(values):
    assert explained_variance(torch.tensor(values), torch.tensor([5.0, 5.0])).item() == 0.0


@pytest.mark.parametrize(
    ("wrong", "shape"),
    [("values", (2, 1)), ("returns", (2, 1)), ("actions", (2, 1)), ("parameters", (2,)), ("values", ())],
)
def test_shapes_that_would_broadcast_in_silence_are_refused(wrong, shape):
    tensors = {"parameters": LOGITS, "values": VALUES, "actions": ACTIONS, "returns": RETURNS}
    tensors[wrong] = torch.zeros(shape, dtype=tensors[wrong].dtype)
    with pytest.raises(ValueError, match=r"do not fit: \[B, P\], \[B\], \[B\] and \[B\] are needed"):
        A2CLoss()(**tensors)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"final_entropy_weight": -0.01, "entropy_updates": 9}, "final_entropy_weight must be >= 0, got -0.01"),
        ({"final_entropy_weight": 0.0, "entropy_updates": 0}, "entropy_updates must be >= 1, got 0"),
        ({"final_entropy_weight": 0.0}, "or neither, got 0.0 and None"),
        ({"entropy_updates": 9}, "or neither, got None and 9"),
    ],
)
def test_an_impossible_fall_of_the_entropy_weight_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        A2CLoss(**values)


def test_negative_entropy_weight_is_refused():
    with pytest.raises(ValueError, match=r"entropy_weight must be >= 0, got -0.01"):
        A2CLoss(entropy_weight=-0.01)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_value_weight_that_trains_no_critic_is_refused(weight):
    with pytest.raises(ValueError, match=rf"value_weight must be > 0, got {weight}"):
        A2CLoss(value_weight=weight)


def loss_and_gradient(logits, actions, returns, weight=0.01):
    logits = logits.clone().requires_grad_()
    total = A2CLoss(entropy_weight=weight)(logits, torch.zeros(len(logits)), actions, returns).loss_total
    total.backward()
    return total.detach(), logits.grad


@pytest.mark.parametrize("mask", [-float("inf"), -1e9, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("seed", range(5))
def test_masked_logits_give_the_loss_and_gradient_of_torchs_categorical(seed, mask):
    generator = torch.Generator().manual_seed(seed)
    raw = 3 * torch.randn(40, 5, generator=generator)
    masked = torch.rand(40, 5, generator=generator) < 0.5
    masked[range(40), torch.randint(5, (40,), generator=generator)] = False  # something is always allowed
    actions = torch.multinomial((~masked).float(), 1, generator=generator).squeeze(1)
    returns = torch.randn(40, generator=generator)

    ours = loss_and_gradient(raw.masked_fill(masked, mask), actions, returns, weight=0.3)

    logits = raw.masked_fill(masked, mask).requires_grad_()
    policy = torch.distributions.Categorical(logits=logits)
    expected = returns.square().mean() - (returns * policy.log_prob(actions)).mean() - 0.3 * policy.entropy().mean()
    expected.backward()
    assert_close(ours, (expected.detach(), logits.grad))
    assert not ours[1][masked].any()


def test_a_state_with_one_action_left_has_no_entropy_and_no_gradient():
    logits = torch.tensor([[0.7, -float("inf"), -float("inf")]])
    terms = A2CLoss()(logits, torch.zeros(1), torch.tensor([0]), torch.ones(1))
    assert terms.entropy == 0
    assert terms.loss_policy == 0
    assert not loss_and_gradient(logits, torch.tensor([0]), torch.ones(1))[1].any()


def test_finite_logits_get_the_gradient_of_the_plain_formula_bit_by_bit(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(128, 6, generator=generator), torch.arange(128) % 6, torch.randn(128, generator=generator)
    ours = loss_and_gradient(*batch)

    def plain(spec, logits, actions):
        log_probs = logits.log_softmax(dim=1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=1)
        return log_probs.gather(1, actions.unsqueeze(1)).squeeze(1), entropy

    monkeypatch.setattr(DiscreteSpec, "log_prob_and_entropy", plain)
    for one, other in zip(ours, loss_and_gradient(*batch), strict=True):
        assert torch.equal(one, other)


def test_a_box_action_is_scored_by_the_gaussian_of_its_parameters():
    spec = BoxSpec((-1.0,), (1.0,))
    parameters, actions, returns = torch.tensor([[0.5, 0.0]]), torch.tensor([[1.5]]), torch.tensor([2.0])
    terms = A2CLoss(entropy_weight=0.1, action_spec=spec)(parameters, torch.zeros(1), actions, returns)
    log_prob = -0.5 * 1.0**2 - 0.5 * log(2 * pi)  # one standard deviation from the mean
    assert_close(terms.loss_policy, scalar(-2 * log_prob))
    assert_close(terms.entropy, scalar(0.5 + 0.5 * log(2 * pi)))


def test_box_actions_without_their_axis_are_refused():
    loss = A2CLoss(action_spec=BoxSpec((-1.0,), (1.0,)))
    with pytest.raises(ValueError, match=r"\[B, P\], \[B\], \[B, 1\] and \[B\] are needed"):
        loss(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), torch.zeros(2))
