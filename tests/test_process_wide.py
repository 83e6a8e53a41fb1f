"""Settings that several fits change at once."""

from contextlib import ExitStack

import pytest

from lightning_a3c.system.process_wide import ProcessWideSetting


def test_the_last_user_puts_back_what_was_there_before_the_first() -> None:
    value = ["own"]

    def change() -> str:
        before, value[0] = value[0], "changed"
        return before

    changed = ProcessWideSetting(change, lambda before: value.__setitem__(0, before))
    first, second = ExitStack(), ExitStack()
    assert first.enter_context(changed.applied()) == "own"
    assert second.enter_context(changed.applied()) == "own"
    first.close()
    assert value == ["changed"]
    second.close()
    assert value == ["own"]


def test_an_error_within_it_undoes_the_change() -> None:
    value: list[int] = []
    changed = ProcessWideSetting(lambda: value.append(1), lambda _: value.clear())
    with pytest.raises(EOFError), changed.applied():
        raise EOFError
    assert value == []
