"""Running statistics of observations and returns, kept as buffers of the network.

So they travel, are versioned and are checkpointed with the weights. Workers measure, the learner merges before it
publishes; computing with them never changes them. Knows no environment and no process.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 1e-8
_LARGEST = 10.0  # normalised values are clipped to ±this


class RunningMoments(nn.Module):
    """Mean and variance of everything merged so far, by element (Chan et al. 1979).

    >>> moments = RunningMoments(1)
    >>> moments.merge(torch.tensor(2), torch.tensor([3.0]), torch.tensor([1.0]))
    >>> moments.merge(torch.tensor(2), torch.tensor([5.0]), torch.tensor([1.0]))
    >>> moments.mean, moments.variance
    (tensor([4.]), tensor([2.]))

    Args:
        size: D, number of elements.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    @torch.no_grad()
    def merge(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Take in `count` > 0 samples with this mean and population variance, both float32 [D]."""
        before = self.count.clone()
        total = before + count
        weight = (count / total).to(self.mean)
        difference = mean - self.mean
        within = (1 - weight) * self.variance + weight * variance
        self.mean += weight * difference
        self.variance.copy_(variance if before == 0 else within + weight * (1 - weight) * difference.square())
        self.count.copy_(total)

    def normalize(self, values: Tensor) -> Tensor:
        """float32 [B, D] → mean 0 and variance 1 by what was merged so far, clipped; unchanged before that."""
        return ((values - self.mean) * (self.variance + _EPSILON).rsqrt()).clamp(-_LARGEST, _LARGEST)


def moments_of(values: Tensor) -> Tensor:
    """float32 [B, D] → float32 [1, 2, D]: mean and population variance of each column."""
    variance, mean = torch.var_mean(values, dim=0, correction=0)
    return torch.stack((mean, variance)).unsqueeze(0)
