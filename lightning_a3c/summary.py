"""What a sample of returns or lengths says: plain statistics of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.wrappers import BootStrapper


def summarize(values: Tensor) -> dict[str, Tensor]:
    """Mean, standard deviation (the population's), median, min and max of float32 [n], n >= 1."""
    return {
        "mean": values.mean(),
        "std": values.std(correction=0),
        "median": values.quantile(0.5),
        "min": values.min(),
        "max": values.max(),
    }


def bootstrap_interval(values: Tensor, resamplings: int = 1000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of float32 [n]; the same values give the same one."""
    bounds = torch.tensor([0.025, 0.975])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bootstrap = BootStrapper(
            MeanMetric(), resamplings, mean=False, std=False, quantile=bounds, sampling_strategy="multinomial"
        )
        bootstrap.update(values.cpu())
        low, high = bootstrap.compute()["quantile"].tolist()
    return low, high
