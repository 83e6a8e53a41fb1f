"""Which runs are seeds of one configuration, what differs between configurations, and their names. Draws nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lightning_a3c.viewing.runs import Run

SEED = "seed_everything"

_PLACES = re.compile(
    r"name|seeds|ckpt_path|trainer\.default_root_dir|trainer\.logger(\..*)?|.*\.(dirpath|folder|save_dir)"
)
_MISSING = "–"


class Group(NamedTuple):
    """Runs that differ in nothing but their seeds and folders."""

    label: str
    runs: list[Run]

    @property
    def settings(self) -> dict[str, str]:
        """See `settings_of`."""
        return settings_of(self.runs[0])


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The runs by configuration, in the order in which they come; a run without configuration stands alone."""
    found: dict[Any, list[Run]] = {}
    for index, run in enumerate(runs):
        settings = settings_of(run)
        found.setdefault(tuple(settings.items()) if settings else index, []).append(run)
    groups = [Group(_label([run.name for run in members]), members) for members in found.values()]
    labels = [group.label for group in groups]
    return [
        group._replace(label=_distinct(group, groups)) if labels.count(group.label) > 1 else group for group in groups
    ]


def differences(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The settings in which groups differ: for each of these keys the value in every group."""
    settings = [group.settings for group in groups]
    keys = sorted({key for each in settings for key in each})
    table = {key: [each.get(key, _MISSING) for each in settings] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def settings_of(run: Run) -> dict[str, str]:
    """A run's configuration as text by dotted key, sorted, without its seed and the names of folders."""
    flat = dict(_flat(run.settings)) if run.settings else {}
    return {key: flat[key] for key in sorted(flat) if key != SEED and not _PLACES.fullmatch(key)}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a configuration; the arguments of a class stand under the key that names the class."""
    start = f"{key}." if key else ""
    if isinstance(value, Mapping) and "class_path" in value:
        yield key, str(value["class_path"]).rpartition(".")[2]
        if value.get("init_args"):
            yield from _flat(value["init_args"], key)
    elif isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{start}{name}")
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            path = item.get("class_path") if isinstance(item, Mapping) else None
            yield from _flat(item, f"{start}{str(path).rpartition('.')[2] if path else index}")
    elif value is not None:  # a setting that an older release did not have is null in most runs
        yield key, f"{value:g}" if isinstance(value, float) else str(value)


def _label(names: Sequence[str]) -> str:
    """What the names have in common, without the beginning of a seed or number: a_seed0, a_seed1 → a."""
    places = range(min(map(len, names)) + 1)
    common = next(names[0][:end] for end in reversed(places) if all(name.startswith(names[0][:end]) for name in names))
    if any(name != common for name in names):
        common = re.sub(r"[\W_]*(seed|version|run)?[\W_]*\d*$", "", common)
    return common or names[0]


def _distinct(group: Group, groups: Sequence[Group]) -> str:
    """The group's label with what sets it apart from those of the same label."""
    alike = [other for other in groups if other.label == group.label]
    place = alike.index(group)
    values = [f"{key.rpartition('.')[2]} {values[place]}" for key, values in differences(alike).items()]
    return f"{group.label}, {', '.join(values[:3])}" if values else f"{group.label} ({place + 1})"
