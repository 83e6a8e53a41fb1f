"""Writing files whole or not at all, and recognising incomplete checkpoints. Knows no format but zip."""

from __future__ import annotations

import errno
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO
from zipfile import ZipFile, is_zipfile

_FULL_BYTES = 2**16  # a disk with less free space is full
_SHARDED = ("meta.pt", "latest", ".metadata")  # each folder of shards from Lightning or torch holds one of these

_REFUSALS = {  # errors of a disk or file system, which the user can fix; other numbers may come from a bug
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


class NotWritable(OSError):
    """A file cannot be written to the path that the user chose."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Create the folder of `path` and give a temporary path, with the same suffix, that replaces `path` at the end.

    If the block raises, `path` is unchanged and the temporary file is removed. A process killed inside the block leaves
    its temporary file.

    Raises:
        NotWritable: the folder cannot be created or the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise NotWritable(f"cannot write {path}: {_reason(error, path.parent)}; choose another place") from error
    finally:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` at the end; if the block raises, nothing stays.

    An empty folder at `path` is kept, and gets the files.

    Raises:
        NotWritable: `path` exists and is not an empty folder, or cannot be written.
    """
    path = Path(path)
    is_there = path.exists() or path.is_symlink()
    if is_there and (not path.is_dir() or any(path.iterdir())):
        raise NotWritable(f"{path} already exists and is not an empty folder; choose another place")
    partial = (path if is_there else path.absolute().parent) / f".{path.name or 'folder'}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        yield partial
        if is_there:
            for file in sorted(partial.iterdir()):
                file.rename(path / file.name)
        else:
            partial.rename(path)
    except OSError as error:
        if isinstance(error, NotWritable):
            raise
        raise NotWritable(f"cannot write {path}: {_reason(error, path.parent)}; choose another place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reason(error: OSError, folder: Path) -> str:
    """Why a file could not be written to `folder`, in one line. Programs such as ffmpeg do not always say."""
    if error.strerror:
        return error.strerror
    if folder.is_dir() and shutil.disk_usage(folder).free < _FULL_BYTES:
        return os.strerror(errno.ENOSPC)
    return " ".join(str(error).split())


def write_beside(path: str | Path, text: str) -> Path:
    """Write `text` to `path`, or if that exists to the first free one of `name_1`, `name_2`, …; return the path.

    Writes nothing if one of these files already holds `text`.

    Raises:
        NotWritable: the folder cannot be created or the file cannot be written.
    """
    path = Path(path)
    for number in count():
        candidate = path.with_stem(f"{path.stem}_{number}") if number else path
        try:
            is_taken = candidate.exists() or candidate.is_symlink()
            if is_taken and candidate.is_file() and candidate.read_bytes() == text.encode():
                return candidate
        except OSError as error:
            raise NotWritable(f"cannot write {candidate}: {error.strerror or error}; choose another place") from error
        if not is_taken:
            with atomic_write(candidate) as partial:
                partial.write_text(text, encoding="utf-8")
            return candidate
    raise AssertionError  # `count` is infinite


def refusal(error: OSError) -> str | None:
    """A one-line message for an error of the disk or file system; None for other errors."""
    if isinstance(error, NotWritable):
        return str(error)
    if error.errno not in _REFUSALS:
        return None
    place = error.filename or "a file of the run (logs, configuration or videos)"
    return f"cannot write {place}: {error.strerror}; choose another place"


def discard_output() -> None:
    """Send standard output nowhere from now on: its reader has gone, and Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_broken_pipe(stream: IO[str]) -> bool:
    """Whether the reader of `stream` has closed it."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def require_checkpoint(path: str | Path) -> None:
    """Raise ValueError unless `path` is a complete checkpoint file or the folder of a sharded checkpoint."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"ckpt_path {path} does not exist")
    if path.is_dir():
        if any((path / name).exists() for name in _SHARDED):
            return
        checkpoints = sorted(path.glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
        hint = f"name a file in it, such as {checkpoints[-1]}" if checkpoints else "it holds no *.ckpt"
        raise ValueError(f"ckpt_path {path} is a folder; {hint}")
    if not is_zipfile(path):
        raise ValueError(f"ckpt_path {path} is not a whole checkpoint; was it cut off while copied?")
    with ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        content = archive.read(names[0]) if names else b""
    is_foreign = b"hyper_parameters" in content and b"observation_shape" not in content
    if b"state_dict" not in content or is_foreign:
        raise ValueError(f"ckpt_path {path} is not a checkpoint of this package")
