"""What "auto" stands for on this machine."""

import pytest

from tests.small_runs import data


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 8)])
def test_auto_starts_a_worker_for_each_core_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert data(num_workers="auto").num_workers == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, "32-true"), ({"avx512_bf16": True}, "bf16-true"), ({"amx_bf16": True}, "bf16-true")],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    assert data(worker_precision="auto").worker_precision == expected
