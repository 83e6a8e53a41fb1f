"""`lightning-a3c` and `python -m lightning_a3c`: which command is meant."""

from __future__ import annotations

import gc
import sys

from lightning_a3c import commands, fork_server


def main(args: list[str] | None = None) -> None:
    """Run a command line, that of the process if `args` is None."""
    given = sys.argv[1:] if args is None else args
    if given and given[0] in commands.COMMANDS:
        return commands.run(*given)
    if given[:1] == ["fit"]:
        fork_server.start()  # imports what workers need while this process imports Lightning
    was_enabled = gc.isenabled()
    gc.disable()  # an eighth of the time that importing takes, and nothing is garbage yet
    try:
        from lightning_a3c import trainer_command
    finally:
        if was_enabled:
            gc.enable()
    trainer_command.run(args)


if __name__ == "__main__":
    main()
