"""Gradient parallelism: workers differentiate, the learner sums, clips and applies."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lightning_a3c.collection.payloads import SendGradients, clip_scale, differentiable
from lightning_a3c.learning.non_finite import NonFiniteCounter
from lightning_a3c.learning.peers import Peers
from lightning_a3c.learning.update_log import UpdateLog
from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.types import Batch, Gradients


class GradientParallel(pl.Callback):
    """Gradient parallelism: workers differentiate; this callback sums, clips and assigns their gradients.

    For an `A3CModule` trained on a `CollectorDataModule`; it puts the module into gradient mode. Each worker computes
    the combined loss's gradient on `micro_batch_size` transitions and clips it to `worker_max_norm`. The callback sums
    `batch_size / micro_batch_size` of them, clips the sum to `max_norm` and assigns it to `.grad`. The module's
    `training_step` then steps the optimizer, where Lightning counts the step.

    The sum of k means over m transitions is k times the mean over k·m transitions that data mode uses. Lapan's
    implementation sums too; where the clip binds, as it nearly always does at 0.1, the factor has no effect.

    Several learners add up the sums of all before they clip, so the number of learners counts like that of workers.

    A gradient with NaN or infinite entries is dropped and counted. The sum is made in the batch's own memory.

    Parameters may be frozen and unfrozen between updates, as `BaseFinetuning` does. Workers differentiate those that
    are trained at their weights' version, and a parameter gets its gradient if it is trained when that arrives.

    >>> callback = GradientParallel(max_norm=0.1)

    Args:
        max_norm: L2 norm that the sum is clipped to, > 0.
        worker_max_norm: L2 norm that each worker clips its gradient to, > 0.
        max_dropped_in_a_row: this many dropped gradients with no good one between them end training.
    """

    def __init__(self, max_norm: float = 0.1, worker_max_norm: float = 0.1, max_dropped_in_a_row: int = 10) -> None:
        for name, value in (("max_norm", max_norm), ("worker_max_norm", worker_max_norm)):
            if not value > 0:
                raise ValueError(f"GradientParallel.{name} must be > 0, got {value}")
        if max_dropped_in_a_row < 1:
            raise ValueError(f"GradientParallel.max_dropped_in_a_row must be >= 1, got {max_dropped_in_a_row}")
        self.max_norm = max_norm
        self.worker_max_norm = worker_max_norm
        self._dropped = NonFiniteCounter(max_dropped_in_a_row)

    @property
    def dropped_gradients(self) -> int:
        """Worker gradients left out because they were NaN or infinite."""
        return self._dropped.total

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not hasattr(pl_module, "update_log"):
            raise MisconfigurationException(
                f"GradientParallel needs an A3CModule, got {type(pl_module).__name__}; remove it"
            )

    def make_payload(self, module: pl.LightningModule) -> SendGradients:
        """What the workers of an `A3CModule` send."""
        assert isinstance(module.loss, A2CLoss)
        return SendGradients(module.loss, self.worker_max_norm)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module.net, torch.nn.Module)
        assert isinstance(pl_module.update_log, UpdateLog)
        gradients = batch.payload
        assert isinstance(gradients, Gradients)
        parameters = differentiable(pl_module.net)
        self._require_trained(parameters, gradients)
        finite = gradients.norm.isfinite()  # as the gradients themselves are
        total = _sum_in_place(gradients.gradient, finite)
        if pl_module.peers is not None:
            assert isinstance(pl_module.peers, Peers)
            gradients = _sum_over_learners(total, gradients, pl_module.peers)
            finite = gradients.norm.isfinite()
        pieces = torch.split(total, [parameter.numel() for parameter in parameters])
        used = gradients.has_gradient[finite].any(dim=0).tolist()
        for parameter, piece, is_used in zip(parameters, pieces, used, strict=True):
            if is_used and not parameter.requires_grad:
                piece.zero_()  # frozen after a worker differentiated it
        norm = torch.linalg.vector_norm(total)
        finite &= norm.isfinite().cpu()
        self._count_dropped(gradients, finite)
        if not finite.any():
            pl_module.update_log.keep("gradients", lambda: {"dropped_gradients": float(self.dropped_gradients)})
            for parameter in parameters:
                parameter.grad = None
            return
        total.mul_(clip_scale(norm, self.max_norm))
        for parameter, piece, is_used in zip(parameters, pieces, used, strict=True):
            is_trained = is_used and parameter.requires_grad
            parameter.grad = piece.view_as(parameter).to(parameter.dtype) if is_trained else None
        worker_norms = gradients.norm  # by itself: the sum's memory is free before the next batch

        def find() -> dict[str, float | Tensor]:
            return {
                "dropped_gradients": float(self.dropped_gradients),
                "grad_norm": norm,
                "worker_grad_norm": worker_norms[finite].mean(),
            }

        pl_module.update_log.keep("gradients", find)

    def state_dict(self) -> dict[str, Any]:
        return {"dropped_gradients": self.dropped_gradients}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._dropped.total = state_dict["dropped_gradients"]

    def _require_trained(self, parameters: list[torch.nn.Parameter], gradients: Gradients) -> None:
        if gradients.has_gradient.shape[1] != len(parameters):
            raise MisconfigurationException(
                f"the network has {len(parameters)} parameters, and had {gradients.has_gradient.shape[1]} when "
                "training began; freeze and unfreeze them instead, and add or replace them between two fits"
            )
        if not any(parameter.requires_grad for parameter in parameters):
            raise MisconfigurationException("all parameters of the network are frozen, so there is nothing to train")

    def _count_dropped(self, gradients: Gradients, finite: Tensor) -> None:
        for is_finite, worker in zip(finite.tolist(), gradients.worker.tolist(), strict=True):
            if is_finite:
                self._dropped.accept()
            else:
                self._dropped.leave_out(f"gradients with NaN or infinite entries, the last from worker {worker}")


def _sum_in_place(gradients: Tensor, finite: Tensor) -> Tensor:
    """The sum of the `finite` rows of [k, P], or of all if none is; it lies where one of them lay."""
    total: Tensor
    total, *others = [row for row, is_finite in zip(gradients, finite.tolist(), strict=True) if is_finite] or gradients
    for row in others:
        total += row
    return total


def _sum_over_learners(total: Tensor, gradients: Gradients, peers: Peers) -> Gradients:
    """Replace the sum `total` by that of all learners; returns everything else that they were sent, by rank.

    A learner that got no finite gradient adds nothing, but takes part.
    """
    if not gradients.norm.isfinite().any():
        total.zero_()
    peers.sum_in_place(total)
    count = len(gradients.norm)
    own = torch.cat([gradients.norm[:, None], gradients.worker[:, None], gradients.has_gradient], dim=1).double()
    rows = peers.gather_rows(own.flatten()).view(peers.count * count, -1)
    return gradients._replace(norm=rows[:, 0].float(), worker=rows[:, 1].long(), has_gradient=rows[:, 2:].bool())
