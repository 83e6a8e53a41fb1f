"""Atari games: preprocessing beside Gymnasium's, lives, time limits, and what an id says."""

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import (
    AtariPreprocessing,
    FrameStackObservation,
    TransformReward,
)

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c.environments.atari import AtariConfig
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_vector_env
from lightning_a3c.environments.task import describe_task, playing_notes

BARE = {"noop_max": 0, "fire_on_reset": False}


def gymnasium_atari(env_id):
    """Gymnasium's own DQN preprocessing; the stack starts black, as ALE's does."""
    env = AtariPreprocessing(gymnasium.make(env_id), noop_max=0, frame_skip=4, terminal_on_life_loss=False)
    return FrameStackObservation(env, 4, padding_type="zero")


def repeat(env, action, steps):
    """Steps with one action: observations, rewards, ends (either kind) and infos, of the first sub-environment."""
    rows = []
    for _ in range(steps):
        observations, rewards, terminated, truncated, info = env.step(np.full(env.num_envs, action))
        rows.append((observations[0], rewards[0], bool(terminated[0] | truncated[0]), info))
    return zip(*rows, strict=True)


@pytest.mark.parametrize(("game", "steps", "rewarded"), [("Pong", 250, 4), ("Breakout", 250, 1)])
def test_native_preprocessing_equals_gymnasiums_frame_by_frame(make, game, steps, rewarded):
    native, reference = make(f"{game}NoFrameskip-v4", **BARE), gymnasium_atari(f"{game}NoFrameskip-v4")
    actions = np.random.default_rng(0).integers(native.single_action_space.n, size=steps)
    native_frame, reference_frame = native.reset(seed=3)[0][0], reference.reset(seed=3)[0]
    rewards_seen = ends_seen = 0
    for t, action in enumerate(actions):
        np.testing.assert_array_equal(native_frame, reference_frame, err_msg=f"before step {t}")
        observations, rewards, terminated, truncated, info = native.step(np.array([action]))
        reference_frame, reward, *ended, _ = reference.step(action)
        assert (rewards[0], terminated[0], truncated[0]) == (reward, *ended), f"step {t}"
        if any(ended):
            np.testing.assert_array_equal(info["final_obs"][0], reference_frame, err_msg=f"final, step {t}")
            reference_frame = reference.reset()[0]
        native_frame = observations[0]
        rewards_seen += reward != 0
        ends_seen += any(ended)
    reference.close()
    assert rewards_seen >= rewarded, "too little happened to compare"
    assert ends_seen == (game == "Breakout")


@pytest.mark.parametrize(("sticky", "same_game"), [(0.0, True), (0.25, False)])
def test_sticky_actions_reach_the_emulator(make, sticky, same_game):
    # without them the same actions give the same game whatever the seed
    played = []
    for seed in (0, 1):
        env = make("PongNoFrameskip-v4", sticky_actions=sticky, **BARE)
        env.reset(seed=seed)
        played.append(np.stack([env.step(np.array([2 + t % 2]))[0] for t in range(30)]))
    assert (played[0] == played[1]).all() == same_game


def test_frame_skip_of_the_id_is_not_added_to_ours(make):
    # ALE/Pong-v5 skips 4 frames by itself, PongNoFrameskip-v4 none
    for env_id in ("PongNoFrameskip-v4", "ALE/Pong-v5"):
        env = make(env_id, **BARE)
        env.reset(seed=0)
        *_, infos = repeat(env, 0, 3)
        assert [info["frame_number"][0] for info in infos] == [4, 8, 12]


def test_both_kinds_of_id_play_the_same_frames(make):
    played = []
    for env_id in ("PongNoFrameskip-v4", "ALE/Pong-v5"):
        env = make(env_id, sticky_actions=0.0, **BARE)
        env.reset(seed=0)
        observations, *_ = repeat(env, 3, 30)
        played.append(np.stack(observations))
    np.testing.assert_array_equal(*played)


def test_frame_skip_can_be_chosen(make):
    env = make("ALE/Pong-v5", frame_skip=2, **BARE)
    env.reset(seed=0)
    *_, infos = repeat(env, 0, 3)
    assert [info["frame_number"][0] for info in infos] == [2, 4, 6]


def test_no_op_start_varies_between_sub_environments_and_stays_within_its_bound(make):
    _, info = make("PongNoFrameskip-v4", num_envs=4, fire_on_reset=False, noop_max=10).reset(seed=0)
    assert len(set(info["frame_number"])) > 1
    assert max(info["frame_number"]) <= 10


def test_fire_on_reset_serves_the_ball(make):
    frames = {}
    for fire in (True, False):
        env = make("BreakoutNoFrameskip-v4", noop_max=0, fire_on_reset=fire)
        env.reset(seed=0)
        observations, *_ = repeat(env, 0, 12)
        frames[fire] = np.stack(observations)[4:, -1]
    assert (frames[False] == frames[False][0]).all()  # without a ball nothing moves
    assert not (frames[True] == frames[True][0]).all()


def test_five_lives_of_breakout_are_four_life_losses_and_an_end(make):
    env = make("BreakoutNoFrameskip-v4", episodic_life=True, **BARE)
    lives, (_, reset_info) = [], env.reset(seed=0)
    lost = []
    for _ in range(2000):
        _, _, terminated, truncated, info = env.step(np.array([1]))
        assert info["lightning_a3c.life_lost"].dtype == bool
        lost.append(bool(info["lightning_a3c.life_lost"][0]))
        lives.append(info["lives"][0])
        if terminated[0] or truncated[0]:
            break
    assert terminated[0]
    assert not lost[-1]
    assert reset_info["lives"] == [5]
    assert [lives[t] for t, is_lost in enumerate(lost) if is_lost] == [4, 3, 2, 1]


def test_new_game_costs_no_life(make):
    env = make("BreakoutNoFrameskip-v4", episodic_life=True, **BARE)
    env.reset(seed=0)
    _, _, ends, infos = repeat(env, 1, 600)
    assert sum(ends) >= 2
    assert sum(info["lightning_a3c.life_lost"][0] for info in infos) >= 4 * sum(ends)
    after_end = [info["lightning_a3c.life_lost"][0] for end, info in zip(ends, infos[1:], strict=False) if end]
    assert not any(after_end)


def test_life_loss_is_told_only_where_asked_for(make):
    env = make("BreakoutNoFrameskip-v4", **BARE)
    env.reset(seed=0)
    assert "lightning_a3c.life_lost" not in env.step(np.array([1]))[4]


def test_rewards_are_not_clipped(make):
    env = make("MsPacmanNoFrameskip-v4", **BARE)
    env.reset(seed=0)
    _, rewards, *_ = repeat(env, 3, 120)
    assert max(rewards) == 10  # a pellet


def test_what_is_played_does_not_depend_on_threads():
    alone, together = (make_vector_env(EnvConfig("BreakoutNoFrameskip-v4", 5, num_threads=n)) for n in (1, 3))
    np.testing.assert_array_equal(alone.reset(seed=1)[0], together.reset(seed=1)[0])
    actions = np.random.default_rng(0)
    for _ in range(60):
        chosen = actions.integers(4, size=5)
        for own, theirs in zip(alone.step(chosen)[:4], together.step(chosen)[:4], strict=True):
            np.testing.assert_array_equal(own, theirs)
    alone.close()
    together.close()


def ends_of(env, steps):
    """For each sub-environment the steps at which an episode ended, and whether all were truncated only."""
    env.reset(seed=0)
    ends, only_truncated = [[] for _ in range(env.num_envs)], True
    for t in range(1, steps + 1):
        _, _, terminated, truncated, info = env.step(np.zeros(env.num_envs, dtype=np.int64))
        for index in np.flatnonzero(terminated | truncated):
            ends[index].append(t)
            assert info["final_obs"][index].shape == (4, 84, 84)
        only_truncated &= not terminated.any()
    return ends, only_truncated


@pytest.mark.parametrize("noop_max", [0, 30])
@pytest.mark.parametrize("more", [{}, {"difficulty": 0}], ids=["native", "one by one"])
@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"max_episode_steps": 20}, 20),
        ({"max_episode_steps": 41, "frameskip": 1}, 11),  # 41 frames, of which a step takes 4
        ({"max_episode_steps": 20, "frameskip": 2}, 20),
        ({"max_num_frames_per_episode": 50}, 13),
    ],
)
def test_time_limit_of_an_atari_id_truncates(make, register_atari, limits, steps, more, noop_max):
    env = make(register_atari("Limited-v0", **limits, **more), num_envs=2, noop_max=noop_max)
    assert isinstance(env.unwrapped, SyncVectorEnv if more else AtariVectorEnv)
    whole = list(range(steps, 45, steps))
    assert ends_of(env, 44) == ([whole, whole], True)


def test_time_limit_shows_the_last_observation_of_its_episode(make, register_atari):
    limited = make(register_atari("Limited-v0", max_episode_steps=5), **BARE)
    free = make(register_atari("Free-v0"), **BARE)
    limited.reset(seed=0)
    free.reset(seed=0)
    cut = list(repeat(limited, 1, 5))
    expected, *_ = repeat(free, 1, 5)
    np.testing.assert_array_equal(cut[3][-1]["final_obs"][0], expected[-1])
    np.testing.assert_array_equal(cut[0][-1], limited.reset(seed=0)[0][0])  # the first of the next


def test_a_time_limit_in_steps_of_random_length_is_refused(register_atari):
    env_id = register_atari("Random-v0", max_episode_steps=20, frameskip=(2, 5))
    with pytest.raises(ValueError, match=r"'Random-v0' has max_episode_steps 20 .* \(frameskip \(2, 5\)\)"):
        describe_task(EnvConfig(env_id))


@pytest.mark.parametrize("changes", [{"difficulty": 1}, {"mode": 4}, {"mode": 0}])
def test_mode_and_difficulty_of_an_atari_id_are_played(make, register_atari, changes):
    env_id = register_atari("Changed-v0", **{"game": "breakout"} | changes)
    assert "stepped one by one" in playing_notes(EnvConfig(env_id))[0]
    ours, theirs = make(env_id, **BARE), gymnasium_atari_of(env_id)
    np.testing.assert_array_equal(ours.reset(seed=1)[0][0], theirs.reset(seed=1)[0])
    for action in np.random.default_rng(0).integers(4, size=60):
        given, expected = ours.step(np.array([action])), theirs.step(action)
        if expected[2]:
            break
        np.testing.assert_array_equal(given[0][0], expected[0])
        assert given[1][0] == expected[1]
    theirs.close()


def gymnasium_atari_of(env_id):
    """As `gymnasium_atari`, whatever the id's own frame skip."""
    env = AtariPreprocessing(gymnasium.make(env_id, frameskip=1), noop_max=0, frame_skip=4)
    return FrameStackObservation(env, 4, padding_type="zero")


def test_a_lost_life_is_told_where_games_are_stepped_one_by_one(make, register_atari):
    env = make(register_atari("Hard-v0", difficulty=1), episodic_life=True, **BARE)
    env.reset(seed=0)
    _, _, ends, infos = repeat(env, 1, 300)
    lost = [bool(info.get("lightning_a3c.life_lost", [False])[0]) for info in infos]
    first_end = ends.index(True)
    assert sum(lost[: first_end + 1]) == 4
    assert not lost[first_end]
    assert not lost[first_end + 1]


def test_an_atari_id_with_wrappers_is_played_as_gymnasium_makes_it(register_atari):
    wrapper = TransformReward.wrapper_spec(func=lambda reward: reward + 1)
    config = EnvConfig(register_atari("Wrapped-v0", additional_wrappers=(wrapper,)), num_envs=1)
    task = describe_task(config)
    assert (task.observation_shape, task.frame_skip, task.clip_rewards) == ((210, 160, 3), 1, False)
    assert "registered with wrappers (TransformReward)" in playing_notes(config)[0]
    env = make_vector_env(config)
    env.reset(seed=0)
    assert env.step(np.array([0]))[1].tolist() == [1.0]
    env.close()
    with pytest.raises(ValueError, match=r"env.atari {'noop_max': 3} has no effect on Wrapped-v0, .* with wrappers"):
        describe_task(EnvConfig("Wrapped-v0", atari=AtariConfig(noop_max=3)))


def test_threads_for_games_that_are_stepped_one_by_one_are_refused(register_atari):
    with pytest.raises(ValueError, match=r"env.num_threads 2 has no effect on Hard-v0"):
        describe_task(EnvConfig(register_atari("Hard-v0", difficulty=1), num_threads=2))


def test_shipped_atari_ids_are_played_natively_and_without_remark(make):
    assert isinstance(make("PongNoFrameskip-v4").unwrapped, AtariVectorEnv)
    assert playing_notes(EnvConfig("PongNoFrameskip-v4")) == []
