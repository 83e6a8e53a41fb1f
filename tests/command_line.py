"""Command lines and scripts in the tests' own process, which spares each call several seconds of imports."""

import contextlib
import io
import logging
import os
import runpy
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import gymnasium

from lightning_a3c import __main__ as program
from lightning_a3c.command_line.cli import A3CCLI

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


def main(args: list[str]) -> None:
    """Run a command line."""
    with _parser_of(args[0]):
        program.main(args)


def lightning_a3c(*args: str, folder: Path) -> Done:
    """Run `lightning-a3c` with `args` in `folder`, as a process of its own would, and leave this one as it was."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: object = 0
    printed = contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr)
    restored = _process_restored(), contextlib.chdir(folder), _parser_of(args[0])
    with restored[0], _logged_to(stderr), restored[1], restored[2], printed[0], printed[1]:
        sys.argv = ["lightning-a3c", *args]
        try:
            program.main()
        except SystemExit as stop:
            code = stop.code
    if isinstance(code, str):
        print(code, file=stderr)
    return Done(int(bool(code)) if not isinstance(code, int) else code, stdout.getvalue(), stderr.getvalue())


def run_script(path: Path) -> None:
    """Run a script in its own folder, and forget the modules that it imports from there."""
    with _process_restored(), contextlib.chdir(path.parent), mock.patch.dict(gymnasium.registry):
        sys.path.insert(0, str(path.parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            for name in [file.stem for file in path.parent.glob("*.py")]:
                sys.modules.pop(name, None)


@contextlib.contextmanager
def _parser_of(command: str) -> Iterator[None]:
    """Build the parser of this command only; those of the other three take most of the time of a short call."""
    commands = A3CCLI.subcommands()
    own = {name: skipped for name, skipped in commands.items() if name == command} or commands
    with mock.patch.object(A3CCLI, "subcommands", staticmethod(lambda: own)):
        yield


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
