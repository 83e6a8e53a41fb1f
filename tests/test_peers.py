"""Several learners: they equal one with as many collectors, and stop, fail and resume together. Real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch import distributed as dist

from lightning_a3c import A3CModule
from lightning_a3c.learning.peers import is_lost_peer
from tests.small_runs import data, trainer
from tests.two_learners import train

ROOT = Path(__file__).parents[1]
START_SECONDS = 180.0  # until a learner has made its first updates, on a busy machine
END_SECONDS = 60.0  # until all processes of a run are gone

pytestmark = pytest.mark.timeout(400)


class Run:
    """A run of `tests.two_learners` in a session of its own."""

    def __init__(self, folder: Path, **options: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "tests.two_learners", json.dumps({"folder": str(folder)} | options)]
        with self.output.open("w") as output:
            self.first = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def pid(self, rank: int) -> int:
        """The process of a learner, once it trains."""
        file, deadline = self.folder / f"rank-{rank}.pid", time.monotonic() + START_SECONDS
        while not (file.exists() and file.read_text()):
            assert self.first.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)
        return int(file.read_text())

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of all processes; returns the exit code of the first learner."""
        deadline = time.monotonic() + seconds
        try:
            code = self.first.wait(seconds)
            while left := self._processes():
                assert time.monotonic() < deadline, [process.cmdline() for process in left]
                time.sleep(0.1)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run does not end: {self.output.read_text()}")
        finally:
            for process in self._processes():
                process.kill()
        return code

    def results(self, rank: int) -> dict[str, Any]:
        file = self.folder / f"rank-{rank}.pt"
        assert file.exists(), self.output.read_text()
        return torch.load(file)

    def last_updates(self) -> int:
        """The updates that last.ckpt has had."""
        return int(torch.load(self.folder / "checkpoints/last.ckpt", weights_only=True)["global_step"])

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.first.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Run]:
    """Two learners that train until they are told to end."""
    run = Run(tmp_path, learners=2, updates=-1)
    yield run
    run.end(seconds=0 if run.first.poll() is None else END_SECONDS)


NORMALIZED = {"normalize_observations": True, "normalize_rewards": True}


@pytest.mark.parametrize(("mode", "difference"), [("data", 1e-6), ("gradient", 0.0)])
def test_two_learners_with_a_collector_each_equal_one_with_two(mode: str, difference: float, tmp_path: Path) -> None:
    options: dict[str, Any] = {"mode": mode, "synchronous": True, "module": NORMALIZED}
    run = Run(tmp_path / "two", learners=2, **options)
    (tmp_path / "one").mkdir()
    train(tmp_path / "one", learners=1, **options)
    one = torch.load(tmp_path / "one/rank-0.pt")
    assert run.end() == 0
    clocks = {"train_seconds", "steps/s"}
    for rank in (0, 1):
        two = run.results(rank)
        assert one["updates"] == two["updates"] == 200
        for name, tensor in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=difference)
        for name in {*one["progress"]} - clocks:
            assert two["progress"][name] == one["progress"][name], name
        for name in {*one["metrics"]} - clocks - {"explained_variance"}:  # which is no mean
            assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4, abs=1e-6), name
        assert two["metrics"]["policy_lag/learner_0"] == two["metrics"]["policy_lag/learner_1"] == 0


@pytest.mark.slow
def test_a_learner_without_a_finite_gradient_adds_nothing_and_takes_part(tmp_path: Path) -> None:
    options = {"mode": "gradient", "synchronous": True, "broken_gradients": True, "updates": 30}
    run = Run(tmp_path / "two", learners=2, **options)
    (tmp_path / "one").mkdir()
    train(tmp_path / "one", learners=1, **options)
    one = torch.load(tmp_path / "one/rank-0.pt")
    assert run.end(END_SECONDS + START_SECONDS) == 0, run.output.read_text()
    for rank in (0, 1):
        two = run.results(rank)
        assert two["metrics"]["dropped_gradients"] == one["metrics"]["dropped_gradients"] == 20
        for name, tensor in one["weights"].items():
            assert torch.equal(two["weights"][name], tensor), name


def test_asynchronous_learners_keep_the_same_weights_and_count_the_same_steps(tmp_path: Path) -> None:
    run = Run(
        tmp_path, learners=2, updates=-1, env_steps=5000, tests=True, videos=40, module=NORMALIZED, eval_episodes=5
    )
    assert run.end(END_SECONDS + START_SECONDS) == 0
    one, other = run.results(0), run.results(1)
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name
    assert one["updates"] == other["updates"]
    assert one["progress"]["env_steps"] == other["progress"]["env_steps"] >= 5000
    assert one["progress"]["returns"] == other["progress"]["returns"]
    assert one["progress"]["env_steps"] == pytest.approx(32 * one["updates"], abs=400)
    text = run.output.read_text()
    assert text.count("Stopped after") == 1
    assert text.count("2 learners: an update learns from 2 × 16 = 32 transitions") == 1
    assert "UserWarning" not in text
    # evaluated once, and known to both
    assert one["tested"] == other["tested"]
    written = json.loads(next(tmp_path.glob("**/*test.json")).read_text())
    assert written["episodes"] == len(written["returns"]) == 5
    assert len([*tmp_path.glob("**/*test.json")]) == 1
    assert written["test/return_mean"] == pytest.approx(sum(written["returns"]) / 5)
    assert len([*(tmp_path / "videos").glob("*.mp4")]) == one["updates"] // 40


@pytest.mark.parametrize(
    ("number", "ranks", "code"),
    [  # Lightning ends a script quietly at SIGTERM, with 1 at Ctrl-C
        (signal.SIGTERM, (1,), 0),
        pytest.param(signal.SIGTERM, (0,), 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, (0, 1), 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, (0, 1), 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, (1,), 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, (0,), 0, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_some_learners_ends_all_after_the_same_update(
    endless: Run, number: signal.Signals, ranks: tuple[int, ...], code: int
) -> None:
    pids = [endless.pid(rank) for rank in (0, 1)]
    for rank in ranks:
        os.kill(pids[rank], number)
    assert endless.end() == code, endless.output.read_text()
    assert endless.last_updates() >= 5


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SLURM = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
SLURM |= {"SLURM_JOB_NAME": "train", "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "srun"])
def test_learners_that_something_else_starts_train_together(starter: str, tmp_path: Path) -> None:
    learner = ["-m", "tests.two_learners", json.dumps({"folder": str(tmp_path), "learners": 2, "updates": 20})]
    starts: list[tuple[list[str], dict[str, str]]] = [([*TORCHRUN, *learner], {})]
    if starter == "srun":  # what it sets for each task
        starts = [(learner, SLURM | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in ("0", "1")]
    started = [
        subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=os.environ | own) for arguments, own in starts
    ]
    assert [process.wait(START_SECONDS + END_SECONDS) for process in started] == [0] * len(started)
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert one["updates"] == other["updates"] == 20
    assert all(torch.equal(tensor, other["weights"][name]) for name, tensor in one["weights"].items())


def test_a_killed_learner_ends_the_others_which_leave_a_checkpoint(endless: Run) -> None:
    endless.pid(0)
    os.kill(endless.pid(1), signal.SIGKILL)
    assert endless.end() != 0
    assert endless.last_updates() >= 5
    text = endless.output.read_text()
    assert "another learner ended" in text or "by peer" in text  # in DDP's own collective


@pytest.mark.slow
def test_the_others_end_when_the_first_learner_is_killed(endless: Run) -> None:
    endless.pid(1)
    os.kill(endless.pid(0), signal.SIGKILL)
    assert endless.end() == -signal.SIGKILL


def test_a_collective_that_failed_is_told_from_other_errors() -> None:
    gloo = "[/src/gloo/transport/tcp/unbound_buffer.cc:129] Timed out waiting 10000ms for send operation to complete"
    assert is_lost_peer(RuntimeError(gloo))
    assert is_lost_peer(dist.DistNetworkError("connection closed"))
    assert not is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_collector_that_may_not_be_restarted_ends_all_learners(tmp_path: Path) -> None:
    run = Run(tmp_path, learners=2, updates=-1, env="tests.two_learners:BreaksOnSecond-v0")
    assert run.end(END_SECONDS + START_SECONDS) == 1
    text = run.output.read_text()
    assert "collector 1 raised" in text  # counted through all learners
    assert "broken on purpose" in text
    assert "learner 1 of 0 … 1 failed" in text
    assert run.last_updates() >= 5


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_elsewhere_in_one_learner_ends_all(rank: int, tmp_path: Path) -> None:
    run = Run(tmp_path, learners=2, updates=-1, breaks=rank)
    assert run.end(END_SECONDS + START_SECONDS) != 0
    assert "the callback broke on purpose" in run.output.read_text()
    assert run.last_updates() >= 19


@pytest.mark.slow
def test_a_resumed_lock_step_run_of_two_learners_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    options: dict[str, Any] = {"learners": 2, "synchronous": True, "module": NORMALIZED}
    half = Run(tmp_path / "half", updates=70, **options)
    assert half.end(END_SECONDS + START_SECONDS) == 0
    checkpoint = str(tmp_path / "half/checkpoints/last.ckpt")
    resumed = Run(tmp_path / "resumed", updates=130, resume=checkpoint, **options)
    assert resumed.end(END_SECONDS + START_SECONDS) == 0
    whole = Run(tmp_path / "whole", updates=130, **options)
    assert whole.end(END_SECONDS + START_SECONDS) == 0
    for rank in (0, 1):
        for name, tensor in whole.results(rank)["weights"].items():
            assert torch.equal(resumed.results(rank)["weights"][name], tensor), name
    # one learner with all the collectors goes on with the same episodes, and says what is different
    one = Run(tmp_path / "one", updates=130, resume=checkpoint, **(options | {"learners": 1}))
    assert one.end(END_SECONDS + START_SECONDS) == 0
    assert "made by 2 learners, and training goes on with 1" in one.output.read_text()
    assert one.results(0)["progress"]["returns"] == whole.results(0)["progress"]["returns"]


class Idle(nn.Module):
    """Has parameters that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.value, self.idle = nn.Linear(4, 2), nn.Linear(4, 1), nn.Linear(2, 2)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy(observations), self.value(observations).squeeze(1)


@pytest.mark.parametrize(
    ("mode", "strategy", "is_refused"),
    [
        ("data", "ddp", True),
        ("data", "ddp_find_unused_parameters_true", False),
        ("gradient", "ddp", False),
        ("data", "auto", False),
    ],
)
def test_unused_parameters_are_refused_only_where_learners_would_wait_for_them(
    mode: str, strategy: str, is_refused: bool, tmp_path: Path
) -> None:
    module = A3CModule((4,), 2, network=Idle(), mode=mode)
    module.trainer = trainer(tmp_path, devices=1 if strategy == "auto" else 2, strategy=strategy)
    module.trainer.state.fn = TrainerFn.FITTING
    module.trainer.strategy.connect(module)
    module.trainer.datamodule = data()
    if is_refused:
        with pytest.raises(MisconfigurationException, match=r"\(idle.weight, idle.bias\).*ddp_find_unused_parameters_"):
            module.configure_callbacks()
    else:
        module.configure_callbacks()


def test_predictions_of_several_devices_are_refused(tmp_path: Path) -> None:
    module = A3CModule((4,), 2)
    module.trainer = trainer(tmp_path, devices=2, strategy="ddp")
    module.trainer.state.fn = TrainerFn.PREDICTING
    with pytest.raises(MisconfigurationException, match=r"predict computes on one device, got 2 of them; set"):
        module.configure_callbacks()
