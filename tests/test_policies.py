"""How actions are drawn from logits, masked ones too."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_a3c import A3CModule
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.policies import NetworkPolicy, choose_actions

MASKS = [-math.inf, -1e9, torch.finfo(torch.float32).min]


class Fixed(nn.Module):
    """Gives every observation the same logits."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.expand(len(observations), -1), observations.sum(dim=1)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("greedy", [False, True])
def test_masked_actions_are_never_chosen(mask: float, greedy: bool) -> None:
    logits = torch.tensor([[mask, 0.0, 1.0], [5.0, mask, 5.0]]).repeat(500, 1)
    actions = choose_actions(logits, greedy, torch.Generator().manual_seed(0)).view(500, 2)
    assert set(actions[:, 0].tolist()) == ({2} if greedy else {1, 2})
    assert set(actions[:, 1].tolist()) == ({0} if greedy else {0, 2})


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([-math.inf, -math.inf], r"network Fixed masks every action: all logits are -inf for sub-environment 0 of 3"),
        ([math.nan, 0.0], r"network Fixed gives NaN or infinite numbers for sub-environment 0 of 3: \[nan, 0\]"),
        ([math.inf, 0.0], r"network Fixed gives NaN or infinite numbers for sub-environment 0 of 3: \[inf, 0\]"),
    ],
)
def test_logits_that_are_no_distribution_are_told_with_network_and_place(
    greedy: bool, bad: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkPolicy(Fixed(*bad), greedy=greedy)(torch.zeros(3, 4), Memory.empty(3, 0))


def test_the_place_named_is_that_of_the_first_bad_row() -> None:
    logits = torch.zeros(5, 2)
    logits[3] = math.nan
    with pytest.raises(ValueError, match="for observation 3 of 5"):
        choose_actions(logits)


@pytest.mark.parametrize("call", ["act", "predict_step"])
def test_the_module_says_the_same_of_its_network(call: str) -> None:
    module = A3CModule((4,), 2, network=Fixed(-math.inf, 0.0))
    getattr(module, call)(torch.zeros(3, 4))
    with torch.no_grad():
        module.net.logits.fill_(math.nan)
    with pytest.raises(ValueError, match=r"network Fixed gives NaN or infinite numbers for observation 0 of 3"):
        getattr(module, call)(torch.zeros(3, 4))


def test_predicted_probabilities_of_masked_actions_are_zero() -> None:
    prediction = A3CModule((4,), 3, network=Fixed(-math.inf, 0.0, 0.0)).predict_step(torch.zeros(1, 4))
    assert prediction.probabilities.tolist() == [[0.0, 0.5, 0.5]]
