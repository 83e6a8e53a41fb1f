"""Whole episodes with a fixed policy. Even seeds play 2 steps, odd ones 10; the reward is the action."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.learning.evaluation import EvaluationDataset
from lightning_a3c.rl.networks import build_network
from tests.scripted import SeededLengthEnv


class Preference(nn.Module):
    """Logits that do not depend on the observation."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, observations):
        return self.logits.expand(len(observations), -1), observations[:, 0]


def play(episodes, num_envs=2, net=None, **kwargs):
    """(return, length) of each episode, in the order they are given out."""
    config = EnvConfig(id="SeededLength-v0", num_envs=num_envs)
    dataset = EvaluationDataset(config, net or Preference(0.0, 0.0), episodes, **kwargs)
    return [(episode.episode_return.item(), episode.length.item()) for episode in dataset]


@pytest.mark.parametrize(("episodes", "num_envs"), [(1, 1), (1, 4), (3, 8), (7, 2), (8, 4)])
def test_exactly_the_asked_number_of_episodes_is_played(episodes, num_envs):
    assert len(play(episodes, num_envs)) == episodes


def test_length_of_the_dataset_is_its_number_of_episodes():
    assert len(EvaluationDataset(EnvConfig(id="SeededLength-v0"), Preference(0.0, 0.0), episodes=7)) == 7


def test_short_episodes_are_not_preferred():
    # seeds 0 and 1: each sub-environment plays two, though five short ones end before the first long one
    assert [length for _, length in play(4, num_envs=2, seed=0)] == [2, 10, 2, 10]


@pytest.mark.parametrize("first", [1, 2, 3, 6, 7])
def test_the_first_few_episodes_are_no_shorter_than_the_rest(first):
    # seeds 0 … 3 play 2, 10, 2 and 10 steps; 8 short episodes end before the first long one
    assert [length for _, length in play(20, num_envs=4, seed=0)][:first] == [2, 10, 2, 10, 2, 10, 2][:first]


class NeverEnding(SeededLengthEnv):
    """Ends in its first episode only if its seed is even; the reward is 1."""

    def step(self, action):
        observation, _, ended, *rest = super().step(action)
        return np.minimum(observation, 10), 1.0, ended and self.length == 2, *rest


gymnasium.register("NeverEnding-v0", entry_point="tests.test_evaluation:NeverEnding")


def test_an_episode_without_an_end_is_cut_off_and_the_next_one_begins_anew():
    config = EnvConfig(id="NeverEnding-v0", num_envs=2)
    played = list(EvaluationDataset(config, Preference(0.0, 0.0), episodes=4, seed=0, max_steps=30))
    facts = [(e.episode_return.item(), e.length.item(), e.is_cut.item()) for e in played]
    assert facts == [(2.0, 2, False), (30.0, 30, True), (2.0, 2, False), (30.0, 30, True)]


def test_an_episode_that_ends_at_the_bound_is_whole():
    config = EnvConfig(id="SeededLength-v0", num_envs=2)
    played = list(EvaluationDataset(config, Preference(0.0, 0.0), episodes=2, seed=0, max_steps=10))
    assert [(episode.length.item(), episode.is_cut.item()) for episode in played] == [(2, False), (10, False)]


def test_a_cut_game_of_atari_begins_anew_and_leaves_the_others_alone():
    config = EnvConfig(id="PongNoFrameskip-v4", num_envs=2)
    net = build_network((4, 84, 84), 6)
    played = list(EvaluationDataset(config, net, episodes=4, seed=0, max_steps=40))
    assert [(episode.length.item(), episode.is_cut.item()) for episode in played] == [(40, True)] * 4


def test_whoever_watches_is_told_of_each_step_and_can_end_it():
    told = []

    def watch(progress):
        told.append(progress)
        if progress.env_steps == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(4, num_envs=2, seed=0, watch=watch)
    assert [(progress.ended, progress.episodes, progress.env_steps) for progress in told] == [
        (0, 4, 2),
        (1, 4, 4),
        (1, 4, 6),
        (2, 4, 8),
    ]


def test_episodes_that_do_not_divide_evenly_go_to_the_first_sub_environments():
    assert [length for _, length in play(5, num_envs=2, seed=0)] == [2, 10, 2, 10, 2]
    assert [length for _, length in play(5, num_envs=2, seed=1)] == [10, 2, 10, 2, 10]


def test_each_episode_has_the_return_of_its_own_steps_only():
    always_one = Preference(0.0, 100.0)
    assert play(4, net=always_one) == [(2.0, 2), (10.0, 10), (2.0, 2), (10.0, 10)]


def test_greedy_takes_the_likelier_action_however_small_the_difference():
    assert play(2, net=Preference(0.0, 0.001), greedy=True) == [(2.0, 2), (10.0, 10)]


def test_sampling_takes_both_of_two_equally_likely_actions():
    returns = [episode_return for episode_return, _ in play(20, num_envs=1, seed=1)]
    assert 60 < sum(returns) < 140  # of 200 steps: 100, standard deviation 7


def test_same_seed_gives_the_same_episodes():
    assert play(10, seed=3) == play(10, seed=3)


def test_iterating_again_gives_the_same_episodes():
    dataset = EvaluationDataset(EnvConfig(id="SeededLength-v0", num_envs=2), Preference(0.0, 0.0), episodes=10)
    assert list(dataset) == list(dataset)


def test_another_seed_gives_other_episodes():
    assert play(10, seed=3) != play(10, seed=5)


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**70])
def test_any_seed_that_training_takes_will_do(seed):
    assert len(play(2, seed=seed)) == 2
    assert play(10, seed=seed) == play(10, seed=seed)


def test_episodes_are_those_of_the_networks_current_weights():
    net = Preference(100.0, 0.0)
    dataset = EvaluationDataset(EnvConfig(id="SeededLength-v0", num_envs=1), net, episodes=1)
    before = [episode.episode_return.item() for episode in dataset]
    with torch.no_grad():
        net.logits.copy_(torch.tensor([0.0, 100.0]))
    after = [episode.episode_return.item() for episode in dataset]
    assert (before, after) == ([0.0], [2.0])
