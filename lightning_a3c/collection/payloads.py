"""The seam between the two modes: what a worker makes of its transitions before it sends them.

Knows no queue and no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.types import Gradients, Payload, Transitions


class MakePayload(Protocol):
    """Turns a worker's transitions into what it sends; `rank` names the worker, `net` has had `update` updates.

    `out` has the payload's shapes and dtypes and lies where it will be sent from; its values mean nothing. A tensor of
    it that is filled and returned need not be copied there.
    """

    def __call__(
        self, net: nn.Module, transitions: Transitions, rank: int, update: int, out: Payload | None = None
    ) -> Payload: ...


def send_transitions(
    net: nn.Module, transitions: Transitions, rank: int, update: int, out: Payload | None = None
) -> Transitions:
    """Data parallelism: the transitions themselves."""
    return transitions


@dataclass(frozen=True)
class SendGradients:
    """Gradient parallelism: the clipped gradient of the combined loss on the transitions.

    It has a place for every parameter, so that its layout lasts while parameters are frozen and unfrozen. Those that
    require no gradient now are not differentiated.

    Args:
        loss: the learner's own loss.
        max_norm: the gradient's L2 norm is clipped to this, > 0.
    """

    loss: A2CLoss
    max_norm: float = 0.1

    def __call__(
        self, net: nn.Module, transitions: Transitions, rank: int, update: int, out: Payload | None = None
    ) -> Gradients:
        parameters = differentiable(net)
        observations, actions, returns = (tensor.to(parameters[0].device) for tensor in transitions)
        logits, values = net(observations)
        terms = self.loss(logits, values, actions, returns, update)
        found = _gradients(terms.loss_total, parameters)
        sizes = [parameter.numel() for parameter in parameters]
        flat = out.gradient if isinstance(out, Gradients) else torch.empty(1, sum(sizes))
        # converted straight into place and clipped there: a gradient is larger than the caches, each copy costs
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
    """The parameters a flat gradient runs over, in its order: all but integers, frozen or not."""
    return [parameter for parameter in net.parameters() if parameter.is_floating_point()]


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Of `loss`, for each of `parameters`; None for those that are frozen or that it does not depend on."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained or not loss.requires_grad:
        return [None] * len(parameters)
    # autograd.grad leaves .grad alone, so nothing is shared with or left over for anyone
    found = iter(torch.autograd.grad(loss, trained, allow_unused=True))
    return [next(found) if parameter.requires_grad else None for parameter in parameters]


def clip_scale(norm: Tensor, max_norm: float) -> Tensor:
    """What brings a gradient of the L2 norm `norm` to at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)
