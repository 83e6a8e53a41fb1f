"""What the fork server has imported stays shared with the processes forked from it."""

import re
import sys

import pytest

from lightning_a3c.fork_server import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

COLLECT_GARBAGE = """
import gc
gc.collect()
connection.send(open("/proc/self/smaps_rollup").read())
"""


def test_collecting_garbage_gives_a_worker_no_copy_of_what_was_imported_before_it() -> None:
    context = start()
    ours, theirs = context.Pipe()
    process = context.Process(target=exec, args=(COLLECT_GARBAGE, {"connection": theirs}))
    process.start()
    memory = ours.recv()
    process.join()
    found = re.search(r"Private_Dirty: +(\d+) kB", memory)
    assert found is not None
    assert int(found[1]) < 20 * 1024  # all of it is over 40 MiB
