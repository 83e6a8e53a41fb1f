"""`lightning-a3c` and `python -m lightning_a3c`: which command is meant."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper

from lightning_a3c.collection.processes import fork_server
from lightning_a3c.command_line import tools
from lightning_a3c.command_line.arguments import wants_seeds
from lightning_a3c.command_line.overview import overview, require_command
from lightning_a3c.command_line.usage_errors import PROGRAM
from lightning_a3c.system.files import discard_output, is_broken_pipe
from lightning_a3c.version import __version__


def main(args: list[str] | None = None) -> None:
    """Run a command line, that of the process if `args` is None.

    Modules in the current folder are found, as with `python -m`, unless an installed one has the same name.
    """
    with suppress(FileNotFoundError):  # the current folder was removed
        if os.getcwd() not in sys.path and not sys.flags.safe_path:
            sys.path.append(os.getcwd())  # before the fork server starts, whose workers inherit it
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # where the locale has no γ, help is to be had too
    try:
        _run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        if not is_broken_pipe(sys.stdout):
            raise
        discard_output()
        raise SystemExit(128 + signal.SIGPIPE) from None  # as of any program whose reader has gone


def _run(args: list[str] | None) -> None:
    given = sys.argv[1:] if args is None else args
    if given in (["-h"], ["--help"], ["--version"]):
        print(f"{PROGRAM} {__version__}" if given == ["--version"] else overview(), flush=True)
        raise SystemExit
    require_command(given)
    if given[0] in tools.COMMANDS:
        return tools.run(*given)
    if wants_seeds(given):
        from lightning_a3c.command_line.seeds import fit_seeds

        return fit_seeds(given)
    if given[:1] == ["fit"]:
        with suppress(OSError):  # the pool tries again, and explains
            fork_server.start_fork_server()  # imports what workers need while this process imports Lightning
    was_enabled = gc.isenabled()
    gc.disable()  # an eighth of the time that importing takes, and nothing is garbage yet
    try:
        from lightning_a3c.command_line import train_commands
    finally:
        if was_enabled:
            gc.enable()
    train_commands.run(args)


if __name__ == "__main__":
    main()
