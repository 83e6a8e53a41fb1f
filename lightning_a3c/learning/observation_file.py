"""Reading the observations that `predict` gets. Knows no network."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_a3c.environments.encoding import TaskEncoding
from lightning_a3c.environments.task import Task


class ObservationMismatch(ValueError):
    """Observations to predict from do not fit the network."""


def read_observations(path: str, task: Task) -> np.ndarray:
    """The observations in the NumPy file `path`: [n, *observation_shape] in the task's dtype.

    A `.npy` file holds one array, and is left on disk if it is in this form: that of `A3CModule.encode`. A `.npz` file
    holds an array for each part of the observations, under its name, with the observations of the environment.
    For a network with memory a `.npy` file may hold sequences [n, T, *observation_shape].

    Raises:
        ValueError: the file cannot be read, or does not hold observations of `task`.
    """
    encoding = TaskEncoding(task.to_dict())
    try:
        content: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = None if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"data.predict_observations {path} cannot be read as a NumPy file: {error}") from error
    names = encoding.names
    if arrays is not None:
        return _encoded(path, task, encoding, arrays)
    observations: np.ndarray = content
    is_fitting = task.observation_shape in (observations.shape[1:], observations.shape[2:])
    if is_fitting and observations.dtype.name == task.observation_dtype:
        return observations
    if len(names) == 1 and task.observation_space is not None:  # as the environment gives it, such as numbers
        return _encoded(path, task, encoding, {names[0]: observations})
    shape, dtype = ("n", *task.observation_shape), task.observation_dtype
    parts = "" if len(names) == 1 else f", or as parts {', '.join(names)} in a .npz file"
    raise ValueError(
        f"data.predict_observations {path} holds {observations.dtype.name} {observations.shape}; "
        f"{task.env_id} has observations {dtype} ({', '.join(map(str, shape))}){parts}"
    )


def _encoded(path: str, task: Task, encoding: TaskEncoding, arrays: dict[str, np.ndarray]) -> np.ndarray:
    names = encoding.names
    if set(arrays) != set(names):
        raise ValueError(
            f"data.predict_observations {path} holds the arrays {', '.join(arrays) or 'none'}; observations of "
            f"{task.env_id} are {', '.join(names)}"
        )
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"data.predict_observations {path} holds arrays of different lengths: {lengths}")
    if not next(iter(lengths.values())):
        raise ValueError(f"data.predict_observations {path} holds no observations")
    try:
        return encoding.stacked(arrays)
    except ValueError as error:
        raise ValueError(f"data.predict_observations {path}: {error}") from error
