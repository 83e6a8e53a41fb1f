"""The environment that is watched is the one that was trained in."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule, CollectorDataModule
from lightning_a3c.environments.atari import AtariConfig
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import make_vector_env
from lightning_a3c.environments.task import describe_task
from lightning_a3c.rl.action_spec import BoxSpec
from lightning_a3c.rl.networks import build_network
from lightning_a3c.rl.policies import NetworkPolicy
from lightning_a3c.viewing.playback import action_bars, action_names, make_watched_env, play_episode


def policy_for(config: EnvConfig, **kwargs: object) -> NetworkPolicy:
    task = describe_task(config)
    torch.manual_seed(0)
    return NetworkPolicy(build_network(task.observation_shape, task.num_actions), **kwargs)


@pytest.mark.parametrize("full_action_space", [False, True])
def test_watched_atari_shows_what_training_sees(full_action_space: bool) -> None:
    atari = AtariConfig(noop_max=0, fire_on_reset=False, full_action_space=full_action_space)
    config = EnvConfig("PongNoFrameskip-v4", num_envs=1, atari=atari)
    trained, watched = make_vector_env(config), make_watched_env(config)
    observations, observation = trained.reset(seed=3)[0], watched.reset(seed=3)[0]
    for action in np.random.default_rng(0).integers(trained.single_action_space.n, size=80):
        np.testing.assert_array_equal(observations[0], observation)
        observations, rewards, *_ = trained.step(np.array([action]))
        observation, reward, *_ = watched.step(action)
        assert rewards[0] == reward
    trained.close()
    watched.close()


def test_fire_is_pressed_where_the_game_waits_for_it() -> None:
    moving = {}
    for fire in (True, False):
        env = make_watched_env(EnvConfig("BreakoutNoFrameskip-v4", atari=AtariConfig(noop_max=0, fire_on_reset=fire)))
        env.reset(seed=0)
        frames = np.stack([env.step(0)[0][-1] for _ in range(10)])
        moving[fire] = bool((frames != frames[0]).any())
        env.close()
    assert moving == {True: True, False: False}


@pytest.mark.parametrize(
    ("env_id", "size", "frames_per_second", "names"),
    [
        ("PongNoFrameskip-v4", (210, 160, 3), 15, ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]),
        ("CartPole-v1", (400, 600, 3), 50, ["0", "1"]),
    ],
)
def test_frames_come_in_colour_at_native_size_and_real_speed(
    env_id: str, size: tuple[int, ...], frames_per_second: int, names: list[str]
) -> None:
    env = make_watched_env(EnvConfig(env_id))
    env.reset(seed=0)
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    assert frame.shape == size
    assert env.metadata["render_fps"] == frames_per_second
    assert action_names(env) == names
    env.close()


def test_an_episode_is_shown_before_each_step_and_at_its_end() -> None:
    config = EnvConfig("CartPole-v1")
    env = make_watched_env(config)
    steps = list(play_episode(env, policy_for(config), seed=0))
    env.close()
    assert [step.steps for step in steps] == list(range(len(steps)))
    assert [step.score for step in steps] == list(range(len(steps)))  # 1 a step
    assert len(steps) > 8
    assert all(sum(bar.share for bar in step.bars) == pytest.approx(1) for step in steps)


def test_the_same_seed_shows_the_same_episode() -> None:
    config = EnvConfig("CartPole-v1")
    env = make_watched_env(config)
    shown = [[int(m.action) for m in play_episode(env, policy_for(config, seed=s), seed=s)] for s in (1, 1, 2)]
    env.close()
    assert shown[0] == shown[1] != shown[2]


def test_greedy_play_takes_the_likeliest_action() -> None:
    config = EnvConfig("CartPole-v1")
    env = make_watched_env(config)
    steps = list(play_episode(env, policy_for(config, greedy=True), seed=0))
    env.close()
    for step in steps:
        assert [bar.is_chosen for bar in step.bars] == [bar.share > 0.5 for bar in step.bars]


def test_a_box_action_has_a_bar_for_each_component_with_mean_spread_and_chosen_value() -> None:
    spec = BoxSpec((-2.0, -math.inf), (2.0, math.inf))
    parameters = torch.tensor([[0.5, 0.0, 0.0, math.log(2)]])
    bars = action_bars(spec, parameters, torch.tensor([[0.5, 3.0]]), ["0", "1"])
    assert [(bar.name, bar.text) for bar in bars] == [("0 +1.00", "+0.5±1.0"), ("1 +3.00", "+0.0±2.0")]
    assert bars[0].share == 0.75  # 1 lies there between -2 and 2


def test_an_agent_with_box_actions_can_be_watched() -> None:
    data = CollectorDataModule(EnvConfig("Pendulum-v1"), num_workers=0)
    env = make_watched_env(data.env)
    steps = list(itertools.islice(play_episode(env, NetworkPolicy(A3CModule.for_data(data).net), seed=0), 5))
    env.close()
    assert [len(step.bars) for step in steps] == [1] * 5


def test_an_environment_without_pictures_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"env.id 'SeededLength-v0' has no render mode 'rgb_array'"):
        make_watched_env(EnvConfig("SeededLength-v0"))


def test_an_environment_made_by_a_function_and_drawn_in_training_too_can_be_watched() -> None:
    gymnasium.register("Made-v0", entry_point=lambda render_mode=None: CartPoleEnv(render_mode=render_mode))
    env = make_watched_env(EnvConfig("Made-v0", kwargs={"render_mode": "rgb_array"}))
    env.reset(seed=0)
    assert env.render().shape == (400, 600, 3)
    env.close()
    del gymnasium.registry["Made-v0"]


@pytest.mark.parametrize("changes", [{}, {"difficulty": 1}], ids=["native", "one by one"])
def test_a_watched_game_ends_with_the_time_limit_of_its_id(changes: dict[str, int]) -> None:
    arguments = {"game": "pong", "frameskip": 4, "repeat_action_probability": 0.0} | changes
    gymnasium.register("Short-v0", entry_point="ale_py.env:AtariEnv", max_episode_steps=7, kwargs=arguments)
    config = EnvConfig("Short-v0")
    env = make_watched_env(config)
    *_, end = play_episode(env, policy_for(config), seed=0)
    assert end.steps == 7
    env.close()
    del gymnasium.registry["Short-v0"]


def test_a_window_shows_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make_watched_env(EnvConfig("PongNoFrameskip-v4", atari=AtariConfig(noop_max=0)), window=True)
    shown = []
    window = env
    while not isinstance(window, gymnasium.wrappers.HumanRendering):
        window = window.env
    render = window._render_frame
    monkeypatch.setattr(window, "_render_frame", lambda: shown.append(render()))
    env.reset(seed=0)
    before = len(shown)
    env.step(0)
    env.close()
    assert len(shown) - before == 4  # frames an action is repeated for
