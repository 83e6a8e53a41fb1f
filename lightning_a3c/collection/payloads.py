"""The seam between the two modes: a worker turns its experience into what it sends.

Knows no queue and no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.memory import is_recurrent, outputs_of
from lightning_a3c.rl.types import Experience, Gradients, Payload, map_tensors


class MakePayload(Protocol):
    """Turns a worker's experience into what it sends; `rank` names the worker, `net` has had `update` updates.

    `out`, if given, is uninitialised memory that the message is sent from, with the payload's shapes and dtypes. A
    tensor of it that is filled and returned is not copied again.
    """

    def __call__(
        self, net: nn.Module, experience: Experience, rank: int, update: int, out: Payload | None = None
    ) -> Payload: ...


def send_transitions(
    net: nn.Module, experience: Experience, rank: int, update: int, out: Payload | None = None
) -> Experience:
    """Data parallelism: the experience itself."""
    return experience


@dataclass(frozen=True)
class SendGradients:
    """Gradient parallelism: the clipped gradient of the combined loss on the experience.

    The flat gradient covers every parameter, so its layout stays the same while parameters are frozen and unfrozen.
    Frozen parameters are not differentiated.

    Args:
        loss: the learner's own loss.
        max_norm: L2 norm that the gradient is clipped to, > 0.
    """

    loss: A2CLoss
    max_norm: float = 0.1

    def __call__(
        self, net: nn.Module, experience: Experience, rank: int, update: int, out: Payload | None = None
    ) -> Gradients:
        parameters = differentiable(net)
        device = parameters[0].device
        experience = map_tensors(lambda tensor: tensor.to(device), experience)
        outputs, values = outputs_of(net, experience, is_recurrent(net))
        terms = self.loss.of(outputs, values, experience, update)
        found = _gradients(terms.loss_total, parameters)
        sizes = [parameter.numel() for parameter in parameters]
        flat = out.gradient if isinstance(out, Gradients) else torch.empty(1, sum(sizes))
        # converted straight into `flat` and clipped there: a gradient exceeds the caches, so each copy costs
        for piece, gradient in zip(torch.split(flat[0], sizes), found, strict=True):
            if gradient is None:
                piece.zero_()
            else:
                piece.view_as(gradient).copy_(gradient)
        norm = torch.linalg.vector_norm(flat)
        flat.mul_(clip_scale(norm, self.max_norm))
        return Gradients(
            gradient=flat,
            norm=norm.unsqueeze(0),
            loss_terms=torch.stack([term.detach() for term in terms]).unsqueeze(0).cpu(),
            has_gradient=torch.tensor([[gradient is not None for gradient in found]]),
            worker=torch.tensor([rank]),
        )


def differentiable(net: nn.Module) -> list[nn.Parameter]:
    """The parameters that a flat gradient covers, in its order: all but integers, frozen or not."""
    return [parameter for parameter in net.parameters() if parameter.is_floating_point()]


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """The gradient of `loss` for each parameter; None where it is frozen or `loss` does not depend on it."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained or not loss.requires_grad:
        return [None] * len(parameters)
    # autograd.grad leaves .grad alone, so no gradient is shared or accumulated
    found = iter(torch.autograd.grad(loss, trained, allow_unused=True))
    return [next(found) if parameter.requires_grad else None for parameter in parameters]


def clip_scale(norm: Tensor, max_norm: float) -> Tensor:
    """The factor that clips a gradient of L2 norm `norm` to `max_norm`, as in `torch.nn.utils.clip_grad_norm_`."""
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)
