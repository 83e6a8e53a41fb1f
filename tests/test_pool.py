"""Collector processes: how they start, what they know, how they fail, and that they end."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from lightning_a3c import A3CModule, CollectorDataset, EnvConfig, Supervision
from lightning_a3c.collection.payloads import SendGradients
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.rl.types import Gradients
from tests.small_runs import data, dataset

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def pool_of(stream: CollectorDataset) -> WorkerPool:
    assert isinstance(stream._backend, WorkerPool)
    return stream._backend


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def wait_until_idle(stream: CollectorDataset) -> None:
    """Return when all workers sleep: their slots are full, and they wait for a free one outside of any call."""
    deadline, seen_asleep = time.monotonic() + 60, 0
    while seen_asleep < 10:
        assert time.monotonic() < deadline
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pool_of(stream).pids]
        seen_asleep = seen_asleep + 1 if states == ["S"] * len(states) else 0
        time.sleep(0.01)


def all_gone(*pids: int) -> bool:
    """Whether these processes have ended, or do so within a minute."""
    deadline = time.monotonic() + 60
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(gone(pid) for pid in pids)


def test_workers_live_across_epochs_and_end_with_close() -> None:
    stream = dataset()
    list(stream)
    pids = pool_of(stream).pids
    list(stream)
    assert pool_of(stream).pids == pids
    assert len(set(pids)) == 2
    stream.close()
    assert all(gone(pid) for pid in pids)
    stream.close()


def test_a_killed_worker_is_started_again_while_the_other_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stream = dataset(updates_per_epoch=10_000, supervision=Supervision(first_delay=0.1))
    batches = iter(stream)
    next(batches)
    first = pool_of(stream).pids
    os.kill(first[1], signal.SIGKILL)
    for batch in batches:
        assert len(batch.payload.returns) == 32
        if batch.worker_restarts == 1 and len(pool_of(stream).pids) == 2:
            break
    second = pool_of(stream).pids
    assert second[0] == first[0]
    assert second[1] != first[1]
    assert f"collector 1 (process {first[1]}) died with exit code -9" in caplog.text
    stream.close()
    assert all(gone(pid) for pid in first + second)


def test_a_worker_that_hangs_is_killed_and_started_again(
    caplog: pytest.LogCaptureFixture, hurry: Callable[[float], None]
) -> None:
    patient = Supervision(max_restarts=1000, first_delay=0.1, timeout=10)  # at this speed a slow start may hang too
    stream = dataset(updates_per_epoch=100_000, supervision=patient)
    batches = iter(stream)
    next(batches)
    pid = pool_of(stream).pids[0]
    wait_until_idle(stream)
    os.kill(pid, signal.SIGSTOP)
    hurry(5)
    told = f"collector 0 (process {pid}) hangs: it did nothing for 10 s and is outside CartPole-v1"
    restarted = next(batch for batch in batches if batch.worker_restarts and told in caplog.text)
    assert len(restarted.payload.returns) == 32
    stream.close()
    assert gone(pid)


def test_a_worker_whose_environment_is_slow_does_not_hang(hurry: Callable[[float], None]) -> None:
    env = EnvConfig("tests.scripted:Slow-v0", num_envs=1, kwargs={"seconds": 0.2, "slow_steps": range(13, 29)})
    patience = Supervision(max_restarts=0, timeout=20)
    with closing(dataset(env=env, num_workers=1, micro_batch_size=12, batch_size=12, supervision=patience)) as stream:
        batches = iter(stream)
        next(batches)
        hurry(10)
        begun_at = time.monotonic()
        next(batches)  # of twelve steps, each of which takes two seconds by this clock
        assert time.monotonic() - begun_at > 20


def test_workers_are_not_killed_for_the_time_that_all_were_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(dataset(updates_per_epoch=100_000, supervision=Supervision(max_restarts=0))) as stream:
        batches = iter(stream)
        next(batches)
        wait_until_idle(stream)
        for pid in pool_of(stream).pids:
            os.kill(pid, signal.SIGSTOP)
        assert [next(batches).queue_fill.item() for _ in range(2)] == [1, 1]  # what was in the slots
        own = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: own() + 1000)
        threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGCONT) for pid in pool_of(stream).pids]).start()
        assert next(batches).worker_restarts == 0


def test_a_worker_that_fails_at_once_each_time_ends_the_stream_and_its_traceback_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = EnvConfig("tests.scripted:Failing-v0", num_envs=1)
    supervision = Supervision(max_restarts=2, first_delay=0.1)
    stream = dataset(
        env=env, num_workers=1, micro_batch_size=8, batch_size=8, updates_per_epoch=500, supervision=supervision
    )
    with pytest.raises(WorkerError, match=r"(?s)max_restarts allows \(2 in 300 s\); the last failures:\n") as failure:
        list(stream)
    told = caplog.text + str(failure.value)
    assert told.count("Traceback") == 1
    assert [caplog.text.count("RuntimeError: the environment broke"), told.count("in tests.scripted:Failing-v0")] == [
        2,
        3,
    ]
    assert "collector 0 raised 3 times (traceback logged above):\nRuntimeError: the env" in str(failure.value)
    assert failure.value.__suppress_context__  # or Python would show the worker's traceback again
    # all that was announced before each 200th step is taken; the last window of 4 steps was not complete
    assert stream.state_dict()["position"] == 3 * ((200 - 1 - 4) // 8)
    stream.close()


def test_without_restarts_a_killed_worker_ends_the_stream_with_its_rank_and_signal() -> None:
    stream = dataset(updates_per_epoch=10_000, supervision=Supervision(max_restarts=0))
    batches = iter(stream)
    next(batches)
    pids = pool_of(stream).pids
    os.kill(pids[1], signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WorkerError, match=rf"collector 1 \(process {pids[1]}\) died with exit code -9"):
        for _ in batches:
            pass
    assert time.monotonic() - started < 60  # half of the time after which it would count as hung
    stream.close()
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("error", [RuntimeError, ConnectionResetError, EOFError])
def test_an_exception_in_a_worker_arrives_with_traceback_and_rank(error: type[Exception]) -> None:
    env = EnvConfig("tests.scripted:Failing-v0", num_envs=1, kwargs={"error": error})
    supervision = Supervision(max_restarts=0)
    stream = dataset(
        env=env, num_workers=1, micro_batch_size=8, batch_size=8, updates_per_epoch=50, supervision=supervision
    )
    with pytest.raises(WorkerError, match=r"(?s)collector 0 raised:\nTraceback.*the environment broke on purpose"):
        list(stream)
    stream.close()


def test_a_traceback_that_no_log_shows_is_in_the_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "lightning_a3c.collection.processes.pool")
    env, patience = EnvConfig("tests.scripted:Failing-v0", num_envs=1), Supervision(max_restarts=1, first_delay=0.1)
    stream = dataset(
        env=env, num_workers=1, micro_batch_size=8, batch_size=8, updates_per_epoch=500, supervision=patience
    )
    with pytest.raises(WorkerError, match=r"collector 0 raised 2 times:\nTraceback") as failure:
        list(stream)
    assert str(failure.value).count("Traceback") == 1
    stream.close()


def test_generators_that_a_process_has_one_of_differ_between_workers() -> None:
    env = EnvConfig("tests.scripted:GlobalRandom-v0", num_envs=1)
    with closing(dataset(env=env, synchronous=True, micro_batch_size=8, batch_size=16, updates_per_epoch=1)) as stream:
        first, second = next(iter(stream)).payload.observations.split(8)
    assert all(len({*first[:, which].tolist(), *second[:, which].tolist()}) == 16 for which in range(3))
    with closing(dataset(env=env, synchronous=True, micro_batch_size=8, batch_size=16, updates_per_epoch=1)) as stream:
        assert torch.equal(next(iter(stream)).payload.observations, torch.cat([first, second]))


def test_a_forked_child_leaves_the_workers_to_its_parent() -> None:
    with closing(dataset(updates_per_epoch=100_000)) as stream:
        batches = iter(stream)
        next(batches)
        pool = pool_of(stream)
        child = os.fork()
        if not child:
            pool.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        for _ in range(20):
            assert next(batches).worker_restarts == 0


def test_workers_end_with_the_learner_though_a_child_that_it_forked_lives_on(tmp_path: Path) -> None:
    command = script_in(ORPHANS.replace("time.sleep(100)", FORK_AND_DIE), tmp_path)
    learner = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert learner.stdout is not None
    *pids, child = (int(pid) for pid in learner.stdout.readline().split() + learner.stdout.readline().split())
    learner.wait()
    have_ended = all_gone(*pids)
    os.kill(child, signal.SIGKILL)
    learner.communicate()
    assert have_ended


def test_environments_are_closed_with_their_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_a3c.collection.processes.pool._STOP_SECONDS", 60)  # then a worker is killed
    env = EnvConfig("tests.scripted:Simulator-v0", num_envs=2, kwargs={"folder": tmp_path})
    with closing(dataset(env=env)) as stream:
        next(iter(stream))
        deadline = time.monotonic() + 30  # for the second worker, which the first batch does not wait for
        while len(simulators := [int(path.name) for path in tmp_path.iterdir()]) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sum(not gone(pid) for pid in simulators) == 4  # the first was looked at, and is gone
    assert all(gone(pid) for pid in simulators)


FORGETFUL = """
from tests.streams import small_stream

if __name__ == "__main__":
    batches = iter(small_stream())
    next(batches)
    print("one batch")
"""


NESTED = """
import multiprocessing

from tests.streams import small_stream


def collect():
    stream = small_stream(num_workers=1)
    next(iter(stream))
    stream.close()


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=collect)
    process.start()
    process.join()
    print(process.exitcode)
"""


def run_script(text: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a script in a process of its own."""
    done = subprocess.run(script_in(text, folder), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def script_in(text: str, folder: Path) -> list[str]:
    (folder / "script.py").write_text(text)
    return [sys.executable, "script.py"]


@pytest.mark.parametrize(("script", "output"), [(FORGETFUL, "one batch\n"), (NESTED, "0\n")])
def test_a_script_ends_though_it_forgets_to_close_or_is_a_child_itself(
    script: str, output: str, tmp_path: Path
) -> None:
    assert run_script(script, tmp_path) == (0, output, "")


WITHOUT_GUARD = """
import sys
from contextlib import closing

import gymnasium
import pytorch_lightning
import torch
from torch import nn

from lightning_a3c import CollectorDataModule, EnvConfig

print("once")


class ToldByReward(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return self.observation_space.low.copy(), {}

    def step(self, action):
        return self.observation_space.low.copy(), float("pytorch_lightning" in sys.modules), False, False, {}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, observations):
        logits, values = self.layer(observations).split([2, 1], dim=1)
        return logits, torch.zeros_like(values.squeeze(1))


gymnasium.register("ByClass-v0", entry_point=ToldByReward)
gymnasium.register("ByName-v0", entry_point="__main__:ToldByReward")
for env_id in ("ByClass-v0", "ByName-v0"):
    data = CollectorDataModule(EnvConfig(env_id), num_workers=1)
    with closing(data.dataset(Net())) as dataset:
        print(next(iter(dataset)).payload.returns.max().item())
"""


def test_workers_know_what_a_script_defines_and_registers_without_importing_it(tmp_path: Path) -> None:
    assert run_script(WITHOUT_GUARD, tmp_path) == (0, "once\n0.0\n0.0\n", "")


CHANGES_THE_REGISTRY = """
import threading
from contextlib import closing

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from tests.streams import small_stream


class Times(gymnasium.RewardWrapper, gymnasium.utils.RecordConstructorArgs):
    def __init__(self, env, factor):
        gymnasium.utils.RecordConstructorArgs.__init__(self, factor=factor)
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


class Nested(gymnasium.Wrapper):
    def __init__(self):
        super().__init__(gymnasium.make("MountainCar-v0"))


lock = threading.Lock()
gymnasium.register("CannotBePickled-v0", entry_point=lambda: lock, kwargs={"lock": lock})
gymnasium.registry["MountainCar-v0"].max_episode_steps = 3  # it is never solved so soon
gymnasium.register("Nested-v0", entry_point="__main__:Nested")
gymnasium.register(
    "Times-v0",
    entry_point="gymnasium.envs.classic_control:MountainCarEnv",
    max_episode_steps=4,
    additional_wrappers=(WrapperSpec("Times", "__main__:Times", {"factor": 5}),),
)
for env_id in ("MountainCar-v0", "Nested-v0", "Times-v0"):
    with closing(small_stream(env_id, num_workers=1)) as stream:
        stats = next(iter(stream)).stats
    ended = stats.episode_lengths > 0
    print(env_id, *{*stats.episode_lengths[ended].tolist()}, *{*stats.episode_returns[ended].tolist()})
"""


def test_workers_play_what_a_script_has_changed_in_gymnasiums_registry(tmp_path: Path) -> None:
    played = "MountainCar-v0 3 -3.0\nNested-v0 3 -3.0\nTimes-v0 4 -20.0\n"
    assert run_script(CHANGES_THE_REGISTRY, tmp_path) == (0, played, "")


def test_workers_load_no_test_module_for_environments_that_they_do_not_play() -> None:
    # they get every registered environment; one registered by its class would cost each of them seconds of imports
    specs = gymnasium.registry.values()
    by_class = [spec.id for spec in specs if getattr(spec.entry_point, "__module__", "").startswith("tests.")]
    assert by_class == []


def test_workers_repeat_no_warning_of_gymnasiums(capfd: pytest.CaptureFixture[str]) -> None:
    kwargs = {"script": [((0.0,), "terminated")], "start": 2_000_000}  # above its space
    with pytest.warns(UserWarning, match="not within the observation space"):
        stream = dataset(env=EnvConfig("tests.scripted:Scripted-v0", num_envs=4, kwargs=kwargs), num_workers=1)
    with closing(stream):
        next(iter(stream))
    assert capfd.readouterr().err == ""


def test_what_cannot_be_sent_to_workers_is_refused_before_any_starts() -> None:
    lock = threading.Lock()

    def make() -> gymnasium.Env:
        with lock:
            return CartPoleEnv()

    gymnasium.register("Locked-v0", entry_point=make)
    try:
        with pytest.raises(ValueError, match=r"Locked-v0 or MLP: cannot pickle '_thread.lock' object; .* in a module"):
            next(iter(dataset(env=EnvConfig("Locked-v0", num_envs=1))))
    finally:
        del gymnasium.registry["Locked-v0"]


FORK_AND_DIE = """child = os.fork()
    if not child:
        time.sleep(100)
    print(child, flush=True)
    os.kill(os.getpid(), 9)
"""


ORPHANS = """
import os
import time

from tests.streams import small_stream

if __name__ == "__main__":
    stream = small_stream()
    next(iter(stream))
    print(*stream._backend.pids, flush=True)
    time.sleep(100)
"""


def test_workers_end_and_nothing_stays_when_the_learner_is_killed(tmp_path: Path) -> None:
    command = script_in(ORPHANS, tmp_path)
    learner = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert learner.stdout is not None
    pids = [int(pid) for pid in learner.stdout.readline().split()]
    assert len(pids) == 2
    learner.kill()
    learner.communicate()
    assert all_gone(*pids)  # that nothing stays in /dev/shm, conftest.py checks


@pytest.mark.parametrize(("game", "is_seeded"), [("PongNoFrameskip-v4", False), ("ALE/Pong-v5", True)])
def test_asynchronous_workers_seed_atari_games_only_where_actions_are_sticky(game: str, is_seeded: bool) -> None:
    # Pong stands still until its first serve: 20 steps of 4 frames reach beyond it after any number of initial no-ops
    shape = {"n_steps": 20, "micro_batch_size": 80, "batch_size": 80, "num_workers": 1, "updates_per_epoch": 1}
    env = EnvConfig(game, num_envs=4)
    with closing(dataset(env=env, **shape)) as first, closing(dataset(env=env, **shape)) as second:
        second.net.load_state_dict(first.net.state_dict())
        one, other = next(iter(first)), next(iter(second))
        assert torch.equal(one.payload.observations, other.payload.observations) is is_seeded


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_workers_in_bf16_send_float32(mode: str) -> None:
    module = data(worker_precision="bf16-true", num_workers=1)
    agent = A3CModule.for_data(module)
    if mode == "gradient":
        module.make_payload = SendGradients(agent.loss)
    with closing(module.dataset(agent.net)) as stream:
        payload = next(iter(stream)).payload
    sent = payload.gradient if isinstance(payload, Gradients) else payload.returns
    assert sent.dtype == torch.float32
    assert sent.isfinite().all()
    assert sent.abs().sum() > 0
    assert all(parameter.dtype == torch.float32 for parameter in agent.net.parameters())
