"""Why collectors end a run, or cannot be started, in words. Knows no process."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory


class WorkerError(RuntimeError):
    """A collector process raised, died or hung, and may not be restarted."""


@contextmanager
def os_errors_explained() -> Iterator[None]:
    """Turn an OSError of the block into a WorkerError that says what to change."""
    try:
        yield
    except NoFreeSharedMemory:
        raise
    except OSError as error:
        raise WorkerError(f"collectors cannot be started: {refusal_of(error)}") from error


def refusal_of(error: Exception) -> str:
    """Why the system refuses to start a worker."""
    if isinstance(error, EOFError | ConnectionError):
        return "the fork server ended; the system may allow no more processes (`ulimit -u`) or files (`ulimit -n`)"
    if "AF_UNIX path too long" in str(error):
        return (
            f"the path of the temporary folder {tempfile.gettempdir()} is too long for a socket; set a shorter TMPDIR"
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the current folder was removed; change to one that exists"
    out_of_files = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return f"{error}; allow more with `ulimit -n`, or lower data.num_workers" if out_of_files else str(error)
