"""Types of arguments that Python would take in silence or fail on later. Knows no particular argument."""

from __future__ import annotations

from numbers import Integral, Real


def require_whole(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")


def require_number(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {value!r}")


def require_switch(name: str, value: object) -> None:
    """Raise ValueError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
