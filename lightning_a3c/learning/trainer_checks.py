"""Validating a trainer, its callbacks and its data before anything starts: one clear error each."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from lightning_a3c.collection.ray_cluster.cluster import require_answer
from lightning_a3c.collection.ray_cluster.config import RayCollectors
from lightning_a3c.learning import lightning_internals
from lightning_a3c.learning.checkpoints import require_loadable
from lightning_a3c.learning.gradient_parallel import GradientParallel

# true 16 bits would also round the episode returns that workers report; 16-mixed scales losses, which gradient-mode
# workers never see and fused optimizers unscale only after gradients are clipped
_PRECISIONS = ("32-true", "bf16-mixed")

_UNSUPPORTED = ("deepspeed", "fsdp", "xla")  # beginnings of strategies' names
_STARTS_ELSEWHERE = ("spawn", "fork", "notebook")  # in strategies' names

_NO_ACCUMULATION = "weights are published once a batch: remove it, and raise data.batch_size"


def validate_trainer(trainer: pl.Trainer) -> None:
    """Raise MisconfigurationException for an option or callback that does not go with collectors."""
    require_supported_strategy(trainer)
    if (trainer.gradient_clip_val or 0) < 0:
        raise MisconfigurationException(f"trainer.gradient_clip_val must be >= 0, got {trainer.gradient_clip_val}")
    precision = trainer.precision_plugin.precision
    if precision not in _PRECISIONS:
        raise MisconfigurationException(
            f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {precision}: weights are float32, "
            "and losses are not scaled"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise MisconfigurationException(
                f"{type(callback).__name__} tries batches of a data set; here data.batch_size and optimizer.lr are "
                "part of how an agent learns: remove it, and compare whole runs instead"
            )
        if isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches():
            raise MisconfigurationException(f"{type(callback).__name__} accumulates gradients; {_NO_ACCUMULATION}")
    if trainer.accumulate_grad_batches != 1:
        raise MisconfigurationException(
            f"trainer.accumulate_grad_batches must be 1, got {trainer.accumulate_grad_batches}; {_NO_ACCUMULATION}"
        )


def validate_fit(trainer: pl.Trainer, net: torch.nn.Module) -> None:
    """Raise MisconfigurationException if `fit` could not train `net` with these data, or not keep the result.

    Raises:
        WorkerError: the cluster that is to collect does not answer.
    """
    module = trainer.lightning_module
    data: Any = getattr(trainer, "datamodule", None)
    if trainer.gradient_clip_val and not module.automatic_optimization:
        raise MisconfigurationException(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}, but in gradient mode GradientParallel clips: "
            "set trainer.gradient_clip_val to null, and max_norm or worker_max_norm of GradientParallel"
        )
    if any(isinstance(callback, GradientParallel) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        if not hasattr(data, "make_payload"):
            raise MisconfigurationException(
                f"GradientParallel tells a CollectorDataModule what its workers send, got {type(data).__name__}; "
                "call trainer.fit(module, datamodule=CollectorDataModule(...))"
            )
        complex_ones = [name for name, parameter in net.named_parameters() if parameter.is_complex()]
        if complex_ones:
            raise MisconfigurationException(
                f'gradients of complex parameters ({", ".join(complex_ones)}) cannot be sent; use mode="data"'
            )
    if hasattr(data, "share_cores"):
        try:
            data.share_cores(trainer.num_devices)
        except ValueError as error:
            raise MisconfigurationException(str(error)) from error
    collectors = getattr(data, "collectors", None)
    if isinstance(collectors, RayCollectors):
        require_answer(collectors)
    if trainer.checkpoint_callbacks:
        require_loadable(module.hparams)
        if hasattr(data, "env"):
            require_loadable({"env.kwargs": data.env.kwargs})


def require_supported_strategy(trainer: pl.Trainer) -> None:
    """Raise MisconfigurationException unless the learners run in this process and in processes like it."""
    strategy = trainer.strategy
    if lightning_internals.starts_learner_elsewhere(trainer):
        raise MisconfigurationException(_no_result(f"{type(strategy).__name__} that forks or spawns"))
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise MisconfigurationException(_unsupported(type(strategy).__name__))
    require_started_learners(trainer.num_devices, trainer.num_nodes)
    if trainer.world_size > 1 and trainer.state.fn == "predict":
        raise MisconfigurationException(
            f"predict computes on one device, got {trainer.world_size} of them; set trainer.devices and "
            "trainer.num_nodes to 1"
        )


def require_supported_names(strategy: object, accelerator: object) -> None:
    """Raise MisconfigurationException for names that are refused, before Lightning asks for packages that they need."""
    if isinstance(strategy, str) and strategy.startswith(_UNSUPPORTED):
        raise MisconfigurationException(_unsupported(strategy))
    if isinstance(strategy, str) and any(how in strategy for how in _STARTS_ELSEWHERE):
        raise MisconfigurationException(_no_result(strategy))
    if accelerator == "tpu":
        raise MisconfigurationException("trainer.accelerator must be cpu, gpu, mps or auto, got tpu")


def require_started_learners(devices: object, num_nodes: object) -> None:
    """Raise MisconfigurationException if torchrun has started another number of processes than there are learners.

    Args:
        devices: of each machine; only a number is looked at.
        num_nodes: machines.
    """
    if not TorchElasticEnvironment.detect() or not isinstance(devices, int) or not isinstance(num_nodes, int):
        return
    started = int(os.environ["WORLD_SIZE"])
    if devices > 0 and devices * num_nodes != started:
        raise MisconfigurationException(
            f"trainer.devices {devices} × trainer.num_nodes {num_nodes} must be the number of processes that torchrun "
            f"has started, {started}: each is one learner, with trainer.strategy ddp; set them, or --nproc-per-node"
        )


def needs_all_parameters(trainer: pl.Trainer) -> bool:
    """Whether DDP waits for the gradient of every parameter."""
    return trainer.world_size > 1 and not lightning_internals.finds_unused_parameters(trainer)


def end_started_learners(trainer: pl.Trainer) -> None:
    """End the processes that Lightning has started for further learners.

    Lightning starts them before any hook. None of them has come as far as importing the script when the first hook
    runs.
    """
    started = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        process.kill()
        process.wait()
    started.clear()  # otherwise Lightning ends this process because those have ended


def _no_result(strategy: str) -> str:
    return (
        f"trainer.strategy must be auto for one learner or ddp for several, got {strategy}: learners that are forked "
        "or spawned return no result"
    )


def _unsupported(strategy: str) -> str:
    return (
        f"trainer.strategy must be auto for one learner or ddp for several, got {strategy}: each learner needs all "
        "weights in one piece, since its workers act with them"
    )
