"""The process that workers are forked from, and what others of the program notice of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_a3c.collection.processes.fork_server import ForkedProcess, start_fork_server

ROOT = str(Path(__file__).parents[1])


class Witness:
    """Notes, when it is sent to a process, what the script looks like at that time."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __reduce__(self) -> Any:
        script = sys.modules["__main__"]
        self.seen.append((script.__file__, script.__spec__))
        return Witness, ()


def nothing(_: Witness) -> None:
    pass


def test_the_script_is_hidden_only_until_multiprocessing_has_looked_for_it() -> None:
    script = sys.modules["__main__"]
    before = script.__file__, script.__spec__
    witness = Witness()
    start_fork_server()
    process = ForkedProcess(target=nothing, args=(witness,), daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert witness.seen == [before]
    assert (script.__file__, script.__spec__) == before


def test_the_script_is_there_again_if_a_process_cannot_be_started() -> None:
    script = sys.modules["__main__"]
    before = script.__file__, script.__spec__
    start_fork_server()
    process = ForkedProcess(target=lambda: None)  # no module has it
    with pytest.raises(AttributeError, match="pickle"):
        process.start()
    assert (script.__file__, script.__spec__) == before


COLLECT = """
import multiprocessing
import os
import sys
import time
from contextlib import closing


def collect(num_workers):
    from tests.streams import small_stream

    with closing(small_stream(num_workers=num_workers)) as stream:
        return len(list(stream))


def variable(queue):
    queue.put(os.environ.get("OMP_NUM_THREADS"))


def sleep(queue):
    queue.put("asleep")
    time.sleep(100)


if __name__ == "__main__":
"""

DAEMONIC = """
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(collect, [0, 2]))
"""

FORKED = """
    print(collect(2), flush=True)
    child = os.fork()
    if not child:
        print(collect(2), flush=True)
        sys.exit()
    print(os.waitpid(child, 0)[1], collect(2))
"""

FORKED_BEFORE_IMPORT = """
    process = multiprocessing.get_context("forkserver").Process(target=print)
    process.start()
    process.join()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(collect, [2]))
"""

ALIVE = """
    collect(2)
    child = os.fork()
    if not child:
        time.sleep(200)
        os._exit(0)
    print(child, flush=True)
"""

OTHERS = """
    os.environ.pop("OMP_NUM_THREADS", None)
    collect(1)
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    process = context.Process(target=variable, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    process = context.Process(target=sleep, args=(queue,))
    process.start()
    queue.get()
    process.terminate()
    process.join(60)
    print(process.exitcode)
    process.kill()
"""


def run(body: str, folder: Path, *args: str) -> tuple[int, str, str]:
    (folder / "script.py").write_text(COLLECT + body)
    environment = {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}  # a fork inherits no threads
    done = subprocess.run(
        [sys.executable, "script.py", *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_daemonic_process_may_have_workers(method: str, tmp_path: Path) -> None:
    assert run(DAEMONIC, tmp_path, method) == (0, "[2, 2]\n", "")


def test_a_forked_child_has_a_server_of_its_own_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    assert run(FORKED, tmp_path) == (0, "2\n2\n0 2\n", "")


def test_a_process_forked_before_the_import_leaves_its_parents_server_alone(tmp_path: Path) -> None:
    assert run(FORKED_BEFORE_IMPORT, tmp_path) == (0, "\n[2]\n", "")


def test_a_program_ends_though_a_child_that_it_forked_lives_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(COLLECT + ALIVE)
    program = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    try:
        assert program.wait(100) == 0
    finally:
        os.kill(child, signal.SIGKILL)
        program.kill()
        program.communicate()


def test_the_programs_own_processes_can_be_terminated_and_are_not_held_to_one_thread(tmp_path: Path) -> None:
    assert run(OTHERS, tmp_path) == (0, "None\n-15\n", "")
