"""What "auto" stands for on this machine."""

import pytest

from tests.small_runs import data


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 8)])
def test_auto_starts_a_worker_for_each_core_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert data(num_workers="auto").num_workers == expected


@pytest.mark.parametrize(("cores", "learners", "expected"), [(64, 1, 8), (64, 2, 8), (8, 4, 2), (2, 4, 1)])
def test_learners_on_one_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, learners: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    module = data(num_workers="auto")
    module.share_cores(learners)
    assert module.num_workers == expected
    assert module.slots_per_worker == data(num_workers=expected).slots_per_worker
    fixed = data(num_workers=3)
    fixed.share_cores(learners)
    assert fixed.num_workers == 3


def test_workers_that_cannot_share_a_batch_are_refused_when_their_number_follows_from_the_learners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    module = data(num_workers="auto", synchronous=True, micro_batch_size=16, batch_size=96)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    with pytest.raises(ValueError, match=r"multiple of data.micro_batch_size × data.num_workers, got 96, 16 and 4$"):
        module.share_cores(2)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, "32-true"), ({"avx512_bf16": True}, "bf16-true"), ({"amx_bf16": True}, "bf16-true")],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    assert data(worker_precision="auto").worker_precision == expected
