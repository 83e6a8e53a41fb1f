"""This package's data mode by its command line, with `configs/pong_data_fast.yaml`."""

from __future__ import annotations

from pathlib import Path

from reporting import Run, parser
from ticking import Ticker

from lightning_a3c.__main__ import main as run_command
from lightning_a3c.version import __version__

CONFIG = Path(__file__).parents[2] / "configs" / "pong_data_fast.yaml"


def main() -> None:
    """Run the command."""
    run = Ticker.run = Run(parser().parse_args())
    run_command(["fit", "--config", str(CONFIG), "--trainer.callbacks+=ticking.Ticker"])
    run.write(version=__version__, parameters=Ticker.parameters, layout="2 workers × 32 environments, 80 an update")


if __name__ == "__main__":
    main()
