"""Gymnasium's spaces and the arrays that travel."""

import numpy as np
import pytest
from gymnasium import spaces

from lightning_a3c.environments.spaces import (
    ObservationLayout,
    UnsupportedSpace,
    action_family,
    component_names,
    decode_action,
    trial_action,
)

ACTIONS = [
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary((2, 2)),
    spaces.Box(-2, 2, (2, 3), np.float32),
    spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 1]), dtype=np.float64),
    spaces.Box(-3, 3, (2,), np.int64),
    spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2,)))),
    spaces.Dict(arm=spaces.Dict(angle=spaces.Box(1, 2, (1,)), grip=spaces.Discrete(2)), legs=spaces.MultiBinary(2)),
]
OBSERVATION = spaces.Dict(
    camera=spaces.Box(0, 255, (2, 2, 3), np.uint8),
    player=spaces.Dict(position=spaces.Box(-1, 1, (2,), np.float64), kind=spaces.Discrete(3)),
    mission=spaces.Text(5),
)


def flat(space: spaces.Space, action: object) -> np.ndarray:
    """An action's numbers side by side, as `decode_action` takes them."""
    if isinstance(space, spaces.Dict):
        return np.concatenate([flat(part, action[name]) for name, part in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        return np.concatenate([flat(part, value) for part, value in zip(space.spaces, action, strict=True)])
    return np.asarray(action, dtype=float).reshape(-1)


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_an_action_gets_its_structure_back(space: spaces.Space) -> None:
    space.seed(0)
    for _ in range(5):
        action = space.sample()
        decoded = decode_action(space, flat(space, action))
        assert space.contains(decoded)
        np.testing.assert_allclose(flat(space, decoded), flat(space, action))


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_the_trial_action_is_one_of_the_space(space: spaces.Space) -> None:
    assert space.contains(decode_action(space, trial_action(space)))


def test_integer_boxes_are_rounded() -> None:
    assert decode_action(spaces.Box(-3, 3, (2,), np.int64), [1.6, -0.4]).tolist() == [2, 0]


def test_each_part_of_a_joint_space_has_its_family_in_order() -> None:
    family = action_family(ACTIONS[-1])
    assert [part["family"] for part in family["parts"]] == ["box", "discrete", "binary"]
    assert action_family(spaces.MultiDiscrete([2]))["family"] == "joint"
    assert action_family(spaces.Discrete(3, start=-1)) == {"family": "discrete", "n": 3, "start": -1}


def test_components_are_named_by_part_and_number() -> None:
    assert component_names(spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, (2,)))) == ["a.0", "a.1", "b.0", "b.1"]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Text(3), "must be Discrete, MultiDiscrete, MultiBinary, Box"),
        (spaces.Sequence(spaces.Discrete(2)), "must be Discrete, MultiDiscrete, MultiBinary, Box"),
        (spaces.Box(np.array([0.0, 1.0]), np.array([1.0, 1.0]), dtype=np.float64), "NaN or equal bounds"),
    ],
)
def test_actions_that_cannot_be_learned_are_refused_with_the_way_out(space: spaces.Space, reason: str) -> None:
    with pytest.raises(UnsupportedSpace, match=reason):
        action_family(space)


def test_a_dict_travels_as_the_bytes_of_its_arrays_and_texts_are_left_out() -> None:
    layout = ObservationLayout(OBSERVATION)
    assert layout.left_out == ["mission"]
    assert {part.name for part in layout.parts} == {"camera", "player.kind", "player.position"}
    sample = {
        "camera": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "player": {"position": np.array([0.25, -0.5]), "kind": 1},
        "mission": "go",
    }
    packed = layout.encode(sample)
    assert packed.shape == layout.travelling_space.shape == (12 + 2 * 4 + 3 * 4,)
    assert np.float32([0.25, -0.5]).tobytes() in packed.tobytes()
    assert np.float32([0, 1, 0]).tobytes() in packed.tobytes()
    assert layout.is_finite(packed)
    wrong = sample | {"player": {"position": np.array([0.25, np.nan]), "kind": 1}}
    assert not layout.is_finite(layout.encode(wrong))


def test_observation_keys_choose_parts_by_name_or_group() -> None:
    player = ObservationLayout(OBSERVATION, ["player"])
    assert {part.name for part in player.parts} == {"player.kind", "player.position"}
    with pytest.raises(UnsupportedSpace, match=r"env\.observation_keys has 'playr', which is none of"):
        ObservationLayout(OBSERVATION, ["playr"])
    with pytest.raises(UnsupportedSpace, match="need a Dict observation space"):
        ObservationLayout(spaces.Box(0, 1, (2,)), ["a"])


def test_a_mask_travels_beside_an_array() -> None:
    layout = ObservationLayout(spaces.Discrete(2), None, "info", spaces.Discrete(3))
    assert [(part.name, part.shape) for part in layout.parts] == [("", (2,)), ("action_mask", (3,))]
    packed = layout.encode(1, np.array([0, 1, 1], np.uint8))
    assert packed[-3:].tolist() == [0, 1, 1]
    assert layout.allowed_action(packed, spaces.Discrete(3)).tolist() == [1]


def test_only_discrete_actions_can_be_masked() -> None:
    with pytest.raises(UnsupportedSpace, match="needs Discrete or MultiDiscrete actions"):
        ObservationLayout(spaces.Discrete(2), None, "info", spaces.Box(0, 1, (1,)))


def test_every_choice_needs_something_allowed_wherever_the_mask_comes_from() -> None:
    space = spaces.Dict(x=spaces.Box(0, 1, (1,), np.float32), allowed=spaces.MultiBinary(5))
    layout = ObservationLayout(space, None, "allowed", spaces.MultiDiscrete([2, 3]))
    x = np.zeros(1, np.float32)
    assert layout.allows_action(layout.encode({"x": x, "allowed": np.array([0, 1, 0, 0, 1], np.int8)}))
    assert not layout.allows_action(layout.encode({"x": x, "allowed": np.array([1, 1, 0, 0, 0], np.int8)}))
    assert ObservationLayout(spaces.Discrete(2)).allows_action(np.zeros(2, np.float32))
