"""`fit --seeds N`: runs that differ in the seed only, and their summary. Loads no Lightning until the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_a3c.command_line.arguments import (
    JOBS_FLAG,
    SEEDS_FLAG,
    config_files,
    has_flag,
    values_of,
    with_paths_of_configs,
    without,
)
from lightning_a3c.command_line.child_runs import Outcome, run_fit, run_fits, usable_cores
from lightning_a3c.command_line.usage_errors import PROGRAM, read_config, refuse
from lightning_a3c.viewing.run_table import aligned


def fit_seeds(args: Sequence[str]) -> None:
    """Train runs one after the other, or `--jobs` at a time, and print what they reached.

    Args:
        args: the command line with `--seeds`.

    Raises:
        SystemExit: with the exit code of the first run that failed or was stopped.
    """
    options = with_paths_of_configs(without(without(args[1:], SEEDS_FLAG), JOBS_FLAG))
    first, count = _first_seed(options), _count(["", *values_of(args, SEEDS_FLAG)][-1])
    jobs = _jobs(["", *values_of(args, JOBS_FLAG)][-1]) if has_flag(args, JOBS_FLAG) else 1
    if values_of(options, "--ckpt_path"):
        refuse(f"{PROGRAM} fit", "--seeds starts new runs, so it takes no --ckpt_path")
    runs = {seed: [*options, f"--seed_everything={seed}"] for seed in range(first, first + count)}
    outcomes = _one_by_one(runs) if jobs == 1 else run_fits(runs, min(jobs, count))
    if any(outcome.folder for outcome in outcomes.values()):
        print(summary(outcomes))
    if code := next((outcome.code for outcome in outcomes.values() if outcome.code), 0):
        raise SystemExit(code if code > 0 else 128 - code)


def _one_by_one(runs: Mapping[int, Sequence[str]]) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    for seed, args in runs.items():
        print(f"Seed {seed}: run {len(outcomes) + 1} of {len(runs)}", flush=True)
        outcomes[seed] = run_fit(args)
        if outcomes[seed].code:
            break
    return outcomes


def summary(outcomes: Mapping[int, Outcome]) -> str:
    """A table of the runs by seed, and the mean of their last `return_100` with its 95 % bootstrap interval."""
    import torch

    from lightning_a3c.learning.summary import bootstrap_interval

    rows = [
        [
            outcome.folder or "–",
            str(seed),
            f"{outcome.env_steps:,}",
            "–" if outcome.return_100 is None else f"{outcome.return_100:.2f}",
            "yes" if outcome.is_solved else "no",
            f"{outcome.minutes:.1f}",
        ]
        for seed, outcome in outcomes.items()
    ]
    table = aligned([["run", "seed", "env steps", "return_100", "solved", "minutes"], *rows])
    whole = [outcome.return_100 for outcome in outcomes.values() if outcome.return_100 is not None and not outcome.code]
    if len(whole) < 2:
        return table
    values = torch.tensor(whole)
    low, high = bootstrap_interval(values)
    mean = f"mean return_100 of {len(whole)} runs: {values.mean():.2f}"
    return f"{table}\n{mean}, 95 % bootstrap interval {low:.2f} … {high:.2f}"


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        refuse(f"{PROGRAM} fit", f"--seeds must be the number of runs, at least 1, got {text!r}")
    return int(text)


def _jobs(text: str) -> int:
    most = len(usable_cores())
    if not text.isdecimal() or not 1 <= int(text) <= most:
        refuse(
            f"{PROGRAM} fit", f"--jobs must be the number of runs at a time, from 1 to the {most} cores, got {text!r}"
        )
    return int(text)


def _first_seed(args: Sequence[str]) -> int:
    found = values_of(args, "--seed_everything") or [
        str(content["seed_everything"])
        for content in map(read_config, config_files(args))
        if "seed_everything" in content
    ]
    text = found[-1] if found else "0"
    if not text.isdecimal():
        refuse(f"{PROGRAM} fit", f"--seeds counts from the seed, so seed_everything must be a number, got {text}")
    return int(text)
