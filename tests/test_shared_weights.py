"""The learner's weights reach every worker whole."""

import copy
import multiprocessing
import pickle
import threading
import time
from multiprocessing.connection import Connection

import pytest
import torch
from torch import nn

from lightning_a3c.collection.published_networks import DeviceNetwork, NewestRewardScale, SharedNetwork
from lightning_a3c.collection.shared_weights import SharedWeights, arrays_of, strip_weights, trained_in
from lightning_a3c.rl.action_spec import DiscreteSpec
from lightning_a3c.rl.agent_network import AgentNetwork

CONTEXT = multiprocessing.get_context("forkserver")


def filled(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
    return net


def attached(weights: SharedWeights) -> SharedNetwork:
    return SharedNetwork(weights, filled(-1).eval())


def entries(live: SharedNetwork | DeviceNetwork) -> tuple[set[float], int]:
    """All distinct entries of the network's parameters, and its version."""
    return live.compute(
        lambda net, version: ({entry for p in net.parameters() for entry in p.detach().flatten().tolist()}, version)
    )


def test_a_shared_network_has_the_weights_published_last() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    live = attached(weights)
    for value in (1, 2, 3):
        assert weights.publish(filled(value)) == value
        assert entries(live) == ({value}, value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_another_process_keep_the_numbers_that_it_gave_them(dtype: torch.dtype) -> None:
    template = filled(0).to(dtype)
    weights = SharedWeights(template, CONTEXT)
    readers = [SharedNetwork(weights, filled(-1).to(dtype).eval())]
    readers.append(DeviceNetwork(weights, filled(-1).to(dtype).eval(), torch.device("cpu")))
    for number in (3, 5, 6, 12):  # two of the same parity in a row must not take each other's place
        net = filled(number)
        net[0].weight.requires_grad_(number == 5)
        weights.publish_arrays(arrays_of(net, template), trained_in(net), number)
        for reader in readers:
            assert entries(reader) == ({number}, number)
            assert reader.version == number
            assert reader.compute(lambda net, _: net[0].weight.requires_grad) == (number == 5)


def test_the_reward_scale_is_that_of_the_newest_version() -> None:
    net = AgentNetwork(nn.Linear(2, 2), DiscreteSpec(2), scales_rewards=True)
    weights = SharedWeights(net, CONTEXT)
    weights.publish(net)
    copies = (copy.deepcopy(net), copy.deepcopy(net))
    live = [SharedNetwork(weights, copies[0]), DeviceNetwork(weights, copies[1], torch.device("cpu"))]
    scales = [NewestRewardScale(reader, weights) for reader in live]
    assert [scale() for scale in scales] == [1, 1]
    for variance in (4.0, 25.0, 100.0):
        assert net.return_moments is not None
        net.return_moments.variance.fill_(variance)
        net.return_moments.load_state_dict(net.return_moments.state_dict() | {"count": torch.tensor(10.0)})
        weights.publish(net)
        assert [scale() for scale in scales] == pytest.approx([variance**-0.5] * 2)


def test_arrays_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="network Linear has other parameters or buffers than when training began"):
        arrays_of(nn.Linear(50, 51), nn.Linear(50, 50))


@pytest.fixture
def locked() -> SharedWeights:
    """As on a processor that does not keep the order of stores, where a lock does."""
    weights = SharedWeights(filled(0), CONTEXT, keeps_store_order=False)
    weights.publish(filled(1))
    return weights


def read_newest(weights: SharedWeights, answers: Connection) -> None:
    answers.send(entries(attached(weights)))


def test_another_process_reads_what_was_published_where_a_lock_keeps_the_order(locked: SharedWeights) -> None:
    for value in (2, 3):
        assert locked.publish(filled(value)) == value
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=read_newest, args=(locked, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == ({3}, 3)
    process.join()


def hold_lock(weights: SharedWeights, answers: Connection) -> None:
    with weights._order:  # there is no public way to be killed inside a single store
        answers.send("held")
        time.sleep(100)


def test_publishing_and_reading_recover_from_a_process_killed_while_it_held_the_lock(locked: SharedWeights) -> None:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=hold_lock, args=(locked, theirs))
    process.start()
    assert ours.poll(60)
    process.kill()
    process.join()
    begun_at = time.monotonic()
    live = attached(locked)
    assert entries(live) == ({1}, 1)
    for value in (2, 3):
        assert locked.publish(filled(value)) == value
        assert entries(live) == ({value}, value)
    assert time.monotonic() - begun_at < 50  # half as long as the process would have held it


def test_a_device_network_is_renewed_whenever_something_newer_is_published() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    copied = DeviceNetwork(weights, filled(-1).eval(), torch.device("cpu"))
    for value in (1, 2, 3):
        weights.publish(filled(value))
        assert entries(copied) == ({value}, value)
    before = [parameter.data_ptr() for parameter in copied.parameters()]
    assert entries(copied) == ({3}, 3)
    assert [parameter.data_ptr() for parameter in copied.parameters()] == before


def test_a_shared_network_computes_what_the_published_one_does() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50))
    net(torch.randn(8, 50))  # batch statistics, in buffers
    weights = SharedWeights(net, CONTEXT)
    live = attached(weights)
    weights.publish(net)
    observations = torch.randn(8, 50)
    torch.testing.assert_close(live(observations), net.eval()(observations))


def test_the_snapshots_dtype_is_the_readers() -> None:
    weights = SharedWeights(filled(0).to(torch.bfloat16), CONTEXT)
    live = SharedNetwork(weights, filled(0).to(torch.bfloat16))
    weights.publish(filled(1.001))
    assert {parameter.dtype for parameter in live.parameters()} == {torch.bfloat16}
    assert entries(live)[0] == {1.0}


def test_parameters_that_are_one_stay_one_and_frozen_ones_frozen() -> None:
    net = nn.ModuleDict({"one": nn.Linear(3, 3), "same": nn.Linear(3, 3), "frozen": nn.Linear(3, 3)})
    net["same"].weight = net["one"].weight
    net["frozen"].requires_grad_(False)
    weights = SharedWeights(net, CONTEXT)
    weights.publish(net)
    kept = copy.deepcopy(net)
    strip_weights(kept)
    read = SharedNetwork(weights, kept).compute(lambda twin, _: twin)
    assert [p.requires_grad for p in read.parameters()] == [p.requires_grad for p in net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), net.parameters(), strict=True))


def test_a_network_without_its_weights_is_small() -> None:
    net = filled(1)
    strip_weights(net)
    assert len(pickle.dumps(net)) < 4000 < len(pickle.dumps(filled(1)))


def test_a_result_never_comes_of_half_a_snapshot() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    weights.publish(filled(0))
    live = attached(weights)
    stop = threading.Event()

    def publish() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            weights.publish(filled(value))

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        versions, reads, until = set(), 0, time.monotonic() + 30
        while reads < 500 or len(versions) <= 5:
            values, version = entries(live)
            versions.add(version)
            reads += 1
            assert len(values) == 1
            assert time.monotonic() < until, "the writer had no turn"
    finally:
        stop.set()
        writer.join()


def test_what_was_computed_while_its_snapshot_was_overwritten_is_computed_again() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    weights.publish(filled(1))
    live = attached(weights)
    seen = []

    def compute(net: nn.Module, version: int) -> int:
        seen.append(version)
        if version == 1:
            weights.publish(filled(2))  # into the other snapshot, which disturbs nobody
            weights.publish(filled(3))  # into this one
        return version

    assert live.compute(compute) == 3
    assert seen == [1, 3]


def test_which_parameters_are_trained_travels_with_the_version() -> None:
    net = filled(0)
    weights = SharedWeights(net, CONTEXT)
    lives = [attached(weights), DeviceNetwork(weights, filled(-1).eval(), torch.device("cpu"))]
    for trained in ([True, True, True, True], [False, True, False, True], [True, False, True, False], [True] * 4):
        for parameter, is_trained in zip(net.parameters(), trained, strict=True):
            parameter.requires_grad_(is_trained)
        weights.publish(net)
        for live in lives:
            assert live.compute(lambda twin, _: [p.requires_grad for p in twin.parameters()]) == trained


def test_buffers_that_no_checkpoint_keeps_are_published_too() -> None:
    def made(value: float) -> nn.Module:
        net = filled(value)
        net.register_buffer("kept_nowhere", torch.full((3,), value), persistent=False)
        return net

    weights = SharedWeights(made(0), CONTEXT)
    live = SharedNetwork(weights, made(-1).eval())
    weights.publish(made(7))
    assert live.compute(lambda net, _: net.kept_nowhere.tolist()) == [7, 7, 7]


@pytest.mark.parametrize("other", [nn.Linear(50, 50), nn.Sequential(nn.Linear(50, 1), nn.BatchNorm1d(50))])
def test_a_network_of_other_tensors_is_not_published(other: nn.Module) -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    with pytest.raises(ValueError, match="has other parameters or buffers than when training began"):
        weights.publish(other)
    assert weights.version == 0
