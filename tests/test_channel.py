"""Messages cross process borders through shared slots."""

import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_a3c.collection.processes.channel import ChannelWriter, RemoteFailure, open_channel
from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory, SharedTensors, require_shared_memory
from lightning_a3c.rl.types import Message, RolloutStats, Transitions

CONTEXT = multiprocessing.get_context("forkserver")


def message(value: int) -> Message:
    return Message(
        Transitions(
            torch.full((4, 3), value, dtype=torch.uint8),
            torch.full((4,), value),
            torch.full((4,), 0.5 + value),
            torch.full((4,), -0.5 - value),
        ),
        RolloutStats(
            torch.tensor([value]),
            torch.tensor([4 * value]),
            torch.full((2,), float(value)),
            torch.tensor([value, 0]),
            torch.full((1, 2, 3), float(value)),
            torch.full((1, 3), float(value)),
            torch.tensor([value]),
        ),
    )


def send_three(writer: ChannelWriter) -> None:
    for value in (1, 2, 3):
        writer.send(message(value))


def fail(writer: ChannelWriter) -> None:
    writer.send_failure("Traceback:\n", "ValueError: the reason")


def test_messages_arrive_in_order_and_whole_with_fewer_slots_than_messages() -> None:
    reader, writer = open_channel(message(0), slots=2, context=CONTEXT)
    process = CONTEXT.Process(target=send_three, args=(writer,))
    process.start()
    writer.close()
    for value in (1, 2, 3):
        slot, received = reader.receive()
        for own, expected in zip(
            (*received.payload, *received.stats), (*message(value).payload, *message(value).stats), strict=True
        ):
            torch.testing.assert_close(own, expected)
        reader.release(slot)
    process.join()
    reader.close()


def test_what_is_written_where_the_next_message_will_lie_arrives_with_it() -> None:
    reader, writer = open_channel(message(0), slots=1, context=CONTEXT)
    place = writer.wait_for_slot()
    place.payload.returns.fill_(7.0)
    new = message(1)
    writer.send(new._replace(payload=new.payload._replace(returns=place.payload.returns)))
    _, received = reader.receive()
    assert received.payload.returns.tolist() == [7.0] * 4
    assert received.payload.actions.tolist() == [1] * 4
    reader.close()
    writer.close()


def test_a_writer_waits_while_all_slots_are_taken() -> None:
    reader, writer = open_channel(message(0), slots=2, context=CONTEXT)
    process = CONTEXT.Process(target=send_three, args=(writer,))
    process.start()
    writer.close()
    first, _ = reader.receive()
    second, _ = reader.receive()
    process.join(0.5)
    assert process.is_alive()
    assert {first, second} == {0, 1}
    reader.release(first)
    assert reader.receive()[0] == first
    process.join()
    reader.close()


def test_the_end_of_a_writer_is_seen_at_once() -> None:
    reader, writer = open_channel(message(0), slots=2, context=CONTEXT)
    process = CONTEXT.Process(target=fail, args=(writer,))
    process.start()
    writer.close()
    with pytest.raises(RemoteFailure, match="Traceback:\nValueError: the reason"):
        reader.receive()
    with pytest.raises(EOFError):
        reader.receive()
    process.join()
    reader.close()


def test_shared_tensors_keep_shapes_dtypes_and_start_at_zero() -> None:
    templates = [torch.ones(3, dtype=torch.int64), torch.ones(2, 5, dtype=torch.uint8), torch.ones(())]
    shared = SharedTensors(templates, CONTEXT).tensors
    assert [(t.shape, t.dtype) for t in shared] == [(t.shape, t.dtype) for t in templates]
    assert all((tensor == 0).all() for tensor in shared)


def test_too_little_shared_memory_is_refused_with_the_way_out() -> None:
    with pytest.raises(NoFreeSharedMemory, match=r"MiB needed, \d+ MiB free in /dev/shm; lower data.num_workers"):
        require_shared_memory(2**60)


@settings(max_examples=40)
@given(st.integers(1, 4), st.lists(st.sampled_from(["send", "receive", "release"]), max_size=40))
def test_any_order_of_sends_and_releases_keeps_messages_apart_and_in_order(slots: int, plan: list[str]) -> None:
    reader, writer = open_channel(torch.zeros(2), slots, CONTEXT)
    sent = received = 0
    held: list[tuple[int, int, torch.Tensor]] = []  # number, slot, message
    for what in plan:
        if what == "send" and sent - received + len(held) < slots:
            sent += 1
            writer.send(torch.full((2,), float(sent)))
        elif what == "receive" and received < sent:
            received += 1
            slot, tensor = reader.receive()
            held.append((received, slot, tensor))
        elif what == "release" and held:
            number, slot, _ = held.pop(0)
            reader.release(slot)
        assert len({slot for _, slot, _ in held}) == len(held) <= slots
        for number, _, tensor in held:
            assert tensor.tolist() == [number, number]
    reader.close()
    writer.close()
