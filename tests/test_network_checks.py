"""The check of a network leaves it as it is, and finds what workers could not compute with."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_a3c import A3CModule
from lightning_a3c.rl.network_checks import (
    check_network,
    copy_network,
    evaluating,
    training_differences,
    unused_parameters,
)
from lightning_a3c.rl.networks import build_network


class Net(nn.Module):
    """Four numbers to two actions, by way of `layers` of 8 units."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.layers = nn.Sequential(*layers)
        self.p, self.v = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.layers(torch.tanh(self.first(x))))

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.p(hidden), self.v(hidden).squeeze(1)


class Recurrent(Net):
    """Its state is an attribute."""

    def __init__(self, blank: bool = False) -> None:
        super().__init__()
        self.cell, self._state = nn.LSTMCell(8, 8), None
        if blank:  # so that only the state shows it
            nn.init.zeros_(self.p.weight)
            nn.init.zeros_(self.v.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self._state = self.cell(self.first(x), self._state)
        return self.heads(self._state[0])


class SeesChange(Net):
    """Compares with the observations before."""

    previous: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        change = torch.zeros_like(x) if self.previous is None else x - self.previous
        self.previous = x
        return super().forward(change)


class Stacks(Net):
    """Keeps the last three observations."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: deque[Tensor] = deque(maxlen=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.frames.append(x)
        return super().forward(torch.stack(list(self.frames)).sum(dim=0))


class Normalises(Net):
    """By running statistics, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.count += len(x)
        return super().forward(x)


class Noisy(Net):
    """Explores by noise in its layers, in any mode."""

    def __init__(self, noise: Callable[[], Tensor | float]) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("drawn", torch.zeros(8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.drawn.copy_(torch.as_tensor(self.noise()).expand(8))
        return self.heads(torch.tanh(self.first(x)) + self.drawn)


class Remembers(Net):
    """Keeps what others may look at, which changes no answer."""

    calls = 0
    hidden: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        self.hidden = self.first(x)
        return self.heads(self.hidden)


class Embeds(nn.Module):
    """Takes the observation's elements for indices of two."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.p, self.v = nn.Embedding(2, 3), nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embedding(x.long()).flatten(1)
        return self.p(hidden), self.v(hidden).squeeze(1)


@pytest.mark.parametrize("mode", [True, False])
def test_a_network_that_is_given_keeps_statistics_modes_gradients_and_chance(mode: bool) -> None:
    net = Net(nn.BatchNorm1d(8), nn.Dropout(0.5)).train(mode)
    net.layers[0].eval()  # frozen by hand
    net(torch.randn(6, 4))[1].sum().backward()
    before, gradient = copy.deepcopy(net), net.first.weight.grad.clone()
    modes, chance = [module.training for module in net.modules()], torch.get_rng_state()
    A3CModule((4,), 2, network=net)
    assert all(torch.equal(old, new) for old, new in zip(before.buffers(), net.buffers(), strict=True))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net.first.weight.grad, gradient)
    assert torch.equal(torch.get_rng_state(), chance)


def test_layers_without_weights_get_them_by_the_callers_chance() -> None:
    def made(seed: int) -> Net:
        torch.manual_seed(seed)
        net = Net(nn.LazyLinear(8), nn.LazyBatchNorm1d())
        build_network((4,), 2, net)
        return net

    net = made(0)
    assert net.layers[0].weight.shape == (8, 8)
    assert net.training
    assert not torch.equal(net.layers[0].weight, made(1).layers[0].weight)
    assert not net.layers[1].running_mean.any()


@pytest.mark.parametrize(
    ("net", "differed"),
    [
        (Recurrent(), "logits, values, _state"),
        (Recurrent(blank=True), "_state"),
        (SeesChange(), "logits, values"),
        (Stacks(), "logits, values"),
        (Normalises(), "count"),
    ],
)
def test_a_network_that_keeps_state_between_calls_is_refused(net: nn.Module, differed: str) -> None:
    message = rf"{type(net).__name__} keeps state between calls .* differed in {differed}.*takes and returns its state"
    with pytest.raises(ValueError, match=message):
        A3CModule((4,), 2, network=net)


@pytest.mark.parametrize(
    "net",
    [Noisy(lambda: torch.randn(8)), Noisy(random.random), Remembers(), Embeds(), Net(nn.Dropout(0.5))],
    ids=["noisy", "noisy by Python", "remembers", "embeds", "dropout"],
)
def test_chance_and_what_changes_no_answer_are_accepted(net: nn.Module) -> None:
    check_network(net, (4,), 2)


@pytest.mark.parametrize(("bounds", "values"), [(None, {0, 1}), ((5, 9), {5, 6}), ((-9, -5), {-5, -6}), ((2, 2), {2})])
def test_a_network_is_tried_with_observations_within_the_bounds(
    bounds: tuple[float, float] | None, values: set[int]
) -> None:
    seen: set[int] = set()

    class Watches(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            seen.update(x.flatten().tolist())
            return super().forward(x.float())

    check_network(Watches(), (4,), 2, torch.int64, bounds)
    assert seen == values


def test_a_network_whose_results_have_gradients_can_be_copied() -> None:
    net = Net()
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(net.first)
    net(torch.randn(3, 4))
    twin = copy_network(net)
    observations = torch.randn(3, 4)
    assert torch.equal(twin(observations)[0], net(observations)[0])
    assert twin.first.weight_v is not net.first.weight_v


def test_what_training_alone_does_is_found() -> None:
    def found(*layers: nn.Module) -> tuple[list[str], bool]:
        return tuple(training_differences(Net(*layers), (4,)))

    statistics = ["layers.0.running_mean", "layers.0.running_var", "layers.0.num_batches_tracked"]
    assert found() == ([], False)
    assert found(nn.LayerNorm(8)) == ([], False)
    assert found(nn.Dropout(0.5)) == ([], True)
    assert found(nn.BatchNorm1d(8)) == (statistics, False)
    assert found(nn.BatchNorm1d(8), nn.Dropout(0.5)) == (statistics, True)
    assert found(nn.BatchNorm1d(8).eval(), nn.Dropout(0.5).eval()) == ([], False)  # frozen by hand
    assert training_differences(Noisy(lambda: torch.randn(8)), (4,)).is_random is False


def test_each_part_is_in_its_own_mode_again_after_evaluating() -> None:
    net = Net(nn.BatchNorm1d(8), nn.Dropout(0.5))
    net.layers[0].eval()
    modes = [module.training for module in net.modules()]
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == modes


@pytest.mark.parametrize("batch", [1, 5])
def test_act_is_in_evaluation_mode_and_leaves_the_module_as_it_is(batch: int) -> None:
    module = A3CModule((4,), 2, network=Net(nn.BatchNorm1d(8), nn.Dropout(0.5)))
    module.net.layers[0].eval()
    modes = [part.training for part in module.modules()]
    before = [buffer.clone() for buffer in module.buffers()]
    observations = torch.randn(batch, 4)
    actions = {tuple(module.act(observations, greedy=True).tolist()) for _ in range(20)}
    assert len(actions) == 1
    assert len(actions.pop()) == batch
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(old, new) for old, new in zip(before, module.buffers(), strict=True))


def test_parameters_that_no_output_depends_on_are_named() -> None:
    net = Net(nn.Linear(8, 8))
    assert unused_parameters(net, (4,)) == []
    net.forgotten = nn.Linear(2, 2)
    assert unused_parameters(net, (4,)) == ["forgotten.weight", "forgotten.bias"]
    net.forgotten.requires_grad_(False)  # then nobody waits for its gradient
    assert unused_parameters(net, (4,)) == []
    assert all(parameter.grad is None for parameter in net.parameters())
