"""Collectors on Ray: they equal the local pool, and what is lost is replaced or ends the run. Real clusters."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lightning_a3c import A3CModule, EnvConfig, GradientParallel, RayCollectors, Supervision
from lightning_a3c.collection.processes.errors import WorkerError
from lightning_a3c.collection.ray_cluster.cluster import ClusterConnection, require_answer
from lightning_a3c.collection.ray_cluster.config import is_loopback
from lightning_a3c.rl.types import Batch
from tests.command_line import lightning_a3c
from tests.ray_nodes import Nodes
from tests.scripted import SeededLengthEnv
from tests.small_runs import data, dataset
from tests.test_peers import END_SECONDS, Run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs ray"),
]

ACTOR = "ray::Collectors"
WAIT_SECONDS = 90.0  # for what happens within seconds on an idle machine


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster whose head has too few CPUs for an actor, and of two further nodes."""
    with closing(Nodes(1, 2, 2)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def joined(nodes: Nodes) -> Iterator[Callable[..., RayCollectors]]:
    """This process is part of the cluster; gives what makes collectors there."""

    def collectors(**changes: Any) -> RayCollectors:
        return RayCollectors(**({"actors": 2, "cpus_per_actor": 2, "address": nodes.address} | changes))

    with closing(ClusterConnection(collectors(), 2)):
        yield collectors


def batches(count: int, collectors: RayCollectors | None, state: Any = None, **changes: Any) -> tuple[list[Batch], Any]:
    """The first batches of a lock-step run whose network changes after each, and the state after half of them."""
    mode, module = changes.pop("mode", "data"), changes.pop("module", {})
    torch.manual_seed(0)
    settings = data(**({"synchronous": True, "updates_per_epoch": 20, "collectors": collectors} | changes))
    agent = A3CModule.for_data(settings, mode=mode, **module)
    send = GradientParallel().make_payload(agent) if mode == "gradient" else None
    stream = settings.dataset(agent.net, make_payload=send)
    taken, half = [], None
    if state is not None:
        agent.net.load_state_dict(state["net"])
        stream.load_state_dict(state["stream"])
    with closing(stream):
        for batch in stream:
            taken.append(batch)
            with torch.no_grad():
                for parameter in agent.net.parameters():
                    parameter.mul_(0.98)
            if 2 * len(taken) == count:
                half = {"net": {k: v.clone() for k, v in agent.net.state_dict().items()}, "stream": stream.state_dict()}
            if len(taken) == count:
                return taken, half
    raise AssertionError("the epoch is too short")


def differing(ones: list[Batch], others: list[Batch]) -> list[str]:
    """The fields that differ; versions count from 1 in each start of the collectors."""
    return [
        f"{name} of batch {number}"
        for number, (one, other) in enumerate(zip(ones, others, strict=True))
        for part, same in ((one.payload, other.payload), (one.stats, other.stats))
        for name, mine, theirs in zip(part._fields, part, same, strict=True)
        if name != "policy_version" and not torch.equal(mine.nan_to_num(7), theirs.nan_to_num(7))
    ]


MEMORY = {"class_path": "lightning_a3c.RecurrentNetwork", "init_args": {"hidden_size": 8}}


@pytest.mark.parametrize(
    "options",
    [
        {"module": {"normalize_observations": True, "normalize_rewards": True}, "batch_size": 64},
        {
            "env": EnvConfig("tests.scripted:Masked-v0", num_envs=4, action_mask="info"),
            "mode": "gradient",
            "worker_precision": "bf16-true",
            "module": {"network": MEMORY},
        },
    ],
    ids=["normalized", "gradients of memory with masks in bfloat16"],
)
def test_lock_step_on_ray_equals_the_local_pool_and_resumes_on_another_number_of_actors(
    options: dict[str, Any], joined: Callable[..., RayCollectors]
) -> None:
    local, _ = batches(6, None, **options)
    remote, half = batches(6, joined(), **options)
    assert not differing(local, remote)
    resumed, _ = batches(3, joined(actors=1), half, **options)
    assert not differing(remote[3:], resumed)
    with pytest.raises(ValueError, match=r"has 2 collectors × 4 .*, this run 4 × 4: .* set data.num_workers to 2"):
        batches(3, joined(), half, **(options | {"num_workers": 4, "batch_size": 64}))


def actors() -> list[psutil.Process]:
    return [
        process for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [""])[0][:15] == ACTOR
    ]


def workers_of(actor: psutil.Process) -> list[psutil.Process]:
    return [worker for server in actor.children() for worker in server.children()]


def take_until(stream: Iterator[Batch], restarts: int) -> Batch:
    deadline = time.monotonic() + WAIT_SECONDS
    while (batch := next(stream)).worker_restarts.item() < restarts:
        assert time.monotonic() < deadline
    assert batch.worker_restarts.item() == restarts
    return batch


def test_a_lost_worker_and_a_lost_actor_are_replaced_while_the_others_go_on(
    joined: Callable[..., RayCollectors], register: Callable[..., str]
) -> None:
    class OwnEnv(SeededLengthEnv):  # can be found by nobody but this function
        pass

    env = EnvConfig(register("Own-v0", OwnEnv), num_envs=4, backend="gymnasium")
    settings = {"env": env, "collectors": joined(), "num_workers": 4, "updates_per_epoch": 10**9}
    with closing(dataset(**settings)) as stream:
        running = iter(stream)
        first = next(running)
        assert first.payload.observations.shape == (32, 1)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(actors()) < 2 or not all(len(workers_of(actor)) == 2 for actor in actors()):
            next(running)
            assert time.monotonic() < deadline
        broken, other = actors()
        workers_of(other)[0].kill()
        take_until(running, 1)
        broken.kill()
        take_until(running, 2)
        while len(actors()) < 2:
            next(running)
        assert other in actors()
    psutil.wait_procs(left := actors(), timeout=10)
    assert not any(actor.is_running() for actor in left)


def test_messages_name_their_collectors_through_all_actors(joined: Callable[..., RayCollectors]) -> None:
    with closing(dataset(collectors=joined(), num_workers=4, updates_per_epoch=10**9)) as stream:
        running, seen = iter(stream), set()
        deadline = time.monotonic() + WAIT_SECONDS
        while len(seen) < 4:
            seen |= {*next(running).stats.collector.tolist()}
            assert time.monotonic() < deadline
        assert seen == {0, 1, 2, 3}


def test_an_actor_that_finds_no_room_is_waited_for_within_a_bound(joined: Callable[..., RayCollectors]) -> None:
    with (
        closing(dataset(collectors=joined(cpus_per_actor=3, start_timeout=1.0))) as stream,
        pytest.raises(
            WorkerError, match=r"found no room within data.collectors.start_timeout \(1 s\): it needs 3 CPUs"
        ),
    ):
        next(iter(stream))


def test_other_versions_on_a_node_are_refused_with_both(
    joined: Callable[..., RayCollectors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_a3c.version.__version__", "0.0.1")
    with closing(dataset(collectors=joined(actors=1))) as stream, pytest.raises(WorkerError) as refused:
        next(iter(stream))
    assert "and 0.0.1 here; install the same versions on all nodes" in str(refused.value)
    assert "torch" not in str(refused.value)


def test_an_error_that_workers_repeat_ends_the_run_with_its_traceback(joined: Callable[..., RayCollectors]) -> None:
    settings = {"env": EnvConfig("tests.scripted:Failing-v0", num_envs=4), "updates_per_epoch": 10**9}
    settings["supervision"] = Supervision(max_restarts=0)
    with closing(dataset(collectors=joined(actors=1), **settings)) as stream, pytest.raises(WorkerError) as ended:
        for _ in stream:
            pass
    assert "collector" in str(ended.value)
    assert "Traceback" in str(ended.value)


@pytest.mark.slow
def test_a_lost_node_is_made_up_for_by_one_that_joins_later(nodes: Nodes, joined: Callable[..., RayCollectors]) -> None:
    settings = {"collectors": joined(), "updates_per_epoch": 10**9, "supervision": Supervision(max_restarts=0)}
    with closing(dataset(**settings)) as stream:
        running = iter(stream)
        deadline = time.monotonic() + WAIT_SECONDS
        while next(running) is not None and len(actors()) < 2:
            assert time.monotonic() < deadline
        nodes.kill(2)
        take_until(running, 1)
        for _ in range(50):
            next(running)
        assert len(actors()) == 1
        nodes.add(2)
        deadline = time.monotonic() + WAIT_SECONDS
        while next(running) is not None and len(actors()) < 2:
            assert time.monotonic() < deadline


def ended(run: Run, number: signal.Signals, everyone: bool) -> int:
    """Send a signal to a learner on a cluster of its own, or to all its processes; returns the exit code."""
    run.pid(0)
    (os.killpg if everyone else os.kill)(run.first.pid, number)
    return run.end()


def listened_at(run: Run) -> set[str]:
    """The addresses at which processes of a run take connections."""
    found = set()
    for process in run._processes():
        with suppress(psutil.NoSuchProcess):
            found |= {each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    assert found
    return found


@pytest.mark.parametrize(
    ("number", "everyone", "code"),
    [(signal.SIGTERM, False, 0), pytest.param(signal.SIGINT, True, 1, marks=pytest.mark.slow)],
)
def test_a_signal_ends_the_learner_its_actors_and_its_own_cluster(
    number: signal.Signals, everyone: bool, code: int, tmp_path: Path
) -> None:
    run = Run(tmp_path, learners=1, updates=-1, collectors={"actors": 2})
    run.pid(0)
    assert listened_at(run) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert ended(run, number, everyone) == code, run.output.read_text()
    assert run.last_updates() >= 5
    assert "Ray: started a cluster on this machine" in run.output.read_text()


@pytest.mark.slow
def test_a_signal_to_one_of_two_learners_ends_both_and_their_clusters(tmp_path: Path) -> None:
    run = Run(tmp_path, learners=2, updates=-1, collectors={"actors": 1})
    run.pid(0)
    os.kill(run.pid(1), signal.SIGTERM)
    assert run.end() == 0, run.output.read_text()
    assert run.last_updates() >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("daemon", "env"), [("raylet/raylet", "Slow"), ("raylet/raylet", "Wide"), ("gcs_server", "Slow")]
)
def test_a_run_whose_cluster_is_lost_leaves_a_checkpoint(daemon: str, env: str, tmp_path: Path) -> None:
    # while the learner waits: Ray ends a process that talks to a dead daemon
    env = f"tests.two_learners:{env}CartPole-v0"
    run = Run(tmp_path, learners=1, updates=-1, env=env, collectors={"actors": 1, "messages_per_call": 3})
    run.pid(0)
    time.sleep(3)  # now the learner waits
    (lost,) = (process for process in run._processes() if daemon in " ".join(process.cmdline()))
    lost.kill()
    assert run.first.wait(END_SECONDS) == 1
    assert run.last_updates() >= 5
    run.end(2 * END_SECONDS)  # Ray's own processes take a minute
    assert "ClusterLost" in run.output.read_text()


def test_actors_end_soon_after_a_learner_that_was_killed(nodes: Nodes, tmp_path: Path) -> None:
    before = actors()
    run = Run(tmp_path, learners=1, updates=-1, collectors={"cpus_per_actor": 2, "address": nodes.address})
    run.pid(0)
    (actor,) = (actor for actor in actors() if actor not in before)
    everyone = [actor, *actor.children(recursive=True)]
    run.first.kill()
    _, alive = psutil.wait_procs(everyone, timeout=10)
    assert not alive
    run.end()


@pytest.mark.slow
def test_cartpole_is_solved_on_two_nodes_while_one_is_killed(tmp_path: Path) -> None:
    with closing(Nodes(1, 2, 2)) as cluster:
        collectors = {"actors": 2, "cpus_per_actor": 2, "address": cluster.address}
        run = Run(tmp_path, learners=1, updates=-1, solved=SOLVED, collectors=collectors, **SOLVING)
        run.pid(0)
        cluster.kill(2)
        assert run.end(seconds=400) == 0, run.output.read_text()
    assert run.results(0)["progress"]["returns"]
    assert "with its node" in run.output.read_text()
    assert "Solved" in run.output.read_text()


@pytest.mark.slow
def test_cartpole_is_solved_by_two_learners_with_collectors_on_ray(tmp_path: Path) -> None:
    run = Run(
        tmp_path, learners=2, updates=-1, solved=SOLVED, collectors={"actors": 1}, **(SOLVING | {"batch_size": 128})
    )
    assert run.end(seconds=400) == 0, run.output.read_text()
    one, other = run.results(0), run.results(1)
    assert one["updates"] == other["updates"]
    assert one["progress"]["returns"] == other["progress"]["returns"]
    assert "Solved" in run.output.read_text()


SOLVED = 150.0
SOLVING: dict[str, Any] = {"micro_batch_size": 64, "batch_size": 256, "num_workers": 2, "updates_per_epoch": 500}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actors": 0}, "data.collectors.actors must be >= 1, got 0"),
        ({"actors": 1.5}, "data.collectors.actors must be a whole number, got 1.5"),
        ({"messages_per_call": 0}, "data.collectors.messages_per_call must be >= 1, got 0"),
        ({"cpus_per_actor": -1}, "data.collectors.cpus_per_actor must be > 0 and finite, got -1"),
        ({"cpus_per_actor": 1.5}, "data.collectors.cpus_per_actor above 1 must be whole, as Ray counts, got 1.5"),
        ({"connect_timeout": float("inf")}, "data.collectors.connect_timeout must be > 0 and finite, got inf"),
        ({"address": "somewhere"}, r'data.collectors.address must be "host:port" .*, got \'somewhere\''),
        ({"address": "host:port"}, r'data.collectors.address must be "host:port" .*, got \'host:port\''),
        ({"address": "ray://host:10001"}, "Ray Client would send all experience through a proxy"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayCollectors(**arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 3}, "data.num_workers must be a multiple of data.collectors.actors, .* got 3 and 2"),
        ({"num_workers": 0}, "data.num_workers must be a multiple of data.collectors.actors, .* got 0 and 2"),
        ({"num_workers": "auto"}, "give a number, or set data.collectors.cpus_per_actor"),
        ({"worker_device": "meta"}, "data.worker_device must be cpu with data.collectors, got 'meta'"),
    ],
)
def test_settings_that_actors_cannot_follow_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(collectors=RayCollectors(actors=2), **settings)


def test_automatic_workers_are_one_for_each_cpu_that_is_set_aside() -> None:
    settings = data(num_workers="auto", collectors=RayCollectors(actors=3, cpus_per_actor=4), batch_size=16 * 12)
    assert settings.num_workers == 12


def test_messages_in_calls_count_in_the_lag_bound() -> None:
    local, remote = data(), data(collectors=RayCollectors(actors=2, messages_per_call=4))
    assert remote.lag_bound == local.lag_bound + 2 * 2 * 4 / 2


def test_a_large_lag_is_warned_about_with_the_ways_out() -> None:
    settings = data(collectors=RayCollectors(actors=4, messages_per_call=16), num_workers=4)
    ways = "raise data.batch_size, take more learners .*set data.targets to vtrace.*data.collectors.messages_per_call"
    with pytest.warns(UserWarning, match=rf"at most about {4 + 2 * 4 * 16 / 2:g} versions.*{ways}"):
        settings._announce_lag()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_a3c.collection.ray_cluster.config.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"data.collectors needs Ray, .* pip install 'lightning-a3c\[ray\]'"):
        RayCollectors()


def test_an_address_that_nobody_listens_at_is_refused_at_once() -> None:
    with pytest.raises(WorkerError, match=r"address 127.0.0.1:9 does not answer: no Ray cluster listens"):
        require_answer(RayCollectors(address="127.0.0.1:9"))


def test_an_address_where_something_else_listens_is_refused_within_the_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(WorkerError, match=r"does not answer within data.collectors.connect_timeout \(3 s\)"):
            require_answer(RayCollectors(address=address, connect_timeout=3.0))
        assert time.monotonic() - begun < 10


def test_the_command_line_refuses_in_one_line_before_it_writes_anything(tmp_path: Path) -> None:
    config = f"--config={Path(__file__).parents[1] / 'configs/cartpole_data.yaml'}"
    given = "--data.collectors=lightning_a3c.RayCollectors"
    for argument, message in (
        ("actors=0", "lightning-a3c: data.collectors.actors must be >= 1, got 0"),
        ("address=127.0.0.1:9", "lightning-a3c: data.collectors.address 127.0.0.1:9 does not answer: no Ray cluster"),
    ):
        done = lightning_a3c("fit", config, given, f"--data.collectors.{argument}", folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(message)
    assert not [*tmp_path.iterdir()]


def test_the_package_works_without_importing_ray() -> None:
    code = "import sys; from lightning_a3c import *; RayCollectors(); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_loopback_addresses_are_known() -> None:
    assert all(map(is_loopback, ("local", "127.0.0.1:6379", "localhost:6379", "[::1]:6379")))
    assert not any(map(is_loopback, ("auto", "10.0.0.1:6379", "head:6379")))
