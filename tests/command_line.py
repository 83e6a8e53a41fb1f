"""The command line in the tests' own process, which spares each call several seconds of imports."""

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from lightning_a3c.__main__ import main

LIGHTNING_LOG = "pytorch_lightning"
HANDLERS = {  # of a new process
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


class Done(NamedTuple):
    """What is left of a command line that has run."""

    returncode: int
    stdout: str
    stderr: str


def lightning_a3c(*args: str, folder: Path) -> Done:
    """Run `lightning-a3c` with `args` in `folder`, as a process of its own would, and leave this one as it was."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: object = 0
    printed = contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr)
    with _process_restored(), _logged_to(stderr), contextlib.chdir(folder), printed[0], printed[1]:
        sys.argv = ["lightning-a3c", *args]
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    if isinstance(code, str):
        print(code, file=stderr)
    return Done(int(bool(code)) if not isinstance(code, int) else code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _process_restored() -> Iterator[None]:
    argv, path, excepthook = sys.argv, [*sys.path], threading.excepthook
    handlers = {number: signal.signal(number, handler) for number, handler in HANDLERS.items()}
    with mock.patch.dict(os.environ), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _print_warning  # rather than raise it, as pytest would
        try:
            yield
        finally:
            sys.argv, sys.path[:], threading.excepthook = argv, path, excepthook
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _print_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    print(warnings.formatwarning(message, category, filename, lineno), file=sys.stderr)


@contextlib.contextmanager
def _logged_to(stream: io.StringIO) -> Iterator[None]:
    handler = logging.StreamHandler(stream)
    lightning = logging.getLogger(LIGHTNING_LOG)
    loggers = [logging.getLogger()] if lightning.propagate else [logging.getLogger(), lightning]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
