"""The learner's weights reach every worker whole."""

import multiprocessing
import threading

import torch
from torch import nn

from lightning_a3c.weights import SharedWeights

CONTEXT = multiprocessing.get_context("forkserver")


def filled(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
    return net


def test_pull_copies_what_was_published_with_its_version() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    weights.publish(filled(1))
    assert weights.publish(filled(2)) == 2
    reader = filled(0)
    assert weights.pull(reader) == 2
    assert all((parameter == 2).all() for parameter in reader.parameters())


def test_buffers_travel_too() -> None:
    writer = filled(0)
    writer(torch.randn(8, 50))  # batch statistics
    weights = SharedWeights(writer, CONTEXT)
    weights.publish(writer)
    reader = filled(0)
    weights.pull(reader)
    torch.testing.assert_close(reader[1].running_mean, writer[1].running_mean)
    assert reader[1].num_batches_tracked == 1


def test_a_known_version_is_not_copied_again() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    version = weights.publish(filled(1))
    reader = filled(7)
    assert weights.pull(reader, known_version=version) == version
    assert all((parameter == 7).all() for parameter in reader.parameters())


def test_a_reader_never_sees_half_a_snapshot() -> None:
    weights = SharedWeights(filled(0), CONTEXT)
    weights.publish(filled(0))
    stop = threading.Event()

    def publish() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            weights.publish(filled(value))

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        reader = filled(0)
        versions = set()
        for _ in range(500):
            versions.add(weights.pull(reader))
            assert len({entry for p in reader.parameters() for entry in p.detach().flatten().tolist()}) == 1
    finally:
        stop.set()
        writer.join()
    assert len(versions) > 5
