"""How experience is collected, as frozen values that travel whole instead of one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lightning_a3c.collection.ray_cluster.config import RayCollectors
from lightning_a3c.rl.targets import TargetName

WorkerPrecision = Literal["32-true", "bf16-true"]
"""Of a worker's weights, in Lightning's words. What a worker sends is always float32."""


@dataclass(frozen=True)
class RolloutConfig:
    """How one collector turns experience into micro-batches.

    Args:
        n_steps: N of the return targets, >= 1.
        targets: the formula of the targets.
        gae_lambda: λ of the targets "gae", in [0, 1].
        discount: γ in [0, 1].
        micro_batch_size: transitions in one payload, >= 1.
        sends_sequences: make sequences of `n_steps` instead of transitions; `micro_batch_size` is then a multiple of
            `n_steps` times the number of environments.
        synchronous: every payload comes from one policy version, and the collector's state can be saved and restored.
    """

    n_steps: int = 4
    discount: float = 0.99
    micro_batch_size: int = 32
    targets: TargetName = "n_step"
    gae_lambda: float = 0.95
    synchronous: bool = False
    sends_sequences: bool = False


@dataclass(frozen=True)
class Supervision:
    """When a failed worker is restarted, and when the run ends instead.

    Args:
        max_restarts: restarts allowed for one worker within `window`; one failure more ends the run.
        window: seconds, > 0.
        first_delay: seconds before the first restart, > 0; doubles with each further one in the window.
        timeout: seconds after which a worker counts as hung and is killed, > 0: it had room for a message, sent none,
            and made no new call to its environments. Start-up and each single call must fit in.
    """

    max_restarts: int = 3
    window: float = 300.0
    first_delay: float = 0.5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise ValueError(f"data.supervision.max_restarts must be >= 0, got {self.max_restarts}")
        for name in ("window", "first_delay", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.supervision.{name} must be > 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class StreamConfig:
    """How many collectors there are, and how their messages become batches.

    Args:
        num_workers: collector processes; 0 collects in this process.
        messages_per_batch: payloads concatenated to one batch, >= 1.
        updates_per_epoch: batches in an epoch, >= 1.
        slots_per_worker: messages each worker may have under way, being filled or waiting, >= 1. With workers of equal
            speed this bounds the policy lag.
        learner_threads: PyTorch threads of the learner; None takes the cores that the workers leave.
        supervision: when failed workers are restarted.
        pin_memory: place batches where a GPU can copy them while the learner goes on.
        collectors: where the processes run, if not on this machine alone.
    """

    num_workers: int = 4
    messages_per_batch: int = 4
    updates_per_epoch: int = 500
    slots_per_worker: int = 2
    learner_threads: int | None = None
    supervision: Supervision = field(default_factory=Supervision)
    pin_memory: bool = False
    collectors: RayCollectors | None = None
