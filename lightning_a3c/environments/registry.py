"""Gymnasium's registry: looking up ids, and sending it to processes that do not run the user's script.

Knows no preprocessing.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import cloudpickle
import gymnasium
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator

from lightning_a3c.environments.checks import in_one_line
from lightning_a3c.environments.envpool_only import register_task, similar_tasks, why_unknown

_PLAIN = (type(None), bool, int, float, str)
_EXTRAS = ("box2d", "mujoco", "minigrid", "minatar")  # of this package, each named after what it installs


class PortableRegistry(NamedTuple):
    """A process's registry, pickled in pieces, so that a spec that cannot be loaded does not affect others."""

    plain: bytes  # specs without classes or functions: nearly all, and quick to pickle
    others: list[bytes]  # one spec each
    main: list[bytes]  # one pair each: a name in `__main__`, the user's script, and the object it refers to


def portable_registry() -> PortableRegistry:
    """This process's registry without the specs that cannot be pickled. Takes milliseconds for a thousand specs."""
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
    """Copy another process's registry into this one's.

    Args:
        registry: the other process's registry.
        own: the spec of the environment to build here. Its module is imported first: most packages register their
            environments on import, which would overwrite changes that the script has made.
    """
    # the learner has shown these warnings; and packages imported later register their environments again
    warnings.filterwarnings("ignore", module=r"gymnasium\.(utils\.passive_env_checker|envs\.registration)")
    if isinstance(own.entry_point, str) and not own.entry_point.startswith("__main__:"):
        import_module(own.entry_point.partition(":")[0])
    for pickled in registry.main:
        with suppress(Exception):  # a script's classes may need something that this process lacks
            name, value = cloudpickle.loads(pickled)
            setattr(sys.modules["__main__"], name, value)
    for spec in cloudpickle.loads(registry.plain):
        if gymnasium.registry.get(spec.id) != spec:  # keep equal ones, whose memory the fork server shares
            gymnasium.registry[spec.id] = spec
    for pickled in registry.others:
        with suppress(Exception):
            spec = cloudpickle.loads(pickled)
            gymnasium.registry[spec.id] = spec
    gymnasium.registry[own.id] = own


def _register_plugins() -> None:
    """Register the environments that packages such as MinAtar declare by the entry point `gymnasium.envs`."""
    for plugin in entry_points(group="gymnasium.envs"):
        with suppress(Exception):  # another package's fault should not hide the message about the id
            register = plugin.load()
            if callable(register):
                register()


def _pickled(values: Iterator[Any] | list[Any]) -> Iterator[bytes]:
    """Pickle those of `values` that can be pickled."""
    for value in values:
        with suppress(Exception):  # pickling may raise anything
            yield cloudpickle.dumps(value)


def _names_in_main(spec: EnvSpec) -> Iterator[str]:
    for entry_point in (
        spec.entry_point,
        spec.vector_entry_point,
        *(wrapper.entry_point for wrapper in spec.additional_wrappers),
    ):
        module, _, name = entry_point.partition(":") if isinstance(entry_point, str) else ("", "", "")
        if module == "__main__" and hasattr(sys.modules["__main__"], name):
            yield name


def _is_plain(value: Any) -> bool:
    """Whether `value` consists of numbers, strings and specs alone."""
    if isinstance(value, EnvSpec | WrapperSpec):
        return all(map(_is_plain, vars(value).values()))
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def spec_of(env_id: str) -> Any:
    """Gymnasium's spec of an id; raises ValueError with the most similar ids if there is none."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
    except Exception as error:  # a user's module may raise anything
        reason = str(error) if isinstance(error, ImportError) else in_one_line(error)
        raise ValueError(
            f"env.id {env_id!r} is not a known environment: {module} cannot be imported: {reason}"
            f"{hint_at_extra(module)}"
        ) from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        _register_plugins()
        try:
            has_it = name in gymnasium.registry or register_task(name)
        except ValueError as lacking:
            raise ValueError(f"env.id {env_id!r}: {lacking}") from lacking
        if has_it:
            return gymnasium.spec(name)
        similar = difflib.get_close_matches(name, [*gymnasium.registry, *similar_tasks(name)], n=3, cutoff=0.7)
        near = [env_id.removesuffix(name) + known for known in similar]
        hint = f"did you mean {' or '.join(near)}?" if near else "`gymnasium.pprint_registry()` lists the known ones"
        if not module:
            hint += f"{' O' if near else '; o'}ne of your own takes its module: my_module:{name}"
        hint += f"; {clause}" if (clause := why_unknown(name)) and not near else ""
        package = name.rpartition("/")[0]
        is_installed = any(known.startswith(f"{package}/") for known in gymnasium.registry)
        extra = "" if is_installed else hint_at_extra(package)
        raise ValueError(f"env.id {env_id!r} is not a known environment{extra or f'; {hint}'}") from error


def hint_at_extra(text: str) -> str:
    """`; pip install …`, if `text` names a package that an extra of this package installs; otherwise empty."""
    found = next((extra for extra in _EXTRAS if extra in text.lower()), None)
    return f"; pip install 'lightning-a3c[{found}]'" if found else ""
