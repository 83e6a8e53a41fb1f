"""Networks reach other processes whole, parametrized ones too."""

from __future__ import annotations

import threading
from collections.abc import Callable

import cloudpickle
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lightning_a3c import CollectorDataModule, EnvConfig
from lightning_a3c.collection.processes.pickling import dumps, unpicklable


def with_layer(change: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), change(nn.Linear(8, 8)), nn.Linear(8, 3))


def twice(layer: nn.Linear) -> nn.Module:
    """Two parametrizations of one tensor, and one of another."""
    torch.nn.utils.parametrize.register_parametrization(layer, "bias", nn.Softplus())
    return parametrizations.spectral_norm(parametrizations.orthogonal(layer))


@pytest.mark.parametrize(
    "change", [parametrizations.spectral_norm, parametrizations.weight_norm, parametrizations.orthogonal, twice]
)
def test_a_parametrized_network_is_the_same_after_pickling(change: Callable[[nn.Linear], nn.Module]) -> None:
    net = with_layer(change).eval()
    loaded = cloudpickle.loads(dumps(net))
    observations = torch.randn(5, 4)
    assert torch.equal(loaded(observations), net(observations))
    assert list(loaded.state_dict()) == list(net.state_dict())
    assert [parameter.shape for parameter in loaded.parameters()] == [parameter.shape for parameter in net.parameters()]
    assert type(loaded[2]).__name__ == type(net[2]).__name__ == "ParametrizedLinear"
    again = cloudpickle.loads(dumps(loaded))
    assert torch.equal(again(observations), net(observations))


def test_the_innermost_module_that_cannot_be_pickled_is_named() -> None:
    net = with_layer(lambda layer: layer)
    assert unpicklable(net) is None
    net[2].lock = threading.Lock()
    assert unpicklable(net) == "2 (Linear)"
    assert unpicklable(nn.ModuleDict({"body": net})) == "body.2 (Linear)"
    net.lock = net[2].lock
    del net[2].lock
    assert unpicklable(net) == "(Sequential)"


class ActorCritic(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.p, self.v = body, nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.p(hidden), self.v(hidden).squeeze(1)


def data() -> CollectorDataModule:
    return CollectorDataModule(EnvConfig(num_envs=2), num_workers=1, micro_batch_size=8, batch_size=8, seed=0)


def test_workers_act_with_the_parametrized_weights_that_the_learner_has() -> None:
    net = ActorCritic(parametrizations.spectral_norm(nn.Linear(4, 8)))
    stream = data().dataset(net)
    try:
        batches = iter(stream)
        next(batches)
        with torch.no_grad():
            net.p.weight.zero_()
            net.p.bias.copy_(torch.tensor([-50.0, 50.0]))
        assert any(bool((batch.payload.actions == 1).all()) for batch, _ in zip(batches, range(20), strict=False))
    finally:
        stream.close()


def test_a_layer_that_cannot_be_sent_to_workers_is_named_before_any_starts() -> None:
    class Handle:
        """Can be copied, and not be pickled."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __deepcopy__(self, memo: object) -> Handle:
            return Handle()

    net = ActorCritic(nn.Linear(4, 8))
    net.body.handle = Handle()
    message = (
        r"workers cannot be sent the network's body \(Linear\): cannot pickle '_thread.lock' object; .*num_workers 0"
    )
    with pytest.raises(ValueError, match=message):
        next(iter(data().dataset(net)))
