"""`fit`, `validate`, `test` and `predict`: LightningCLI with its defaults, exit codes, and errors in one line."""

from __future__ import annotations

import signal
from pickle import UnpicklingError

from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException  # type: ignore[attr-defined]

from lightning_a3c.callbacks import StopOnSignal
from lightning_a3c.cli import A3CCLI
from lightning_a3c.commands import COMMANDS
from lightning_a3c.data import CollectorDataModule
from lightning_a3c.files import NotWritable
from lightning_a3c.module import A3CModule, CheckpointMismatch, NonFiniteLoss
from lightning_a3c.pool import WorkerError
from lightning_a3c.progress_bar import ProgressLines
from lightning_a3c.recording import SaveConfigAndMachine, SaveTestResults, WritePredictions
from lightning_a3c.shared_tensors import NoFreeSharedMemory

ERRORS = (
    *(CheckpointMismatch, MisconfigurationException, NoFreeSharedMemory, NonFiniteLoss, NotWritable, WorkerError),
    UnpicklingError,  # a checkpoint holds more than tensors and plain values
)


def run(args: list[str] | None) -> None:
    """Run Lightning's command line on `args`, or on the arguments of the process.

    Raises:
        SystemExit: with a message for what the user can mend; 128 + the signal's number after a signal.
    """
    stop_on_signal = StopOnSignal()
    try:
        A3CCLI(
            A3CModule,
            CollectorDataModule,
            args=args,
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": [ProgressLines(), SaveTestResults(), WritePredictions(), stop_on_signal],
                "devices": 1,  # Lightning would take every GPU
            },
            auto_configure_optimizers=False,
            parser_kwargs={"allow_abbrev": False, "description": f"Train A3C agents. Also: {', '.join(COMMANDS)}"},
            save_config_callback=SaveConfigAndMachine,
            save_config_kwargs={"overwrite": True},
        )
    except SIGTERMException:
        raise SystemExit(128 + stop_on_signal.received) from None  # Lightning alone would report success
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # where Lightning's own code is 1
            raise SystemExit(128 + signal.SIGINT) from None
        raise
    except ERRORS as error:
        raise SystemExit(f"lightning-a3c: {error}") from None
