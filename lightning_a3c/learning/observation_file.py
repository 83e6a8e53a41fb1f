"""Reading the observations that `predict` gets. Knows no network."""

from __future__ import annotations

import numpy as np

from lightning_a3c.environments.task import Task


def read_observations(path: str, task: Task) -> np.ndarray:
    """The array in the NumPy file `path`, left on disk: [n, *observation_shape] in the task's dtype.

    For a network with memory it may hold sequences [n, T, *observation_shape].

    Raises:
        ValueError: the file cannot be read, or does not hold observations of `task`.
    """
    try:
        observations: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"data.predict_observations {path} cannot be read as a NumPy file: {error}") from error
    shape, dtype = ("n", *task.observation_shape), task.observation_dtype
    is_fitting = task.observation_shape in (observations.shape[1:], observations.shape[2:])
    if not is_fitting or observations.dtype.name != dtype:
        raise ValueError(
            f"data.predict_observations {path} holds {observations.dtype.name} {observations.shape}; "
            f"{task.env_id} has observations {dtype} ({', '.join(map(str, shape))})"
        )
    return observations
