"""Pong beside other libraries, one after the other: env steps a second, or minutes to a mean return of 18.

    python benchmarks/peers.py --seconds 20
    python benchmarks/peers.py --solve 15 --only ours,sb3
    python benchmarks/peers.py --seconds 20 --path sb3=/tmp/sb3 --python appo=/tmp/appo/bin/python --clone /tmp/cleanrl

An env step is an action of one environment, four frames of the game. Each library trains with its own Atari network and
settings, on the CPU; its script in `benchmarks/peers/` says what differs. Ours is `configs/pong_data_fast.yaml` by the
command line. `--seconds` counts after start-up, a first cycle of collecting and learning, and a warm-up, up to the end
of a cycle. `--solve` counts from the command on, and prints the mean return of the last 100 episodes.

Libraries that do not fit into one environment need one each: `--python NAME=FILE` says whose interpreter runs one, and
`--path NAME=FOLDER` adds a folder of packages. What is not installed is listed with the command that installs it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arguments import duration, output_file

HERE = Path(__file__).parent
START = 600.0  # seconds that a library may take beside the time it was given
GRACE = 2.0  # between asking a peer's processes to end and killing them
NATURE = "3 convolutions of 32, 64, 64, hidden 512"


class Peer(NamedTuple):
    """A library, and how it is measured."""

    title: str
    script: str
    modules: str  # that must import, separated by commas
    install: str
    network: str
    options: tuple[str, ...] = ()


SAMPLE_FACTORY = "pip install sample-factory 'ale-py==0.9.0' 'gymnasium<1'"
PEERS = {
    "ours": Peer("lightning_a3c, data mode", "ours.py", "lightning_a3c", "pip install -e .", "16, 32, 32, hidden 256"),
    "sb3": Peer(
        "stable-baselines3 A2C", "sb3_a2c.py", "stable_baselines3", "pip install 'lightning-a3c[benchmarks]'", NATURE
    ),
    "cleanrl": Peer(
        "CleanRL PPO, EnvPool",
        "cleanrl_ppo.py",
        "envpool,gymnasium,tyro,tensorboard",
        "pip install envpool tyro tensorboard; git clone https://github.com/vwxyzjn/cleanrl, then --clone cleanrl",
        NATURE,
    ),
    "appo": Peer("Sample Factory", "appo.py", "sample_factory,sf_examples.atari,ale_py", SAMPLE_FACTORY, NATURE),
    "appo_async": Peer(
        "Sample Factory APPO, asynchronous",
        "appo.py",
        "sample_factory,sf_examples.atari,ale_py",
        SAMPLE_FACTORY,
        NATURE,
        ("--asynchronous",),
    ),
    "pufferlib": Peer(
        "PufferLib PPO",
        "puffer.py",
        "pufferlib.pufferl,heavyball,ale_py",
        "pip install --no-build-isolation 'pufferlib[atari]==3.0.0' 'heavyball<2'",
        "32, 64, 64, hidden 512, LSTM 512; one frame of 105 × 80",
    ),
}


def environment(folders: list[str]) -> dict[str, str]:
    """Variables of a peer's process: `folders` come first in its path, this checkout after them."""
    path = [*folders, str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in path if part)}


def is_installed(peer: Peer, python: str, folders: list[str]) -> bool:
    """Whether all its modules can be found."""
    tries = "; ".join(f"import {module}" for module in peer.modules.split(","))
    command = [python, "-c", tries]
    with tempfile.TemporaryDirectory() as folder:
        found = subprocess.run(command, env=environment(folders), capture_output=True, cwd=folder, check=False)
    return found.returncode == 0


def train(peer: Peer, python: str, folders: list[str], how: list[str], seconds: float) -> dict[str, Any] | None:
    """What the peer's script reports; None, and the end of its output on standard error, if it fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result, output = folder / "result.json", folder / "output.txt"
        script = HERE / "peers" / peer.script
        command = [python, str(script), *peer.options, *how, "--result", str(result)]
        with output.open("w") as file:
            process = subprocess.Popen(
                command, env=environment(folders), cwd=folder, stdout=file, stderr=file, start_new_session=True
            )
            try:
                process.wait(seconds + START)
            except subprocess.TimeoutExpired:
                print(f"{peer.title} did not end within {START:.0f} s beside its time", file=sys.stderr)
            finally:
                _kill_group(process)
        if not result.exists():
            print("\n".join(output.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
            return None
        return dict(json.loads(result.read_text()))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what the peer left running, and wait for it.

    Python's resource tracker lets SIGTERM pass and then removes semaphores and shared memory that others left.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if number == signal.SIGTERM:
            time.sleep(GRACE)
    process.wait()


def speed_row(result: dict[str, Any], ours: float | None) -> list[str]:
    """Env steps/s, ratio to ours, and CPU by process in % of a core."""
    speed = result["steps_per_second"]
    shares = sorted(result["cpu"], reverse=True)
    cpu = " + ".join(f"{100 * share:.0f}" for share in shares if share >= 0.01)
    return [f"{speed:,.0f}", f"{speed / ours:.2f}" if ours else "-", cpu]


def solve_row(result: dict[str, Any], _ours: float | None) -> list[str]:
    """Minutes to solve, env steps, and the best and last mean return with the minute it was reached."""
    curve = result["curve"]
    minutes = result["minutes_to_solve"]
    row = [f"{minutes:.1f}" if minutes else "not solved", f"{result['env_steps']:,}"]
    if not curve:
        return [*row, "no episode", "-"]
    best, last = max(curve, key=lambda point: point[2]), curve[-1]
    return [*row, *(f"{mean:.1f} at {seconds / 60:.1f} min" for seconds, _, mean in (best, last))]


def print_row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _of_peer(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or name not in PEERS or not Path(value).exists():
        raise argparse.ArgumentTypeError(f"must be NAME=PATH with a name of {','.join(PEERS)}, got {text}")
    return name, os.path.abspath(value)


def _names(text: str) -> list[str]:
    unknown = sorted(set(text.split(",")) - set(PEERS))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} unknown; choose of {','.join(PEERS)}")
    return text.split(",")


def main() -> None:
    """Train each in turn, then print what was not installed or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seconds", type=duration, default=20.0, help="of steady training each (default 20)")
    which.add_argument("--solve", type=duration, metavar="MINUTES", help="train each so long, or until solved")
    parser.add_argument("--only", type=_names, default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--python", type=_of_peer, action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--path", type=_of_peer, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--clone", type=Path, help="folder of the repository vwxyzjn/cleanrl")
    parser.add_argument("--json", type=output_file, help="also write the numbers, with whole curves, here")
    args = parser.parse_args()
    if args.clone and not (args.clone / "cleanrl" / "ppo_atari_envpool.py").exists():
        parser.error(f"--clone {args.clone}: there is no cleanrl/ppo_atari_envpool.py in it")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no peer outlives this process
    pythons = dict(args.python)
    how = ["--solve", str(args.solve)] if args.solve else ["--seconds", str(args.seconds)]
    row_of: Callable[[dict[str, Any], float | None], list[str]] = solve_row if args.solve else speed_row
    columns = (
        ["minutes to 18", "env steps", "best mean return", "last"]
        if args.solve
        else ["env steps/s", "x ours", "CPU by process, % of a core"]
    )
    print_row(["library", "version", *columns, "network", "parameters", "layout"])
    print_row(["---"] * (len(columns) + 5))
    results: dict[str, Any] = {}
    missing: list[str] = []
    for name in args.only:
        peer, python = PEERS[name], pythons.get(name, sys.executable)
        folders = [folder for of, folder in args.path if of == name]
        if not is_installed(peer, python, folders) or (name == "cleanrl" and not args.clone):
            missing.append(f"{peer.title}: not installed; {peer.install}")
            continue
        own = [*how, "--clone", str(args.clone.absolute())] if name == "cleanrl" else how
        result = train(peer, python, folders, own, 60 * args.solve if args.solve else args.seconds)
        if result is None:
            missing.append(f"{peer.title}: failed; the end of its output is above")
            continue
        results[name] = result
        ours = results.get("ours", {}).get("steps_per_second")
        about = [peer.network, f"{result['parameters']:,}", result["layout"]]
        print_row([peer.title, result["version"], *row_of(result, ours), *about])
    print("".join(f"\n{line}" for line in missing))
    if args.json:
        from lightning_a3c.system.machine import machine

        args.json.write_text(json.dumps({**machine(), "seconds": args.seconds, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
