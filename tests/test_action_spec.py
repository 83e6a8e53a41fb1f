"""Distributions over actions, against those of torch.distributions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lightning_a3c.rl.action_spec import (
    ActionSpec,
    BinarySpec,
    BoxSpec,
    DiscreteSpec,
    JointSpec,
    action_size,
    action_spec,
)

BOX = BoxSpec(low=(-1.0, 0.0), high=(1.0, math.inf))
JOINT = JointSpec((DiscreteSpec(3), BinarySpec(2), BOX))
SPECS = [
    DiscreteSpec(4),
    DiscreteSpec(3, start=-1),
    BinarySpec(3),
    BOX,
    JointSpec((DiscreteSpec(2), DiscreteSpec(5))),
    JOINT,
]


def parameters_of(spec: ActionSpec, batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, spec.num_parameters, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", [DiscreteSpec(4), BinarySpec(3), BOX])
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_log_probabilities_entropies_and_their_gradients_are_those_of_pytorch(spec: ActionSpec, seed: int) -> None:
    ours, theirs = (parameters_of(spec, 5, seed).requires_grad_() for _ in range(2))
    actions = spec.sample(ours.detach(), torch.Generator().manual_seed(seed))
    log_prob, entropy = spec.log_prob_and_entropy(ours, actions)
    oracle = spec.distribution(theirs)
    # torch's Bernoulli takes floats
    expected = oracle.log_prob(actions.float() if isinstance(spec, BinarySpec) else actions)
    assert_close(log_prob, expected)
    assert_close(entropy, oracle.entropy())
    (log_prob + 0.3 * entropy).sum().backward()
    (expected + 0.3 * oracle.entropy()).sum().backward()
    assert_close(ours.grad, theirs.grad)


def test_a_joint_space_adds_up_its_parts() -> None:
    parameters = parameters_of(JOINT, 6)
    actions = JOINT.sample(parameters)
    pieces = torch.split(parameters, [3, 2, 4], dim=1)
    scored = [
        part.log_prob_and_entropy(piece, action)
        for part, piece, action in zip(JOINT.parts, pieces, JOINT.split_actions(actions), strict=True)
    ]
    log_prob, entropy = JOINT.log_prob_and_entropy(parameters, actions)
    assert_close(log_prob, sum(terms[0] for terms in scored))
    assert_close(entropy, sum(terms[1] for terms in scored))


def test_sampled_frequencies_are_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(20_000, 3)
    drawn = DiscreteSpec(3).sample(logits, generator).bincount() / 20_000
    assert_close(drawn, logits[0].softmax(0), atol=0.015, rtol=0)
    ones = BinarySpec(3).sample(logits, generator).float().mean(dim=0)
    assert_close(ones, logits[0].sigmoid(), atol=0.015, rtol=0)
    box = BoxSpec((-1.0,), (1.0,)).sample(torch.tensor([[2.0, math.log(0.5)]]).expand(20_000, 2), generator)
    assert_close(torch.stack((box.mean(), box.std())), torch.tensor([2.0, 0.5]), atol=0.015, rtol=0)


@pytest.mark.parametrize("spec", SPECS)
def test_one_generator_state_gives_the_same_actions(spec: ActionSpec) -> None:
    first, second = (spec.sample(parameters_of(spec, 8), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == ((8,) if isinstance(spec, DiscreteSpec) else (8, action_size(spec)))


@pytest.mark.parametrize("spec", [DiscreteSpec(4), BinarySpec(3), BOX])
def test_the_mode_has_the_highest_log_probability(spec: ActionSpec) -> None:
    parameters = parameters_of(spec, 10)
    best, _ = spec.log_prob_and_entropy(parameters, spec.mode(parameters))
    for seed in range(20):
        drawn, _ = spec.log_prob_and_entropy(parameters, spec.sample(parameters, torch.Generator().manual_seed(seed)))
        assert bool((drawn <= best + 1e-5).all())


def test_bounded_components_are_scaled_and_clipped_to_their_bounds_and_others_kept() -> None:
    spec = BoxSpec(low=(-2.0, 0.0, -math.inf), high=(2.0, math.inf, 3.0))
    actions = torch.tensor([[0.5, 7.0, -7.0], [-9.0, -7.0, 7.0]])
    assert spec.to_env(actions).tolist() == [[1.0, 7.0, -7.0], [-2.0, 0.0, 3.0]]


def test_squashed_actions_approach_their_bounds() -> None:
    spec = BoxSpec(low=(0.0,), high=(10.0,), squash=True)
    assert_close(spec.to_env(torch.tensor([[0.0], [1.0], [50.0]])), torch.tensor([[5.0], [5 + 5 * math.tanh(1)], [10]]))


def test_squashing_without_finite_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="squashing needs finite action bounds"):
        BoxSpec(low=(0.0,), high=(math.inf,), squash=True)


def test_means_are_brought_into_the_bounds_where_both_are_finite() -> None:
    outputs = torch.tensor([[0.5, 3.0, -7.0]])
    low, high = (-2.0, 0.0, -math.inf), (2.0, math.inf, 3.0)
    assert BoxSpec(low, high).means(outputs) is outputs
    assert_close(BoxSpec(low, high, bounds_mean=True).means(outputs), torch.tensor([[math.tanh(0.5), 3.0, -7.0]]))


def test_bounding_the_means_of_squashed_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="squash the actions or bound their means, not both"):
        BoxSpec(low=(0.0,), high=(1.0,), squash=True, bounds_mean=True)


def test_a_masked_action_is_never_drawn_and_adds_nothing_to_the_entropy() -> None:
    logits = torch.tensor([[0.5, -1e8, 0.5]]).expand(1_000, 3)
    assert set(DiscreteSpec(3).sample(logits).tolist()) == {0, 2}
    _, entropy = DiscreteSpec(3).log_prob_and_entropy(logits, torch.zeros(1_000, dtype=torch.int64))
    assert_close(entropy[0].item(), math.log(2))


@pytest.mark.parametrize("spec", SPECS)
def test_plain_values_make_the_same_spec_again(spec: ActionSpec) -> None:
    assert action_spec(spec.to_dict()) == spec


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"must be discrete, binary, box or joint, got 'cube'"):
        action_spec({"family": "cube"})
