"""Ray clusters of several nodes on this machine, for tests: `python -m tests.ray_nodes CPUS CPUS …` runs one.

It writes the address. Then each line that it reads is a command: `add CPUS`, or `kill NUMBER` with the number of a
node; 0 is the head.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}


class Nodes:
    """A cluster in a process of its own, since this one may join it."""

    def __init__(self, *cpus: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_nodes", *map(str, cpus)],
            cwd=Path(__file__).parents[1],
            env=os.environ | LOOPBACK,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._read()

    def add(self, cpus: int) -> None:
        self._tell(f"add {cpus}")

    def kill(self, number: int) -> None:
        self._tell(f"kill {number}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        assert self._read() == "done"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster ended"
        return line


def main() -> None:
    from ray.cluster_utils import Cluster

    head, *others = map(int, sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False})
    nodes: list[Any] = [cluster.head_node, *(cluster.add_node(num_cpus=cpus) for cpus in others)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        command, number = line.split()
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=int(number)))
        else:
            nodes[int(number)].kill_raylet(check_alive=False)  # its workers die with it, as when a machine is lost
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
