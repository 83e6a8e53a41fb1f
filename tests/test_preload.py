"""What the fork server has imported stays shared with the processes forked from it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# in a process of its own: another test may have started this one's fork server in another way
PRIVATE_MEMORY = """
from lightning_a3c.collection.processes.fork_server import start_fork_server

collect_garbage = '''
import gc
gc.collect()
connection.send(open("/proc/self/smaps_rollup").read())
'''
context = start_fork_server()
ours, theirs = context.Pipe()
process = context.Process(target=exec, args=(collect_garbage, {"connection": theirs}))
process.start()
memory = dict(line.split(":") for line in ours.recv().splitlines()[1:])
process.join()
print(memory["Private_Dirty"].split()[0])
"""


def test_collecting_garbage_gives_a_worker_no_copy_of_what_was_imported_before_it() -> None:
    run = subprocess.run([sys.executable, "-c", PRIVATE_MEMORY], capture_output=True, check=True)
    assert int(run.stdout) < 20 * 1024  # KiB; all of it is over 40 MiB
