"""What a sample of returns or lengths says: plain statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric

from lightning_a3c.learning.intervals import bootstrap_bounds


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
    """95 % percentile bootstrap interval of the mean of float32 [n]; equal values give equal intervals."""
    low, high = bootstrap_bounds(values.cpu().double().numpy(), resamplings)
    return float(low), float(high)


class EpisodeSummary(nn.Module):
    """Collects finished episodes and summarizes them; a module, so that it moves with the one that holds it."""

    def __init__(self) -> None:
        super().__init__()
        # several learners all count the same episodes, those of the first
        self.returns = CatMetric(sync_on_compute=False)
        self.lengths = CatMetric(sync_on_compute=False)

    def update(self, episode_return: Tensor, length: Tensor) -> None:
        """Count one episode: its unclipped return and its env steps, scalars."""
        self.returns.update(episode_return)
        self.lengths.update(length.float())

    def pop(self, with_interval: bool = False) -> dict[str, Tensor | float]:
        """`return_mean`, `length_max` and so on of the episodes since the last call, at least one.

        Args:
            with_interval: bounds of the mean return's 95 % interval too.
        """
        values = {"return": _tensor(self.returns), "length": _tensor(self.lengths)}
        result: dict[str, Tensor | float] = {
            f"{name}_{how}": value for name in values for how, value in summarize(values[name]).items()
        }
        if with_interval:
            result["return_mean_low"], result["return_mean_high"] = bootstrap_interval(values["return"])
        self.reset()
        return result

    def reset(self) -> None:
        """Forget the episodes counted so far."""
        self.returns.reset()
        self.lengths.reset()


def _tensor(metric: CatMetric) -> Tensor:
    return torch.as_tensor(metric.compute()).float().flatten()
