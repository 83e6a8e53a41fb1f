"""Counting updates or gradients that are left out because they are NaN or infinite."""

from __future__ import annotations


class NonFiniteLoss(RuntimeError):
    """Losses or gradients stay NaN or infinite."""


class NonFiniteCounter:
    """Counts what is left out, in all and in a row.

    >>> counter = NonFiniteCounter(most_in_a_row=2)
    >>> counter.leave_out("an update")
    >>> counter.accept()
    >>> counter.leave_out("an update")
    >>> counter.total
    2

    Args:
        most_in_a_row: this many with no good one between them raise.
    """

    def __init__(self, most_in_a_row: int) -> None:
        self.most_in_a_row = most_in_a_row
        self.total = 0
        self._in_a_row = 0

    def accept(self) -> None:
        """A good one came."""
        self._in_a_row = 0

    def leave_out(self, problem: str) -> None:
        """Count one that is left out.

        Args:
            problem: completes "3 in a row: …" in the error.

        Raises:
            NonFiniteLoss: there were too many in a row.
        """
        self.total += 1
        self._in_a_row += 1
        if self._in_a_row >= self.most_in_a_row:
            raise NonFiniteLoss(
                f"{self._in_a_row} in a row: {problem}; the weights are those of the last good update; lower the "
                "learning rate or check the environment's rewards and observations"
            )
