"""Facts about this computer and its software that matter for speed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from lightning_a3c.version import __version__


def usable_cores() -> int:
    """Cores that this process may use; all cores where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str | int | float]:
    """Processor, cores, memory, GPU, operating system and the versions of the packages that matter for speed."""
    facts: dict[str, str | int | float] = {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "os": platform.platform(),
        "python": platform.python_version(),
    }
    packages = ("torch", "pytorch-lightning", "gymnasium", "ale-py")
    return facts | {"lightning-a3c": __version__} | {package: version(package) for package in packages}


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):  # the system does not say
        return 0.0


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
