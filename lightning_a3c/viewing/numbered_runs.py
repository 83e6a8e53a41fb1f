"""The run folders `runs/NAME/N`: taking the next number, finding the newest and its checkpoints. Knows no trainer."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from pathlib import Path

from lightning_a3c.system.files import NotWritable

ROOT = "runs"
CHECKPOINTS = "checkpoints"
_NAMES = {name: re.compile(rf"{name}(-v?\d+)?\.ckpt") for name in ("last", "best")}


class RunFolder:
    """The folder of one run, held by this process until it is closed, so that no other run writes there.

    Args:
        path: an existing folder.
        made: the folders that were made for the run, outermost first.

    Raises:
        BlockingIOError: another process holds the folder.
    """

    def __init__(self, path: Path, made: Iterable[Path] = ()) -> None:
        self.path = path
        self._made = [*made]
        self._lock: int | None = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise
        except OSError:  # a file system without locks
            pass

    @classmethod
    def next_in(cls, parent: Path) -> RunFolder:
        """Make the folder with the next free number, from 1.

        Raises:
            OSError: the folder cannot be made.
        """
        made = [folder for folder in reversed((parent, *parent.parents)) if not folder.exists()]
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # a place where nobody can make folders, such as /proc
            raise NotWritable(f"cannot write {parent}: {error.strerror}; choose another place") from error
        while True:
            number = max((int(folder.name) for folder in numbered(parent)), default=0) + 1
            try:
                (parent / str(number)).mkdir()
            except FileExistsError:  # of a run that started at the same moment, or a file of that name
                if not (parent / str(number)).is_dir():
                    raise
                continue
            return cls(parent / str(number), [*made, parent / str(number)])

    def close(self) -> None:
        """Let go of the folder, and remove what was made for a run that has written nothing; may be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:  # it holds something
                break
        self._made = []


def numbered(parent: Path) -> list[Path]:
    """The run folders in `parent`, by number."""
    if not parent.is_dir():
        return []
    found = [path for path in parent.iterdir() if re.fullmatch(r"\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def run_folder_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in, None if it lies elsewhere."""
    folder = Path(os.path.abspath(checkpoint)).parent
    is_run = folder.name == CHECKPOINTS and folder.parent.name.isdecimal()
    return checkpoint.parent.parent if is_run else None


def checkpoints_by_name(name: str, folders: Iterable[Path]) -> list[Path]:
    """The checkpoints called `name`, which is "last" or "best", in `folders`."""
    return [
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if _NAMES[name].fullmatch(path.name)
    ]


def newest_checkpoint(name: str, root: Path) -> Path | None:
    """The newest checkpoint called `name` of all runs in `root`, which is `runs` or a folder in it."""
    parents = [root, *(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    folders = [parent / CHECKPOINTS for parent in parents]  # where releases without run folders had them
    folders += [run / CHECKPOINTS for parent in parents for run in numbered(parent)]
    return newest(checkpoints_by_name(name, folders))


def newest(paths: Iterable[Path]) -> Path | None:
    """The path that was written last."""
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
