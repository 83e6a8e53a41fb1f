"""The configurations that come with the package, by name. Knows no option."""

from __future__ import annotations

from pathlib import Path

import lightning_a3c

_PACKAGE = Path(lightning_a3c.__file__).parent


def shipped_configs() -> dict[str, Path]:
    """The files by name, such as suite/continuous, in alphabetical order.

    A wheel holds them in the package, a checkout beside it.
    """
    places = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
    folder = next((place for place in places if place.is_dir()), places[0])
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(files.items()))


def summary(path: Path) -> str:
    """What a configuration is for: the first line, a comment."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
