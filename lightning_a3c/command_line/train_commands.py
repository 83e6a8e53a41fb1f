"""The commands `fit`, `validate`, `test` and `predict`: `A3CCLI` with defaults, exit codes and one-line errors."""

from __future__ import annotations

import signal
import threading
from pickle import UnpicklingError

from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException  # type: ignore[attr-defined]

from lightning_a3c.collection.processes.pool import WorkerError
from lightning_a3c.collection.shared_tensors import NoFreeSharedMemory
from lightning_a3c.command_line.cli import A3CCLI
from lightning_a3c.command_line.tools import COMMANDS
from lightning_a3c.command_line.usage_errors import PROGRAM
from lightning_a3c.learning.checkpoints import NotACheckpoint
from lightning_a3c.learning.non_finite import NonFiniteLoss
from lightning_a3c.learning.peers import PeerError
from lightning_a3c.learning.restoring import CheckpointMismatch
from lightning_a3c.learning.stopping import StopOnSignal
from lightning_a3c.system.files import refusal
from lightning_a3c.version import __version__
from lightning_a3c.viewing.progress_bar import ProgressLines
from lightning_a3c.viewing.test_results import SaveTestResults, WritePredictions

ERRORS = (
    *(CheckpointMismatch, MisconfigurationException, NoFreeSharedMemory, NonFiniteLoss, NotACheckpoint, PeerError),
    WorkerError,
)


def run(args: list[str] | None) -> None:
    """Run Lightning's command line on `args`, or on the arguments of the process.

    Raises:
        SystemExit: with a message for errors that the user can fix; with 128 + the signal's number after a signal.
    """
    stop_on_signal = StopOnSignal()
    threading.excepthook = _report_thread
    try:
        A3CCLI(
            args=args,
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": [ProgressLines(), SaveTestResults(), WritePredictions(), stop_on_signal],
                "devices": 1,  # Lightning would take every GPU
            },
            parser_kwargs={
                "prog": PROGRAM,
                "description": f"Train A3C agents. Also: {', '.join(COMMANDS)}",
                "version": __version__,
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
    except OSError as error:
        if (message := refusal(error)) is None:
            raise
        raise SystemExit(f"{PROGRAM}: {message}") from None


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, except TensorBoard's, whose errors also reach the main thread."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(failed)
