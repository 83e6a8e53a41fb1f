"""The seam between the two modes: what a worker makes of its transitions before it sends them.

Knows no queue and no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_a3c.losses import A2CLoss
from lightning_a3c.types import Gradients, Transitions


class MakePayload(Protocol):
    """Turns a worker's transitions into what it sends; `rank` names the worker, `net` has had `update` updates."""

    def __call__(self, net: nn.Module, transitions: Transitions, rank: int, update: int) -> Transitions | Gradients: ...


def send_transitions(net: nn.Module, transitions: Transitions, rank: int, update: int) -> Transitions:
    """Data parallelism: the transitions themselves."""
    return transitions


@dataclass(frozen=True)
class SendGradients:
    """Gradient parallelism: the clipped gradient of the combined loss on the transitions.

    Args:
        loss: the learner's own loss.
        max_norm: the gradient's L2 norm is clipped to this, > 0.
    """

    loss: A2CLoss
    max_norm: float = 0.1

    def __call__(self, net: nn.Module, transitions: Transitions, rank: int, update: int) -> Gradients:
        logits, values = net(transitions.observations)
        terms = self.loss(logits, values, transitions.actions, transitions.returns, update)
        parameters = trainable(net)
        # autograd.grad leaves .grad alone, so nothing is shared with or left over for anyone
        gradients = torch.autograd.grad(terms.loss_total, parameters, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(parameter) if gradient is None else gradient).flatten().float()
                for parameter, gradient in zip(parameters, gradients, strict=True)
            ]
        )
        norm = flat.norm()
        return Gradients(
            gradient=clip_norm_(flat, self.max_norm, norm).unsqueeze(0),
            norm=norm.unsqueeze(0),
            loss_terms=torch.stack([term.detach() for term in terms]).unsqueeze(0),
            used=torch.tensor([[gradient is not None for gradient in gradients]]),
            worker=torch.tensor([rank]),
        )


def trainable(net: nn.Module) -> list[nn.Parameter]:
    """The parameters a flat gradient runs over, in its order."""
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def clip_norm_(gradient: Tensor, max_norm: float, norm: Tensor) -> Tensor:
    """Scale `gradient` in place to an L2 norm of at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    return gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
