"""Writing files whole or not at all, and noticing those that are not whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import is_zipfile

_ABANDONED_SECONDS = 600.0  # nobody who still writes pauses for so long


class NotWritable(OSError):
    """A file cannot be written where it was asked for."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, that becomes `path` when the block ends well.

    When it does not, what was at `path` stays and the temporary file is removed. The folder is made. A process killed
    inside the block leaves its temporary file, which later writes into the same folder remove.

    Raises:
        NotWritable: the folder cannot be made, or the file not written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise NotWritable(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    finally:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    # by age: process ids mean nothing to other machines that share the folder
    for partial in folder.glob(".*.partial-[0-9]*"):
        with suppress(OSError):  # another process may be faster
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def require_checkpoint(path: str | Path) -> None:
    """Raise ValueError unless `path` is a checkpoint that was written to its end, or a folder of a sharded one."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"ckpt_path {path} does not exist")
    if path.is_file() and not is_zipfile(path):
        raise ValueError(f"ckpt_path {path} is not a whole checkpoint; was it cut off while copied?")
