"""Progress of a run in the units that users think in: plain numbers, kept in checkpoints."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from lightning_a3c.rl.types import RolloutStats

WINDOW = 100  # episodes in the headline mean
_RATE_UPDATES = 50  # updates over which the speed is measured


class Progress:
    """Counts of a run and the returns of its last 100 complete episodes, pooled over all workers."""

    def __init__(self) -> None:
        self.env_steps = 0
        self.episodes = 0
        self.train_seconds = 0.0
        self.returns: deque[float] = deque(maxlen=WINDOW)  # unclipped
        self.lengths: deque[int] = deque(maxlen=WINDOW)  # env steps
        self._ticks: deque[tuple[float, int]] = deque(maxlen=_RATE_UPDATES)

    def start(self) -> None:
        """Start the clock, at the beginning of training or after a resume."""
        self._ticks.clear()
        self._ticks.append((time.monotonic(), self.env_steps))

    def update(self, stats: RolloutStats) -> None:
        """Count an update's stats."""
        self.env_steps += int(stats.env_steps.sum())
        ended = stats.episode_lengths > 0
        self.returns.extend(stats.episode_returns[ended].tolist())
        self.lengths.extend(stats.episode_lengths[ended].tolist())
        self.episodes += int(ended.sum())
        now = time.monotonic()
        self.train_seconds += now - self._ticks[-1][0]
        self._ticks.append((now, self.env_steps))

    def reset_window(self) -> None:
        """Empty the window of episodes, for another task; the counts go on."""
        self.returns.clear()
        self.lengths.clear()

    @property
    def steps_per_second(self) -> float:
        """Env steps per second over the last updates."""
        (then, steps_then), (now, steps_now) = self._ticks[0], self._ticks[-1]
        return (steps_now - steps_then) / max(now - then, 1e-9)

    @property
    def mean_return(self) -> float | None:
        """Mean return of the last 100 episodes, or of all while there are fewer; None before the first."""
        return sum(self.returns) / len(self.returns) if self.returns else None

    def metrics(self, frame_skip: int) -> dict[str, float]:
        """The values to log; those of episodes only once one has ended."""
        metrics = {
            "train_seconds": self.train_seconds,
            "steps/s": self.steps_per_second,
            "env_steps": float(self.env_steps),
            "frames": float(self.env_steps * frame_skip),
            "episodes": float(self.episodes),
        }
        if self.mean_return is not None:
            metrics |= {
                "return": self.returns[-1],
                "return_100": self.mean_return,
                "episode_length": float(self.lengths[-1]),
            }
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "train_seconds": self.train_seconds,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env_steps = state["env_steps"]
        self.episodes = state["episodes"]
        self.train_seconds = state["train_seconds"]
        self.returns = deque(state["returns"], maxlen=WINDOW)
        self.lengths = deque(state["lengths"], maxlen=WINDOW)
