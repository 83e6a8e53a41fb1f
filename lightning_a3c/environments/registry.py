"""Gymnasium's registry as another process needs it, which does not run this one's script.

Knows nothing of what is played.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

import cloudpickle
import gymnasium
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator

from lightning_a3c.environments.checks import in_one_line

_PLAIN = (type(None), bool, int, float, str)


class PortableRegistry(NamedTuple):
    """A process's registry, pickled in pieces, so that one that cannot be loaded harms no other."""

    plain: bytes  # specs without classes or functions: nearly all, and quick to pickle
    others: list[bytes]  # one spec each
    main: list[bytes]  # a name and what the script, `__main__`, calls by it, each


def portable_registry() -> PortableRegistry:
    """This process's registry, but for specs that cannot be pickled. Takes milliseconds for a thousand specs."""
    specs = list(gymnasium.registry.values())
    plain = [spec for spec in specs if _is_plain(spec)]
    others = [spec for spec in specs if not _is_plain(spec)]
    names = {name for spec in specs for name in _names_in_main(spec)}
    return PortableRegistry(
        cloudpickle.dumps(plain),
        list(_pickled(others)),
        list(_pickled((name, load_env_creator(f"__main__:{name}")) for name in names)),
    )


def register_specs(registry: PortableRegistry, own: EnvSpec) -> None:
    """Make this process's registry say what another's does.

    Args:
        registry: of the other process.
        own: the spec that is needed here; what it names is imported first, since most packages register their
            environments when they are imported, and would overwrite what a script has changed.
    """
    # the learner has heard them when it tried the environment; and packages imported later register theirs again
    warnings.filterwarnings("ignore", module=r"gymnasium\.(utils\.passive_env_checker|envs\.registration)")
    if isinstance(own.entry_point, str) and not own.entry_point.startswith("__main__:"):
        import_module(own.entry_point.partition(":")[0])
    for pickled in registry.main:
        with suppress(Exception):  # whatever a script's classes need and this process lacks
            name, thing = cloudpickle.loads(pickled)
            setattr(sys.modules["__main__"], name, thing)
    for spec in cloudpickle.loads(registry.plain):
        if gymnasium.registry.get(spec.id) != spec:  # equal ones are shared with the fork server
            gymnasium.registry[spec.id] = spec
    for pickled in registry.others:
        with suppress(Exception):
            spec = cloudpickle.loads(pickled)
            gymnasium.registry[spec.id] = spec
    gymnasium.registry[own.id] = own


def _pickled(things: Iterator[Any] | list[Any]) -> Iterator[bytes]:
    """Those of `things` that can be pickled."""
    for thing in things:
        with suppress(Exception):  # whatever pickling meets
            yield cloudpickle.dumps(thing)


def _names_in_main(spec: EnvSpec) -> Iterator[str]:
    for entry_point in (spec.entry_point, *(wrapper.entry_point for wrapper in spec.additional_wrappers)):
        module, _, name = entry_point.partition(":") if isinstance(entry_point, str) else ("", "", "")
        if module == "__main__" and hasattr(sys.modules["__main__"], name):
            yield name


def _is_plain(value: Any) -> bool:
    """Whether pickling takes along nothing but numbers, texts and specs."""
    if isinstance(value, EnvSpec | WrapperSpec):
        return all(map(_is_plain, vars(value).values()))
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def spec_of(env_id: str) -> Any:
    """Gymnasium's spec of an id; raises ValueError, with the nearest known ids, if there is none."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
    except Exception as error:  # whatever someone's module raises
        what = str(error) if isinstance(error, ImportError) else in_one_line(error)
        raise ValueError(
            f"env.id {env_id!r} is not a known environment: {module} cannot be imported: {what}"
        ) from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(env_id, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`gymnasium.pprint_registry()` lists the known ones"
        raise ValueError(f"env.id {env_id!r} is not a known environment; {hint}") from error
