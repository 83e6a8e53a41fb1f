"""Train and test the suite: one configuration a family, beside what other A2Cs reach.

    python benchmarks/suite.py                                    # everything, seeds 0 … 2: days
    python benchmarks/suite.py continuous grid/doorkey --seeds 3
    python benchmarks/suite.py discrete/cartpole --library sb3    # stable-baselines3's A2C with the zoo's values
    python benchmarks/suite.py --table                            # trains nothing

A part is a file in `configs/suite`: a family, such as continuous, or one environment of it, such as continuous/hopper.
Runs take the whole machine, so there is one at a time. Each is trained to its budget, then its last policy plays 100
episodes. A run that has its results, or has failed, is skipped; remove its folder to repeat it.

The folder `results/suite/LIBRARY/FAMILY/NAME_seedN` gets configuration, machine, thinned metrics, test results and
`about.json`: the command, what stepped the environments, and the last lines of a run that failed. `table.md` and
`figure.png` beside them are drawn again after each run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from arguments import count
from suite_table import OURS, figure, read_results, table

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "suite"
SB3 = "sb3"
NEEDS = {"minigrid": "minigrid", "popgym": "popgym", "MinAtar": "minatar"}  # module by the start of an id
ENGINES = {"mujoco": "mujoco", "box2d": "Box2D"}  # module by the package of Gymnasium's entry point


class Planned(NamedTuple):
    """A run to be made."""

    part: str
    library: str
    seed: int

    def folder(self, results: Path) -> Path:
        """Where its results go."""
        return results / self.library / f"{self.part}_seed{self.seed}"


def parts(names: Sequence[str], configs: Path = CONFIGS) -> list[str]:
    """The parts that `names` stand for, all without any, in alphabetical order.

    Raises:
        ValueError: there is no such part.
    """
    known = sorted(f"{path.parent.name}/{path.stem}" for path in configs.glob("*/*.yaml"))
    chosen = set()
    for name in names or [""]:
        found = [part for part in known if part == name or part.startswith(f"{name}/" if name else "")]
        if not found:
            raise ValueError(f"there is no part {name!r}; parts are {', '.join(known)}")
        chosen |= {*found}
    return sorted(chosen)


def configs_of(part: str, configs: Path = CONFIGS) -> tuple[Path, Path]:
    """The family's configuration, and the environment's over it."""
    return configs / f"{part.partition('/')[0]}.yaml", configs / f"{part}.yaml"


def is_done(planned: Planned, results: Path) -> bool:
    """Whether a run has its results or has failed."""
    return (planned.folder(results) / "about.json").exists()


def missing_module(env_id: str) -> str | None:
    """The module that an environment needs and that is not installed."""
    for start, module in NEEDS.items():
        if env_id.startswith(start):
            return None if find_spec(module) else module
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    entry_point = str(gymnasium.spec(env_id).entry_point)
    engine = next((module for package, module in ENGINES.items() if f".{package}" in entry_point), None)
    return None if engine is None or find_spec(engine) else engine


def train_and_test(planned: Planned, runs: Path, episodes: int, options: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """Run `fit` and `test` of this package; returns the run's folder and what `about.json` says."""
    parent = runs / f"{planned.part.replace('/', '_')}_seed{planned.seed}"
    shutil.rmtree(parent, ignore_errors=True)  # of a run that was interrupted
    configs = [f"--config={path}" for path in configs_of(planned.part)]
    fit = [
        *configs,
        *options,
        f"--seed_everything={planned.seed}",
        f"--trainer.default_root_dir={parent}",
        "--name=run",
    ]
    folder = parent / "run" / "1"
    test = [f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", f"--data.eval_episodes={episodes}"]
    commands = [["fit", *fit], ["test", *configs, *options, *test, "--trainer.logger=false"]]
    about: dict[str, Any] = {"command": _shown(commands[0]), "backend": "Gymnasium"}
    for command in commands:
        done = subprocess.run([sys.executable, "-m", "lightning_a3c", *command], capture_output=True, text=True)
        if command[0] == "fit":
            about["backend"] = backend(done.stderr, planned.part)
        if done.returncode:
            return folder, about | {"failed": command[0], "error": done.stderr.strip().splitlines()[-20:]}
    return folder, about


def backend(log: str, part: str) -> str:
    """What stepped the environments in training, as a run's log tells."""
    if found := re.search(r"with (EnvPool [\d.]+\d|the vector environment)", log):
        return found[1] if found[1].startswith("EnvPool") else "Gymnasium, vector environment"
    return "ALE" if part.startswith("atari/") else "Gymnasium"


def keep(run: Path, folder: Path, about: dict[str, Any]) -> None:
    """Copy the small files of a run to `folder`; `about.json` comes last, so that a half copy counts as no run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("csv/version_0/config.yaml", "csv/version_0/machine.json", "csv/version_0/metrics.csv"):
        if (run / name).exists():
            shutil.copy(run / name, folder)
    if (run / "checkpoints" / "last.test.json").exists():
        shutil.copy(run / "checkpoints" / "last.test.json", folder / "test.json")
        subprocess.run([sys.executable, ROOT / "results" / "thin.py", folder], check=True)
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def draw(results: Path) -> None:
    """Write the table and the figure of all runs in `results`."""
    found = read_results(results)
    if found:
        (results / "table.md").write_text(table(found) + "\n")
        figure(found).savefig(results / "figure.png", dpi=120)


def _shown(command: Sequence[str]) -> str:
    return " ".join(["lightning-a3c", *command]).replace(f"{ROOT}/", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="all without any")
    parser.add_argument("--seeds", type=count, default=3, help="number of seeds, from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--library", choices=(OURS, SB3), default=OURS)
    parser.add_argument("--episodes", type=count, default=100, help="of each test")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "suite")
    parser.add_argument("--runs", type=Path, default=Path("runs/suite"), help="for checkpoints and whole logs")
    parser.add_argument("--table", action="store_true", help="draw table and figure and end")
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="further options of `fit`, last: --options --data.…"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it takes its run along
    try:
        chosen = parts(options.parts)
    except ValueError as error:
        parser.error(str(error))
    if not options.table:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for part in chosen:
                make(Planned(part, options.library, seed), options)
    draw(options.results)
    if (path := options.results / "table.md").exists():
        print(path.read_text())


def make(planned: Planned, options: argparse.Namespace) -> None:
    """Make one run, unless it is done or cannot be."""
    name = f"{planned.library} {planned.part}, seed {planned.seed}"
    if is_done(planned, options.results):
        print(f"{name}: done before", flush=True)
        return
    env_id = yaml.safe_load(configs_of(planned.part)[1].read_text())["data"]["env"]["id"]
    if module := missing_module(env_id):
        print(f"{name}: left out, {module} is not installed", flush=True)
        return
    print(f"{name}: training", flush=True)
    if planned.library == SB3:
        from suite_sb3 import train_and_test as train_and_test_sb3  # needs the extra benchmarks

        run, about = train_and_test_sb3(planned.part, env_id, planned.seed, options.runs, options.episodes)
    else:
        run, about = train_and_test(planned, options.runs, options.episodes, options.options)
    keep(run, planned.folder(options.results), about)
    draw(options.results)
    print(f"{name}: {'failed' if 'failed' in about else 'tested'}", flush=True)


if __name__ == "__main__":
    main()
