"""Checks of `A3CModule`'s arguments that need no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_a3c.system.argument_checks import require_number, require_switch, require_whole

_SPEC_KEYS = {"class_path", "init_args", "dict_kwargs"}  # the last is jsonargparse's


def check_arguments(
    mode: object,
    log_std: object,
    specs: Mapping[str, object],
    numbers: Mapping[str, object],
    switches: Mapping[str, object],
    max_skipped_in_a_row: Any,
) -> None:
    """Raise ValueError, naming the argument, for one of the wrong type or out of range.

    Args:
        mode: "data", "gradient" or None.
        log_std: "parameter" or "head".
        specs: by argument, `{"class_path": …, "init_args": {…}}` or None.
        numbers: by argument, a number or None.
        switches: by argument, true or false.
        max_skipped_in_a_row: a whole number from 1.
    """
    if mode not in ("data", "gradient", None):
        raise ValueError(f'mode must be "data", "gradient" or None, got {mode!r}')
    if log_std not in ("parameter", "head"):
        raise ValueError(f'log_std must be "parameter" or "head", got {log_std!r}')
    for name, spec in specs.items():
        _check_spec(name, spec)
    for name, number in numbers.items():
        if number is not None:
            require_number(name, number)
    for name, switch in switches.items():
        require_switch(name, switch)
    require_whole("max_skipped_in_a_row", max_skipped_in_a_row)
    if max_skipped_in_a_row < 1:
        raise ValueError(f"max_skipped_in_a_row must be >= 1, got {max_skipped_in_a_row}")


def _check_spec(name: str, spec: Any) -> None:
    if spec is None:
        return
    if not (isinstance(spec, Mapping) and "class_path" in spec):
        raise ValueError(f'{name} must be {{"class_path": ..., "init_args": {{...}}}}, got {spec!r}')
    if unknown := set(spec) - _SPEC_KEYS:
        raise ValueError(f"{name} has {min(unknown)!r}, which is neither class_path nor init_args: {spec!r}")
