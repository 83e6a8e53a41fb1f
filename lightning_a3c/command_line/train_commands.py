"""The commands `fit`, `validate`, `test` and `predict`: `A3CCLI` with defaults, exit codes and one-line errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from jsonargparse import set_parsing_settings
from lightning_utilities.core import rank_zero
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException  # type: ignore[attr-defined]

from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory
from lightning_a3c.command_line.child_runs import FEED
from lightning_a3c.command_line.cli import A3CCLI
from lightning_a3c.command_line.overview import EXAMPLES
from lightning_a3c.command_line.parser import OneLineLightningParser
from lightning_a3c.command_line.run_feed import RunFeed
from lightning_a3c.command_line.usage_errors import PROGRAM
from lightning_a3c.learning.checkpoints import NotACheckpoint
from lightning_a3c.learning.non_finite import NonFiniteLoss
from lightning_a3c.learning.observation_file import ObservationMismatch
from lightning_a3c.learning.peers import PeerError, is_lost_peer
from lightning_a3c.learning.restoring import CheckpointMismatch
from lightning_a3c.learning.stopping import StopOnSignal
from lightning_a3c.system.files import refusal
from lightning_a3c.version import __version__
from lightning_a3c.viewing.progress_bar import ProgressLines
from lightning_a3c.viewing.test_results import SaveTestResults, WritePredictions

ERRORS = (
    *(CheckpointMismatch, MisconfigurationException, NoFreeSharedMemory, NonFiniteLoss, NotACheckpoint, PeerError),
    *(ObservationMismatch, WorkerError),
)


def run(args: list[str] | None) -> None:
    """Run Lightning's command line on `args`, or on the arguments of the process.

    Raises:
        SystemExit: with a message for errors that the user can fix; with 128 + the signal's number after a signal.
    """
    stop_on_signal = StopOnSignal()
    threading.excepthook = _report_thread
    feed = [RunFeed(Path(os.environ.pop(FEED)))] if FEED in os.environ else []
    _hide_what_no_user_can_change()
    set_parsing_settings(add_print_completion_argument=True)
    commands = A3CCLI.subcommands()
    given = sys.argv[1:] if args is None else args
    if given[0].startswith("--print_completion") and find_spec("shtab") is None:
        raise SystemExit(f"{PROGRAM}: --print_completion needs shtab: pip install 'lightning-a3c[completion]'")
    if given[0] in commands:
        commands = {given[0]: commands[given[0]]}  # the parsers of the others would take seconds
    try:
        _CLI(
            commands,
            feed,
            args=args,
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": [ProgressLines(), SaveTestResults(), WritePredictions(), stop_on_signal, *feed],
                "devices": 1,  # Lightning would take every GPU
            },
            parser_kwargs={
                "prog": PROGRAM,
                "version": __version__,
                **{command: _help_of(command) for command in commands},
            },
        )
    except SIGTERMException:
        raise SystemExit(128 + stop_on_signal.received) from None  # Lightning alone would report success
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning exits with 1 here
            raise SystemExit(128 + signal.SIGINT) from None
        raise
    except UnpicklingError as error:  # a checkpoint holds more than tensors and plain values
        raise SystemExit(f"{PROGRAM}: {str(error).splitlines()[0]}") from None
    except ERRORS as error:
        raise SystemExit(f"{PROGRAM}: {error}") from None
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise SystemExit(
            f"{PROGRAM}: another learner ended, or did not answer within the timeout of trainer.strategy; its own "
            f"messages say why: {str(error).splitlines()[0]}"
        ) from None
    except OSError as error:
        if (message := refusal(error)) is None:
            raise
        raise SystemExit(f"{PROGRAM}: {message}") from None


def _help_of(command: str) -> dict[str, str]:
    purpose, example = EXAMPLES[command]
    return {"usage": f"{PROGRAM} {command} [options]", "description": f"{purpose}, as in `{PROGRAM} {example}`"}


class _CLI(A3CCLI):
    """An `A3CCLI` with some of its commands, which tells the process that started it where the run's files are."""

    def __init__(self, commands: dict[str, set[str]], feed: Sequence[RunFeed], **options: Any) -> None:
        self._commands = commands
        self._feed = feed
        super().__init__(**options)

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        super().setup_parser(*args, **kwargs)
        if len(self._commands) > 1:  # no command is run, but completed
            assert isinstance(self.parser, OneLineLightningParser)
            for name, (purpose, _) in EXAMPLES.items():
                if name not in self._commands:
                    self.parser.commands.add_subcommand(name, OneLineLightningParser(), help=purpose)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        return self._commands

    def on_run_folder(self, folder: Path) -> None:
        for each in self._feed:
            each.tell(folder=str(folder))


def _hide_what_no_user_can_change() -> None:
    """Hide Lightning's advertisements, and warnings about its own code and about the folder of a resumed run."""
    rank_zero.log.addFilter(_is_no_advertisement)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("💡 Tip")


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, except TensorBoard's, whose errors also reach the main thread."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(failed)
