"""From steps to n-step transitions and series, on episodes written down in the test.

An observation is a number, its value is that number (see `scripted`); γ is 1/2.
"""

from functools import partial

import numpy as np
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lightning_a3c.collection.rollout import Rollout, to_tensor
from lightning_a3c.rl.policies import Decision
from lightning_a3c.rl.types import Transitions
from tests.scripted import Episode, NumberPolicy, ScriptedEnv

SAME_STEP, NEXT_STEP = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP


@pytest.fixture(params=[SAME_STEP, NEXT_STEP], ids=["same_step", "next_step"])
def mode(request):
    """Either way of resetting; what is learned must not depend on it."""
    return request.param


def vector_env(*scripts, mode, copy=True):
    """One sub-environment a script; their numbers begin at 0, 1000, 2000, …"""
    makers = [partial(ScriptedEnv, script, start=1000 * index) for index, script in enumerate(scripts)]
    return SyncVectorEnv(makers, autoreset_mode=mode, copy=copy)


def play(*scripts, mode, n_steps, clip_rewards=False, **options):
    return Rollout(vector_env(*scripts, mode=mode), NumberPolicy(), n_steps, 0.5, clip_rewards, **options)


def numbers(transitions):
    return transitions.observations[:, 0].int().tolist()


def targets(transitions):
    """Observation → return, of all transitions; an observation seen twice is an error."""
    seen = numbers(transitions)
    assert len(set(seen)) == len(seen)
    return dict(zip(seen, transitions.returns.tolist(), strict=True))


def episodes(stats):
    """(return, length) of the episodes in the stats, in order."""
    pairs = zip(stats.episode_returns.tolist(), stats.episode_lengths.tolist(), strict=True)
    return [(episode_return, length) for episode_return, length in pairs if length]


def test_unbroken_window_bootstraps_from_the_value_of_the_observation_after_it(mode):
    transitions, _ = play([Episode((1, 2, 3, 4, 5, 6))], mode=mode, n_steps=2).collect(4, 1)
    # r + r'/2 + V/4
    assert targets(transitions) == {0: 2.5, 1: 4.25, 2: 6.0, 3: 7.75}


def test_gae_targets_mix_the_values_along_the_window(mode):
    script = [Episode((1, 2, 3, 4, 5, 6))]
    transitions, _ = play(script, mode=mode, n_steps=2, targets="gae", gae_lambda=0.5).collect(2, 1)
    # V + error + error'/4, where an error is r + V'/2 - V
    assert targets(transitions) == {0: 2.0, 1: 3.625}


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_gae_targets_see_the_final_observation_of_truncated_episodes_only(mode, ends):
    script = [Episode((1, 2), ends), Episode((7, 8))]
    transitions, _ = play(script, mode=mode, n_steps=3, targets="gae", gae_lambda=0.5).collect(2, 1)
    last_error = 2 + (2 / 2 if ends == "truncated" else 0) - 1
    assert targets(transitions) == {0: 1.5 + last_error / 4, 1: 1 + last_error}


def test_synchronous_gae_windows_end_with_each_collect():
    rollout = play([Episode((1, 2, 3))], mode=SAME_STEP, n_steps=9, targets="gae", gae_lambda=0.5, synchronous=True)
    transitions, _ = rollout.collect(2, 1)
    assert targets(transitions) == {0: 2.0, 1: 1 + (2 + 2 / 2 - 1)}


def test_transitions_can_be_put_where_they_are_needed(mode):
    elsewhere, _ = play([Episode((1, 2, 3, 4, 5, 6))], mode=mode, n_steps=2).collect(4, 1)
    place = Transitions(*(torch.full_like(tensor, 99) for tensor in elsewhere))
    there, _ = play([Episode((1, 2, 3, 4, 5, 6))], mode=mode, n_steps=2).collect(4, 1, place)
    assert all(getattr(there, name) is getattr(place, name) for name in ("observations", "actions", "returns"))
    assert targets(place) == targets(elsewhere)


def test_terminated_episode_is_not_bootstrapped(mode):
    transitions, _ = play([Episode((1, 2, 4))], mode=mode, n_steps=3).collect(3, 1)
    assert targets(transitions) == {0: 3.0, 1: 4.0, 2: 4.0}


def test_truncated_episode_bootstraps_from_final_observation(mode):
    transitions, _ = play([Episode((1, 2), "truncated")], mode=mode, n_steps=3).collect(2, 1)
    # the final observation is 2, not the next episode's 10: 2 + 2/2; 1 + 3/2
    assert targets(transitions) == {0: 2.5, 1: 3.0}


def test_episode_both_terminated_and_truncated_is_not_bootstrapped(mode):
    transitions, _ = play([Episode((1, 2), "both")], mode=mode, n_steps=3).collect(2, 1)
    assert targets(transitions) == {0: 2.0, 1: 2.0}


def test_window_that_ends_with_its_episode_is_cut_at_the_right_step(mode):
    # n_steps equal to the episode's length
    transitions, _ = play([Episode((1, 2))], mode=mode, n_steps=2).collect(4, 1)
    assert targets(transitions) == {0: 2.0, 1: 2.0, 10: 2.0, 11: 2.0}


def test_episodes_of_length_one_have_their_reward_as_return(mode):
    transitions, stats = play([Episode((7,)), Episode((9,))], mode=mode, n_steps=3).collect(3, 1)
    assert targets(transitions) == {0: 7.0, 10: 9.0, 20: 7.0}
    assert episodes(stats)[:3] == [(7.0, 1), (9.0, 1), (7.0, 1)]


def test_two_episodes_inside_one_window_keep_apart(mode):
    script = [Episode((1,)), Episode((2,), "truncated"), Episode((4, 4, 4, 4, 4))]
    transitions, _ = play(script, mode=mode, n_steps=4).collect(3, 1)
    # 1; 2 + 11/2; 4 + 4/2 + 4/4 + 4/8 + 24/16
    assert targets(transitions) == {0: 1.0, 10: 7.5, 20: 9.0}


def test_one_step_returns_bootstrap_from_the_very_next_observation(mode):
    transitions, _ = play([Episode((1, 2, 3))], mode=mode, n_steps=1).collect(3, 1)
    assert targets(transitions) == {0: 1.5, 1: 3.0, 2: 3.0}


def test_only_the_environment_that_ended_is_cut(mode):
    transitions, _ = play([Episode((1,))], [Episode((1, 1, 1))], mode=mode, n_steps=2).collect(2, 1)
    # the other one: 1 + 1/2 + 1002/4
    assert targets(transitions) == {0: 1.0, 1000: 252.0}


def test_only_the_truncated_one_of_two_that_end_together_is_bootstrapped(mode):
    transitions, _ = play([Episode((1,))], [Episode((1,), "truncated")], mode=mode, n_steps=2).collect(2, 1)
    # 1 + 1001/2
    assert targets(transitions) == {0: 1.0, 1000: 501.5}


def test_every_transition_comes_exactly_once_and_in_order(mode):
    rollout = play([Episode((1, 1, 1)), Episode((1,))], mode=mode, n_steps=2)
    seen = [number for _ in range(4) for number in numbers(rollout.collect(3, 1)[0])]
    assert seen == [0, 1, 2, 10, 20, 21, 22, 30, 40, 41, 42, 50]


def test_transitions_of_one_step_come_in_the_order_of_the_environments(mode):
    long = [Episode((1,) * 9)]
    transitions, _ = play(long, long, long, mode=mode, n_steps=2).collect(6, 1)
    assert numbers(transitions) == [0, 1000, 2000, 1, 1001, 2001]


def test_sizes_that_are_no_multiple_of_the_environments_lose_nothing(mode):
    long = [Episode((1,) * 9)]
    rollout = play(long, long, long, mode=mode, n_steps=2)
    pieces = [numbers(rollout.collect(size, 1)[0]) for size in (4, 1, 5)]
    assert pieces == [[0, 1000, 2000, 1], [1001], [2001, 2, 1002, 2002, 3]]


def test_both_autoreset_modes_yield_the_same_transitions_of_each_environment():
    scripts = (
        [Episode((1, 2, 3)), Episode((4,), "truncated")],
        [Episode((1,))],
        [Episode((1, 0, 2, 0), "truncated"), Episode((5, 5))],
    )
    same, next_ = (play(*scripts, mode=mode, n_steps=3).collect(60, 1)[0] for mode in (SAME_STEP, NEXT_STEP))
    same, next_ = targets(same), targets(next_)
    for start in (0, 1000, 2000):
        first, second = ([item for item in side.items() if item[0] // 1000 * 1000 == start] for side in (same, next_))
        shared = min(len(first), len(second))
        assert shared >= 10
        assert first[:shared] == second[:shared]


def test_step_that_only_resets_is_neither_learned_from_nor_counted():
    rollout = play([Episode((1, 2))], mode=NEXT_STEP, n_steps=1)
    transitions, stats = rollout.collect(4, 1)
    assert numbers(transitions) == [0, 1, 10, 11]  # 2 and 12 are only seen by the resets
    assert stats.env_steps.tolist() == [4]
    assert rollout.env_steps == 4
    assert rollout.env.envs[0].actions_taken == [0, 1, 0, 1]
    assert episodes(stats) == [(3.0, 2), (3.0, 2)]


def test_env_steps_add_up_over_all_stats(mode):
    rollout = play([Episode((1, 2))], [Episode((1, 2, 3))], mode=mode, n_steps=2)
    series = [rollout.collect(3, 1)[1] for _ in range(5)]
    taken = sum(len(env.actions_taken) for env in rollout.env.envs)
    assert sum(stats.env_steps.item() for stats in series) == rollout.env_steps == taken


def test_actions_are_those_that_the_environment_was_given(mode):
    rollout = play([Episode((1, 2, 3)), Episode((1,))], mode=mode, n_steps=2)
    transitions, _ = rollout.collect(6, 1)
    assert transitions.actions.tolist() == rollout.env.envs[0].actions_taken[:6] == [0, 1, 0, 0, 0, 1]


def test_stats_hold_return_and_length_of_each_episode_in_order(mode):
    script = [Episode((1, 2, 3)), Episode((-5,), "truncated"), Episode((0, 4))]
    _, stats = play(script, mode=mode, n_steps=1).collect(6, 1)
    assert episodes(stats) == [(6.0, 3), (-5.0, 1), (4.0, 2)]


def test_truncated_episode_counts_its_rewards_without_the_bootstrap(mode):
    _, stats = play([Episode((1, 2), "truncated")], mode=mode, n_steps=1).collect(2, 1)
    assert episodes(stats) == [(3.0, 2)]


def test_clipping_changes_targets_but_not_reported_returns(mode):
    rollout = play([Episode((5, -3, 0, 0.5))], mode=mode, n_steps=4, clip_rewards=True)
    transitions, stats = rollout.collect(4, 1)
    # signs 1, −1, 0, 1: 1 − 1/2 + 0 + 1/8; −1 + 0 + 1/4; 1/2; 1
    assert targets(transitions) == {0: 0.625, 1: -0.75, 2: 0.5, 3: 1.0}
    assert episodes(stats)[0] == (2.5, 4)


def test_clipping_leaves_the_bootstrap_of_a_truncated_episode_whole(mode):
    transitions, _ = play([Episode((5, 5), "truncated")], mode=mode, n_steps=2, clip_rewards=True).collect(2, 1)
    # 1 + 2/2; 1 + 2/2
    assert targets(transitions) == {0: 2.0, 1: 2.0}


def test_stats_name_the_oldest_policy_that_chose_any_of_the_actions():
    rollout = play([Episode((1,) * 9)], mode=SAME_STEP, n_steps=2)
    # version 1 takes steps 0, 1 and 2 to complete transition 0; 2, 3 and 4 take one step each
    series = [rollout.collect(1, version)[1] for version in (1, 2, 3, 4)]
    assert [stats.env_steps.item() for stats in series] == [3, 1, 1, 1]
    assert [stats.policy_version.item() for stats in series] == [1, 1, 1, 2]


def test_stats_of_mixed_versions_name_the_oldest():
    rollout = play([Episode((1,) * 9)], mode=SAME_STEP, n_steps=1)
    rollout.collect(1, 1)
    _, stats = rollout.collect(3, 2)  # transition 1 was still chosen by version 1
    assert stats.policy_version.tolist() == [1]


class ChangingPolicy(NumberPolicy):
    """A policy whose weights are replaced again and again: version v, from 1 on, chooses its first action in step v."""

    version = 0

    def __call__(self, observations, memory):
        self.version += 1
        decision = super().__call__(observations, memory)
        return decision._replace(values=decision.values + 1000 * self.version)


def test_stats_name_the_version_that_chose_the_oldest_action_though_versions_change_in_collect(mode):
    policy = ChangingPolicy()
    rollout = Rollout(vector_env([Episode((1,) * 9)], mode=mode), policy, n_steps=2, discount=0.5)
    stats = [rollout.collect(size, lambda: policy.version)[1] for size in (1, 3, 2)]
    # the actions of steps 1 | 2, 3, 4 | 5, 6; two more steps complete a window
    assert [each.policy_version.item() for each in stats] == [1, 2, 5]
    assert policy.version == 8


def test_each_transition_has_the_version_that_chose_its_action_and_the_values_of_a_later_one(mode):
    policy = ChangingPolicy()
    rollout = Rollout(vector_env([Episode((1,) * 9)], mode=mode), policy, n_steps=2, discount=0.5)
    collected = [rollout.collect(1, lambda: policy.version) for _ in range(5)]
    assert [stats.policy_version.item() for _, stats in collected] == [1, 2, 3, 4, 5]
    # 1 + 1/2 + V/4, where V of observation t is computed by version t + 1 when it is acted on
    returns = [transitions.returns.item() for transitions, _ in collected]
    assert returns == [1.5 + (t + 1000 * (t + 1)) / 4 for t in range(2, 7)]


def test_episodes_beyond_the_places_of_stats_wait_for_the_next():
    rollout = play([Episode((value,)) for value in range(1, 10)], mode=SAME_STEP, n_steps=7)
    _, first = rollout.collect(1, 1)  # 8 steps, so 8 episodes, and places for 1 + 1
    assert len(first.episode_lengths) == 2
    later = [rollout.collect(1, 1)[1] for _ in range(3)]
    assert [episodes(stats) for stats in (first, *later)] == [
        [(1.0, 1), (2.0, 1)],
        [(3.0, 1), (4.0, 1)],
        [(5.0, 1), (6.0, 1)],
        [(7.0, 1), (8.0, 1)],
    ]


def test_unused_episode_places_have_length_zero():
    _, stats = play([Episode((1,) * 9)], mode=SAME_STEP, n_steps=1).collect(3, 1)
    assert stats.episode_lengths.tolist() == [0, 0, 0, 0]


def test_lost_life_ends_the_return_but_not_the_episode(mode):
    rollout = play([Episode((1, 2, 4, 8), lives_lost_at=(1,))], mode=mode, n_steps=4)
    transitions, stats = rollout.collect(4, 1)
    # 1 + 2/2; 2; then 4 + 8/2; 8
    assert targets(transitions) == {0: 2.0, 1: 2.0, 2: 8.0, 3: 8.0}
    assert episodes(stats)[0] == (15.0, 4)


def test_lost_life_is_not_bootstrapped(mode):
    transitions, _ = play([Episode((1, 2, 4, 8), lives_lost_at=(1,))], mode=mode, n_steps=1).collect(2, 1)
    # 1 + 1/2, and 2 rather than 2 + 2/2
    assert targets(transitions) == {0: 1.5, 1: 2.0}


def test_observations_are_copies_of_a_buffer_that_the_environment_reuses(mode):
    env = vector_env([Episode((1,) * 9)], mode=mode, copy=False)
    transitions, _ = Rollout(env, NumberPolicy(), n_steps=2, discount=0.5).collect(4, 1)
    assert numbers(transitions) == [0, 1, 2, 3]


def test_collected_tensors_have_the_types_that_the_learner_expects(mode):
    transitions, stats = play([Episode((1, 2))], mode=mode, n_steps=2).collect(3, 1)
    assert [tensor.dtype for tensor in transitions] == [torch.float32, torch.int64, torch.float32, torch.float32]
    kinds = [torch.int64, torch.int64, torch.float32, torch.int64, torch.float32, torch.float32, torch.int64]
    assert [tensor.dtype for tensor in stats] == kinds
    assert [tuple(tensor.shape) for tensor in transitions] == [(3, 1), (3,), (3,), (3,)]


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same_step", "next_step"])
def test_truncated_game_of_the_native_atari_environment_bootstraps_from_final_observation(mode):
    class MeanPixel(NumberPolicy):
        def __call__(self, observations, memory):
            actions = torch.zeros(len(observations), dtype=torch.int64)
            return Decision(actions, self.values(observations, memory), actions[:, None], memory.state)

        def values(self, observations, memory):
            return observations.float().mean(dim=(1, 2, 3))

    env = AtariVectorEnv(
        "pong", 1, num_threads=1, noop_max=0, use_fire_reset=False, autoreset_mode=mode, max_num_frames_per_episode=20
    )
    try:
        transitions, stats = Rollout(env, MeanPixel(), n_steps=1, discount=1.0).collect(10, 1)
    finally:
        env.close()
    # no reward in 20 frames, so R(o_t) = V(o_{t+1}); the stack fills up from black in three steps,
    # and a reset's black frames instead of the final ones would show as a quarter of the brightness
    full = transitions.returns[4]
    assert (transitions.returns / full).tolist() == pytest.approx([0.5, 0.75, 1, 1, 1] * 2, abs=0.01)
    assert episodes(stats) == [(0.0, 5), (0.0, 5)]


def test_environment_that_does_not_reset_itself_is_refused():
    with pytest.raises(ValueError, match="SAME_STEP or NEXT_STEP is needed"):
        play([Episode((1,))], mode=AutoresetMode.DISABLED, n_steps=1)


def test_a_policy_may_be_no_more_than_actions_and_values(mode):
    class Plain:
        def __call__(self, observations):
            return torch.zeros(len(observations), dtype=torch.int64), self.values(observations)

        def values(self, observations):
            return observations[:, 0].clone()

    env = vector_env([Episode((1, 2, 3, 4, 5, 6))], mode=mode)
    transitions, _ = Rollout(env, Plain(), n_steps=2, discount=0.5).collect(4, 1)
    assert targets(transitions) == {0: 2.5, 1: 4.25, 2: 6.0, 3: 7.75}
    assert transitions.log_probs.isnan().all()


def test_uint8_observations_stay_uint8():
    assert to_tensor(np.zeros((2, 4), dtype=np.uint8)).dtype == torch.uint8


def test_float64_observations_become_float32():
    assert to_tensor(np.zeros((2, 4))).dtype == torch.float32


def test_the_stats_hold_the_oldest_version_that_chose_an_action() -> None:
    rollout = play([Episode((1,) * 8)], mode=SAME_STEP, n_steps=1)
    versions = iter(range(5, 50))
    _, first = rollout.collect(3, lambda: next(versions))
    _, second = rollout.collect(2, lambda: next(versions))
    # a transition is complete one step later, so the fourth step's decides the second micro-batch
    assert (first.policy_version.tolist(), second.policy_version.tolist()) == ([5], [8])
