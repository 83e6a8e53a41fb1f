"""The commands of `lightning-a3c` beside Lightning's: `plot`, `report`, `play`, `export`, …

Each imports what it needs when it runs, so that training does not load matplotlib and the like.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lightning_a3c.command_line.shipped_configs import shipped_configs, summary
from lightning_a3c.command_line.usage_errors import OneLineParser, did_you_mean
from lightning_a3c.system.files import atomic_write, refusal, require_checkpoint
from lightning_a3c.viewing.numbered_runs import CHECKPOINTS, ROOT, newest_checkpoint, numbered, run_folder_of


def plot(args: list[str]) -> None:
    """Draw returns and total loss of one or several runs; seeds of one configuration as their mean with an interval."""
    from lightning_a3c.viewing.plots import X_AXES, return_and_loss
    from lightning_a3c.viewing.runs import read_run

    parser = OneLineParser("lightning-a3c plot", description=plot.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help=_RUN_HELP)
    parser.add_argument("--x", choices=list(X_AXES), default="env_steps", help="quantity on the x-axis")
    parser.add_argument(
        "--output",
        help="a .png, .svg or .pdf file, or a name for .png and .svg; default: curves, in a single run's folder",
    )
    options = parser.parse_args(args)
    runs = [read_run(_run_folder(folder)) for folder in options.runs]
    output = Path(options.output or (runs[0].folder / "curves" if len(runs) == 1 else "curves"))
    figure = return_and_loss(runs, options.x)
    is_file = output.suffix in (".png", ".svg", ".pdf")
    for path in [output] if is_file else [output.with_name(output.name + suffix) for suffix in (".png", ".svg")]:
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=150)
        print(path)


def report(args: list[str]) -> None:
    """Write a run's report, or a comparison of several runs, as one HTML file that opens from disk."""
    from lightning_a3c.viewing.report import write_comparison, write_report
    from lightning_a3c.viewing.runs import read_run

    parser = OneLineParser("lightning-a3c report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help=_RUN_HELP)
    parser.add_argument(
        "--output", help="HTML file to write; default: report.html in a single run's folder, otherwise comparison.html"
    )
    options = parser.parse_args(args)
    runs = [read_run(_run_folder(folder)) for folder in options.runs]
    path = Path(options.output or (runs[0].folder / "report.html" if len(runs) == 1 else "comparison.html"))
    if len(runs) == 1:
        write_report(runs[0], path)
    else:
        write_comparison(runs, path)
    print(path)


def play(args: list[str]) -> None:
    """Watch a checkpoint play in a window at real speed, or record it where there is no display."""
    from lightning_a3c.rl.policies import NetworkPolicy
    from lightning_a3c.sharing.export import load_module
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
    module, config = load_module(options.ckpt_path)
    if options.video is not None:
        _need_no_display()
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


def export(args: list[str]) -> None:
    """Write an agent as a folder to share: weights, model card, configuration, video and ONNX."""
    from lightning_a3c.sharing.export import export_policy, find_source

    parser = OneLineParser("lightning-a3c export", description=export.__doc__)
    parser.add_argument(
        "source", metavar="RUN_OR_CKPT", help="a checkpoint, best or last of the newest run, or a folder"
    )
    parser.add_argument("--to", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--video", action="store_true", help="record an episode if the run left no video of its test")
    options = parser.parse_args(args)
    is_name = options.source in ("last", "best") and not Path(options.source).exists()
    source = find_source(_checkpoint(options.source) if is_name else options.source)
    _need_no_display()
    notes = export_policy(source, options.to, options.video)
    print(f"{options.to}: the policy of {source.checkpoint}")
    for note in notes:
        print(note)


def push(args: list[str]) -> None:
    """Upload a folder of `export` to the Hugging Face Hub."""
    from lightning_a3c.sharing.hub import push_folder

    parser = OneLineParser("lightning-a3c push", description=push.__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="folder that export wrote")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="model repository, made if missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    options = parser.parse_args(args)
    print(push_folder(options.folder, options.repo, options.private))


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
        hint = did_you_mean(name, shipped) or "; `lightning-a3c configs` lists them"
        raise ValueError(f"there is no configuration {name}{hint}")
    path = Path(f"{Path(name).name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(shipped[name].read_text(encoding="utf-8"))
    except FileExistsError:
        raise ValueError(f"{path} already exists and stays; remove it, or copy in another folder") from None
    print(path)
    if (family := name.rpartition("/")[0]) in shipped:
        print(f"It goes over {family}: lightning-a3c fit --config {family} --config {path}")


_RUN_HELP = "folder of a run, such as runs/pong_data/1; runs/pong_data is its newest run, last the newest of all"


def _run_folder(name: str) -> Path:
    """The folder of a run that a user has named."""
    if name != "last" or Path(name).exists():
        if not Path(name).is_dir():
            known = {str(run) for parent in Path(ROOT).glob("*/") for run in (parent, *numbered(parent))}
            near = Path(ROOT) / name
            hint = f"; did you mean {near}?" if str(near) in known else did_you_mean(name, known)
            raise ValueError(f"there is no folder {name}{hint or '; `lightning-a3c runs` lists the runs'}")
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


def _need_no_display() -> None:
    """Keep SDL, which draws many environments, from complaining that it finds no display."""
    if not has_display():
        os.environ["SDL_VIDEODRIVER"] = "dummy"


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    **{"plot": plot, "report": report, "play": play, "export": export, "push": push},
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
