"""What the benchmarks' options may be. Anything else ends a script with one line, before it measures."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path


def duration(text: str) -> float:
    """Seconds or minutes, more than none."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"must be > 0 and finite, got {text}")
    return value


def count(text: str) -> int:
    """One or more."""
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"must be >= 1, got {text}")
    return value


def output_file(text: str) -> Path:
    """A file that can be written."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{text} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"{text}: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ArgumentTypeError(f"{text} cannot be written; name another file")
    return path


def figure_file(text: str) -> Path:
    """A file that matplotlib knows how to write."""
    from matplotlib.backend_bases import FigureCanvasBase

    path = output_file(text)
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ArgumentTypeError(f"{text} must end in one of {', '.join(f'.{suffix}' for suffix in sorted(known))}")
    return path
