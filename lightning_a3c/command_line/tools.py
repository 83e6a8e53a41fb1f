"""The commands of `lightning-a3c` beside Lightning's: `plot`, `report`, `play`, `runs`, `configs`, `sweep`.

Each imports what it needs when it runs, so that training does not load matplotlib and the like.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from lightning_a3c.command_line.shipped_configs import shipped_configs, summary
from lightning_a3c.command_line.usage_errors import OneLineParser, did_you_mean
from lightning_a3c.system.files import atomic_write, refusal, require_checkpoint
from lightning_a3c.viewing.numbered_runs import CHECKPOINTS, ROOT, newest_checkpoint, run_folder_of

if TYPE_CHECKING:
    from lightning_a3c.learning.module import A3CModule


def plot(args: list[str]) -> None:
    """Draw returns and total loss of one or several runs."""
    from lightning_a3c.viewing.plots import X_AXES, return_and_loss
    from lightning_a3c.viewing.runs import read_run

    parser = OneLineParser("lightning-a3c plot", description=plot.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help=_RUN_HELP)
    parser.add_argument("--x", choices=list(X_AXES), default="env_steps", help="quantity on the x-axis")
    parser.add_argument("--output", help="files to write, without suffix; default: curves, in a single run's folder")
    options = parser.parse_args(args)
    runs = [read_run(_run_folder(folder)) for folder in options.runs]
    stem = Path(options.output or (runs[0].folder / "curves" if len(runs) == 1 else "curves"))
    figure = return_and_loss(runs, options.x)
    for suffix in (".png", ".svg"):
        path = stem.with_name(stem.name + suffix)
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=150)
        print(path)


def report(args: list[str]) -> None:
    """Write a run's report as one HTML file that opens from disk."""
    from lightning_a3c.viewing.report import write_report
    from lightning_a3c.viewing.runs import read_run

    parser = OneLineParser("lightning-a3c report", description=report.__doc__)
    parser.add_argument("run", metavar="RUN", help=_RUN_HELP)
    parser.add_argument("--output", help="HTML file to write; default: report.html in the run's folder")
    options = parser.parse_args(args)
    run = read_run(_run_folder(options.run))
    path = Path(options.output or run.folder / "report.html")
    write_report(run, path)
    print(path)


def play(args: list[str]) -> None:
    """Watch a checkpoint play in a window at real speed, or record it where there is no display."""
    from lightning_a3c.environments.task import env_config_of
    from lightning_a3c.rl.policies import NetworkPolicy
    from lightning_a3c.viewing.playback import make_watched_env, play_episode
    from lightning_a3c.viewing.video import record_episode

    parser = OneLineParser("lightning-a3c play", description=play.__doc__, allow_abbrev=False)
    parser.add_argument("--ckpt_path", required=True, help="checkpoint of a run; last or best takes the newest in runs")
    parser.add_argument("--episodes", type=int, default=1, help="number of episodes to show, one after the other")
    parser.add_argument("--greedy", action="store_true", help="take the likeliest action instead of sampling")
    parser.add_argument("--seed", type=int, default=0, help="seed of the environment and the sampling")
    parser.add_argument("--video", metavar="FILE.mp4", help="record one episode instead of opening a window")
    options = parser.parse_args(args)
    if options.episodes < 1:
        raise ValueError(f"--episodes must be >= 1, got {options.episodes}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed must be in 0 … {2**32 - 1}, got {options.seed}")
    if options.video is not None and Path(options.video).suffix.lower() != ".mp4":
        raise ValueError(f"--video must name an .mp4 file, got {options.video}")
    if options.ckpt_path in ("last", "best"):
        options.ckpt_path = _checkpoint(options.ckpt_path)
        print(f"ckpt_path is {options.ckpt_path}")
    require_checkpoint(options.ckpt_path)
    if options.video is None and not has_display():
        raise ValueError("there is no display to open a window on; record instead: --video FILE.mp4")
    try:
        module = _module(options.ckpt_path).eval()
        config = env_config_of(module.hparams["task"])
    except ImportError as error:
        raise ValueError(f"ckpt_path {options.ckpt_path} needs your code: {error}; run play in its folder") from error
    except (KeyError, TypeError, UnpicklingError) as error:
        raise ValueError(f"ckpt_path {options.ckpt_path} is not a checkpoint of this package: {error}") from error
    if options.video is not None:
        recording = record_episode(config, module.net, options.video, options.greedy, options.seed)
        print(recording)
        return
    env = make_watched_env(config, window=True)
    try:
        policy = NetworkPolicy(module.net, options.seed, options.greedy)
        for episode in range(options.episodes):
            *_, end = play_episode(env, policy, seed=options.seed + episode)
            print(f"return {end.score:g} in {end.steps:,} env steps")
    finally:
        env.close()


def runs(args: list[str]) -> None:
    """List the runs in a folder."""
    from lightning_a3c.viewing.run_table import run_table

    parser = OneLineParser("lightning-a3c runs", description=runs.__doc__)
    parser.add_argument("folder", nargs="?", default=ROOT, metavar="FOLDER", help=f"default: {ROOT}")
    folder = Path(parser.parse_args(args).folder)
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}; `lightning-a3c fit` makes {ROOT} in the folder that it is run in"
        )
    table, unreadable = run_table(folder)
    print(table)
    for message in unreadable:
        print(f"lightning-a3c runs: {message}", file=sys.stderr)


def sweep(args: list[str]) -> None:
    """Search good values of a configuration's options with Optuna; called again, it goes on."""
    from lightning_a3c.command_line.sweep import read_sweep, run_sweep

    parser = OneLineParser("lightning-a3c sweep", description=sweep.__doc__)
    parser.add_argument("file", metavar="FILE.yaml", help="which options take which values; see the guide")
    path = Path(parser.parse_args(args).file)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    run_sweep(read_sweep(path))


def configs(args: list[str]) -> None:
    """List the shipped configurations, or copy one to edit it."""
    parser = OneLineParser("lightning-a3c configs", description=configs.__doc__)
    parser.add_argument("--copy", metavar="NAME", help="write NAME.yaml to the current folder")
    options = parser.parse_args(args)
    shipped = shipped_configs()
    if options.copy is None:
        width = max(map(len, shipped), default=0)
        print("\n".join(f"{name:{width}}  {summary(path)}" for name, path in shipped.items()))
        return
    name = options.copy.removesuffix(".yaml")
    if name not in shipped:
        raise ValueError(f"there is no configuration {name}{did_you_mean(name, shipped)}")
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(shipped[name].read_text(encoding="utf-8"))
    except FileExistsError:
        raise ValueError(f"{path} already exists and stays; remove it, or copy in another folder") from None
    print(path)


_RUN_HELP = "folder of a run, such as runs/pong_data/1; runs/pong_data is its newest run, last the newest of all"


def _module(checkpoint: str | Path) -> A3CModule:
    """The module in a checkpoint. Its class is imported, as its network's is."""
    import torch

    from lightning_a3c.learning.module import A3CModule

    found = torch.load(checkpoint, map_location="meta", weights_only=True)["hyper_parameters"].get("_class_path")
    if found is not None:
        import_module(found.rpartition(".")[0])  # Lightning takes imported classes only
    return A3CModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)


def _run_folder(name: str) -> Path:
    """The folder of a run that a user has named."""
    if name != "last" or Path(name).exists():
        return Path(name)
    folder = run_folder_of(_checkpoint("last"))
    return folder or Path(ROOT)


def _checkpoint(name: str) -> Path:
    path = newest_checkpoint(name, Path(ROOT))
    if path is None:
        raise ValueError(f"there is no {name}.ckpt in {Path(ROOT) / '*' / '*' / CHECKPOINTS}; name a file or folder")
    return path


def has_display() -> bool:
    """Whether SDL can open a window, judging by the environment variables."""
    return not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    )


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    **{"plot": plot, "report": report, "play": play},
    **{"runs": runs, "configs": configs, "sweep": sweep},
}


def run(command: str, *args: str) -> None:
    """Run one of `COMMANDS`; errors that the user can fix end the process with one line instead of a traceback."""
    try:
        COMMANDS[command](list(args))
    except ValueError as error:
        raise SystemExit(f"lightning-a3c {command}: {error}") from None
    except OSError as error:
        if (message := refusal(error)) is None:
            raise
        raise SystemExit(f"lightning-a3c {command}: {message}") from None
