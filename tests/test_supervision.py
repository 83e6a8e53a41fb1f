"""When failed workers may start again: rules worked by hand, and properties of any history of failures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_a3c.collection.config import Supervision
from lightning_a3c.collection.processes.supervision import Failure, FailureLog


def test_delays_double_with_each_failure_and_then_end() -> None:
    log = FailureLog(Supervision(max_restarts=3, first_delay=0.5))
    assert [log.record(Failure(float(t), 0, "died")) for t in range(4)] == [0.5, 1.0, 2.0, None]


def test_failures_outside_the_window_are_forgotten() -> None:
    log = FailureLog(Supervision(max_restarts=1, window=10, first_delay=1))
    assert [log.record(Failure(time, 0, "died")) for time in (0.0, 10.5, 21.0)] == [1, 1, 1]
    assert log.record(Failure(30.9, 0, "died")) is None
    assert log.total == 4


def test_each_worker_has_failures_of_its_own() -> None:
    log = FailureLog(Supervision(max_restarts=1))
    assert log.record(Failure(0.0, 0, "died")) is not None
    assert log.record(Failure(0.0, 1, "died")) is not None
    assert log.record(Failure(1.0, 1, "died")) is None


def test_the_summary_has_the_last_reasons() -> None:
    log = FailureLog(Supervision(max_restarts=9))
    for time, reason in enumerate(("first", "second", "third", "fourth")):
        log.record(Failure(float(time), 0, reason))
    assert log.summary() == "second\nthird\nfourth"


BAD = "ValueError: bad\nin Env-v0, sub-environment 1"


def raised(rank: int, error: str = BAD, place: str = "Traceback:\n") -> Failure:
    return Failure(0.0, rank, f"collector {rank} raised", error, place)


def test_a_traceback_is_told_once_and_each_exception_with_its_notes() -> None:
    log = FailureLog(Supervision())
    assert log.describe(raised(0)) == "collector 0 raised:\nTraceback:\nValueError: bad\nin Env-v0, sub-environment 1"
    assert log.describe(raised(1, "ValueError: worse\nin Env-v0, sub-environment 0")) == (
        "collector 1 raised (traceback logged above): ValueError: worse; in Env-v0, sub-environment 0"
    )
    assert log.describe(raised(1, "KeyError: 3", "Traceback elsewhere:\n")) == (
        "collector 1 raised:\nTraceback elsewhere:\nKeyError: 3"
    )


def test_the_summary_gives_failures_that_are_alike_once_with_how_often_they_happened() -> None:
    log = FailureLog(Supervision(max_restarts=9))
    for failure in (raised(0), raised(1), raised(0), Failure(0.0, 1, "collector 1 died"), raised(0, "ValueError: odd")):
        log.record(failure)
    who = "collector 0 raised 3 times, collector 1 raised"
    errors = "ValueError: bad\nin Env-v0, sub-environment 1\nValueError: odd"
    assert log.summary() == f"collector 1 died\n{who}:\nTraceback:\n{errors}"
    log.describe(raised(1))
    assert log.summary() == f"collector 1 died\n{who} (traceback logged above):\n{errors}"


@pytest.mark.parametrize(
    ("name", "value", "bound"), [("max_restarts", -1, ">= 0"), ("window", 0, "> 0"), ("timeout", -2.0, "> 0")]
)
def test_values_out_of_range_are_refused(name: str, value: float, bound: str) -> None:
    with pytest.raises(ValueError, match=f"data.supervision.{name} must be {bound}, got {value}"):
        Supervision(**{name: value})


@given(
    st.integers(0, 4),
    st.floats(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2)), min_size=1, max_size=60),
)
def test_no_worker_is_started_more_often_in_a_window_than_allowed(
    max_restarts: int, window: float, failures: list[tuple[float, int]]
) -> None:
    log = FailureLog(Supervision(max_restarts, window))
    now, starts = 0.0, []
    for wait, rank in failures:
        now += wait
        if log.record(Failure(now, rank, "")) is not None:
            starts.append((now, rank))
    for end, _ in starts:
        for rank in range(3):
            assert sum(own == rank and 0 <= end - at <= window for at, own in starts) <= max_restarts
