"""Settings of the learner's process that workers take over.

The fork server may have been started by an earlier fit, under other settings, so workers cannot simply inherit them.
"""

from __future__ import annotations

import os
import random
from typing import Any, NamedTuple

import numpy as np
import torch

_OWN = "OMP_NUM_THREADS"  # 1 in every worker, or they fight for the cores


class ProcessSettings(NamedTuple):
    """Settings of a process that environments and networks may depend on."""

    variables: dict[str, str]
    folder: str
    cores: set[int] | None  # that the process may run on; None where the system does not say
    dtype: torch.dtype  # of new tensors
    is_deterministic: bool  # whether PyTorch must use deterministic algorithms
    only_warns: bool  # instead of raising where there is none
    numpy_errors: Any  # how NumPy treats overflow and other floating-point errors

    @classmethod
    def current(cls) -> ProcessSettings:
        """The settings of this process.

        Raises:
            FileNotFoundError: the current folder was removed.
        """
        return cls(
            variables=dict(os.environ),
            folder=os.getcwd(),
            cores=os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
            dtype=torch.get_default_dtype(),
            is_deterministic=torch.are_deterministic_algorithms_enabled(),
            only_warns=torch.is_deterministic_algorithms_warn_only_enabled(),
            numpy_errors=np.geterr(),
        )

    def apply(self) -> None:
        """Apply them to this process, a worker."""
        variables = self.variables | {_OWN: "1"}
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
        os.chdir(self.folder)
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        torch.set_default_dtype(self.dtype)
        if self.is_deterministic:  # to set it takes PyTorch an import of half a second
            torch.use_deterministic_algorithms(True, warn_only=self.only_warns)
        np.seterr(**self.numpy_errors)


def seed_generators(*entropy: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch.

    Workers are forked from one process, so without this, environments and networks that use the global generators
    would draw the same numbers in every worker.
    """
    for_python, for_numpy, for_torch = (int(seed) for seed in np.random.SeedSequence(entropy).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)
