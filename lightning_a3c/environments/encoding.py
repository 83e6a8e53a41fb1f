"""Observations as an environment gives them → what networks take, and actions back, for a task in plain values.

Knows no network.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from lightning_a3c.environments.checks import is_within
from lightning_a3c.environments.plain_spaces import Space, space_of, unbounded_box
from lightning_a3c.environments.spaces import MASK, ObservationLayout, decode_action, trial_action, values_of

ONE_ARRAY = "observations"
"""Name of an observation that is one array, where others are named after their parts."""


class TaskEncoding:
    """How the observations and actions of a task travel.

    Args:
        task: as `Task.to_dict` gives it.

    Raises:
        ValueError: the task comes from a checkpoint made before tasks described their spaces, and needs them.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        self._action_space = _action_space(task)
        plain = task.get("observation_space")
        if plain is None and task.get("observation_parts"):
            raise _too_early("observations", task)
        self.space: Space = (
            unbounded_box(task["observation_shape"], task.get("observation_dtype", "float32"))
            if plain is None
            else space_of(plain)
        )
        self._layout = ObservationLayout(
            self.space, task.get("observation_keys"), task.get("action_mask"), self._action_space
        )
        self.dtype = np.dtype(task.get("observation_dtype", "float32"))

    def encode(self, observation: Any, info: Mapping[str, Any] | None = None) -> np.ndarray:
        """One observation, or those of a vector environment → [B, *observation_shape] in `dtype`; always a copy.

        Args:
            observation: as `reset` and `step` return it.
            info: what they return with it; needed where the action mask does not come with the observation.

        Raises:
            ValueError: the observation does not fit the task, or the mask is missing or allows nothing.
        """
        masks = self._masks(info)
        try:
            count = self._batch_size(observation)
            if count is None:
                rows = [self._encode_one(observation, masks)]
            elif isinstance(self.space, spaces.Box) and self._layout.parts is None:  # nothing to do for each
                return np.asarray(observation).astype(self.dtype, casting="same_kind")
            else:
                if masks is not None and len(masks) != count:
                    raise ValueError(f"{len(masks)} action masks for {count} observations")
                rows = [
                    self._encode_one(_row(self.space, observation, index), None if masks is None else masks[index])
                    for index in range(count)
                ]
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(
                f"the observation {reprlib.repr(observation)} does not fit the space {self.space}: {error}; give one "
                "observation as env.reset returns it, or those of a vector environment"
            ) from error
        return np.stack(rows).astype(self.dtype, casting="same_kind")

    def decode(self, action: Any) -> Any:
        """An action in the environment's units → what `step` takes.

        Args:
            action: one action, or a batch of them for a vector environment, as `A3CModule.act` returns them.

        Raises:
            ValueError: the shape is that of neither.
        """
        space, array = self._action_space, np.asarray(action)
        one: tuple[int, ...] = ()
        if isinstance(space, spaces.Box) and space.shape:
            one = space.shape
        elif not isinstance(space, spaces.Discrete):
            one = (_num_numbers(space),)
        if array.shape == one:
            return decode_action(space, array.reshape(-1))
        if array.shape[1:] != one or array.ndim != len(one) + 1:
            raise ValueError(f"an action has the shape {one} and a batch {('B', *one)}, got {array.shape}")
        actions = [decode_action(space, row.reshape(-1)) for row in array]
        batch: Any = create_empty_array(space, len(actions))
        return concatenate(space, actions, batch)

    def stacked(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Like `encode`, of arrays [n, ...] by the names in `names`."""
        info = {"action_mask": arrays[MASK]} if self._layout.mask_source is not None else None
        return self.encode(_nested(self.space, arrays, ""), info)

    @property
    def names(self) -> list[str]:
        """A name for each array of an observation, "observations" where there is one, and for a mask beside it."""
        names = [name or ONE_ARRAY for name, _ in self._layout.arrays]
        return names if self._layout.mask_source is None else [*names, MASK]

    def _encode_one(self, observation: Any, mask: np.ndarray | None) -> np.ndarray:
        values = dict(values_of(self.space, observation))
        for name, leaf in self._layout.arrays:
            array = np.asarray(values[name])
            if array.shape != tuple(leaf.shape or ()) or not np.can_cast(
                array.dtype, np.dtype(leaf.dtype), "same_kind"
            ):
                raise ValueError(f"{name or 'it'} is {array.dtype} {array.shape}")
            if not is_within(leaf, array):
                raise ValueError(f"{name or 'it'} is out of range")
        row = self._layout.encode(observation, mask)
        if not self._layout.allows_action(row):
            raise ValueError("its action mask allows no action")
        return row

    def _batch_size(self, observation: Any) -> int | None:
        """B of observations with a leading axis; None for one observation."""
        name, leaf = self._layout.arrays[0]
        shape, one = np.shape(dict(values_of(self.space, observation))[name]), tuple(leaf.shape or ())
        if shape == one:
            return None
        if shape[1:] != one or len(shape) != len(one) + 1:
            raise ValueError(f"{name or 'it'} has the shape {shape}, not {one} or {('B', *one)}")
        return int(shape[0])

    def _masks(self, info: Mapping[str, Any] | None) -> np.ndarray | None:
        """uint8 [A] of one environment, or [B, A]."""
        source, size = self._layout.mask_source, self._layout.mask_size
        if source is None:
            return None
        if info is None or "action_mask" not in info:
            how = "give the info that came with the observation"
            if source != "info":
                how = f'give {{"action_mask": env.get_wrapper_attr("{source[:-2]}")()}} as info'
            raise ValueError(f"the action mask is missing; {how}")
        masks = np.asarray(info["action_mask"])
        if masks.shape[-1:] != (size,) or masks.ndim > 2:
            raise ValueError(f"the action mask has the shape {masks.shape}; ({size},) or (B, {size}) is needed")
        return masks.astype(bool).astype(np.uint8)


def _action_space(task: Mapping[str, Any]) -> Space:
    if task.get("action_space") is not None:
        return space_of(task["action_space"])
    family = task.get("action_family")
    if family is None:
        return spaces.Discrete(int(task["num_actions"]))
    if family["family"] == "discrete":
        return spaces.Discrete(family["n"], start=family["start"])
    if family["family"] == "box" and task.get("action_shape"):
        return unbounded_box(task["action_shape"], "float32")
    raise _too_early("actions", task)


def _too_early(what: str, task: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"this checkpoint of {task.get('env_id')} was made before checkpoints described the structure of {what}; load "
        "it with A3CModule.load_from_checkpoint(path, task=CollectorDataModule(env=...).task.to_dict())"
    )


def _num_numbers(space: Space) -> int:
    """Numbers in a row that is one action."""
    return len(trial_action(space))


def _row(space: Space, observations: Any, index: int) -> Any:
    """Observation `index` of a batch."""
    if isinstance(space, spaces.Dict):
        return {name: _row(part, observations[name], index) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_row(part, value, index) for part, value in zip(space.spaces, observations, strict=True))
    return None if observations is None else observations[index]


def _nested(space: Space, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _nested(part, arrays, f"{prefix}{name}.") for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nested(part, arrays, f"{prefix}{index}.") for index, part in enumerate(space.spaces))
    return arrays.get(prefix.removesuffix(".") or ONE_ARRAY)
