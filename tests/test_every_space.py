"""Training on every action and observation space: what is learned, kept, resumed and refused."""

import copy
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from gymnasium import spaces
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig
from lightning_a3c.learning.restoring import CheckpointMismatch
from lightning_a3c.rl.agent_network import AgentNetwork
from lightning_a3c.rl.normalization import RunningMoments, moments_of
from tests.scripted import Masked

SPACES: dict[str, spaces.Space] = {
    "Discrete": spaces.Discrete(3, start=-1),
    "Box": spaces.Box(-1, 1, (2,), np.float32),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(3),
    "Dict": spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (1,), np.float32)),
    "Tuple": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
}


class Identity(gymnasium.Env):
    """Ten steps; the reward of each is 1 less the mean distance of the action from the observation."""

    def __init__(self, kind: str) -> None:
        self.action_space = SPACES[kind]
        self.observation_space = self.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.action_space.seed(seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        taken, wanted = (spaces.flatten(self.action_space, value).astype(float) for value in (action, self.wanted))
        self.steps += 1
        return self._show(), 1 - np.abs(taken - wanted).mean(), False, self.steps >= 10, {}

    def _show(self) -> Any:
        self.wanted = self.action_space.sample()
        return self.wanted


for _kind in SPACES:
    gymnasium.register(f"Identity{_kind}-v0", entry_point="tests.test_every_space:Identity", kwargs={"kind": _kind})


def stream(env: EnvConfig, **options: Any) -> CollectorDataModule:
    defaults = {"num_workers": 0, "batch_size": 64, "micro_batch_size": 32, "n_steps": 1, "discount": 0.0, "seed": 1}
    return CollectorDataModule(env, **defaults | options)


def fit(
    module: A3CModule,
    data: CollectorDataModule,
    updates: int,
    folder: Path,
    ckpt_path: str | None = None,
    **options: Any,
) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_steps=updates, accelerator="cpu", default_root_dir=folder, **quiet | options)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def agent(data: CollectorDataModule, **options: Any) -> A3CModule:
    torch.manual_seed(0)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 3e-3}}
    return A3CModule.for_data(data, orthogonal=True, optimizer=adam, **options)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("kind", SPACES)
def test_the_identity_is_learned(kind: str, mode: str, tmp_path: Path) -> None:
    data = stream(EnvConfig(f"Identity{kind}-v0", num_envs=8))
    module = agent(data, mode=mode)
    fit(module, data, 600, tmp_path, enable_checkpointing=False)
    assert module.progress.mean_return > (8 if "Box" in kind or kind == "Dict" else 9.5)


@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize(
    "env",
    [
        EnvConfig("IdentityBox-v0", num_envs=4),
        EnvConfig("IdentityDict-v0", num_envs=4),
        EnvConfig("Masked-v0", num_envs=4, action_mask="info"),
    ],
    ids=["Box", "Dict", "masked"],
)
def test_synchronous_runs_are_equal_and_resume_exactly(env: EnvConfig, mode: str, tmp_path: Path) -> None:
    def run(updates: int, ckpt_path: str | None = None) -> tuple[A3CModule, str]:
        sizes = {"micro_batch_size": 8, "batch_size": 16, "updates_per_epoch": 4, "n_steps": 2}
        data = stream(env, synchronous=True, discount=0.9, **sizes)
        module = agent(data, mode=mode, normalize_observations=True, normalize_rewards=True)
        trainer = fit(module, data, updates, tmp_path, ckpt_path, enable_checkpointing=False)
        trainer.save_checkpoint(tmp_path / f"{updates}.ckpt")
        return module, str(tmp_path / f"{updates}.ckpt")

    first, _ = run(13)
    second, _ = run(13)
    _, half = run(6)
    resumed, _ = run(13, ckpt_path=half)
    for other in (second, resumed):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


class WithMasks(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives the mask as a method of its own, or fails to."""

    def allowed(self) -> np.ndarray:
        mask: np.ndarray = self.unwrapped.mask
        return mask

    def failing(self) -> np.ndarray:
        raise AttributeError("no board yet")


def test_the_mask_may_be_a_method_of_a_wrapper() -> None:
    wrapper = {"class_path": f"{__name__}.WithMasks"}
    data = stream(EnvConfig("Masked-v0", num_envs=2, wrappers=[wrapper], action_mask="allowed()"), num_workers=0)
    with closing(data.dataset(agent(data).net)) as batches:
        assert len(next(iter(batches)).payload.actions)


def test_a_method_for_the_mask_that_raises_is_named_with_its_error() -> None:
    wrapper = {"class_path": f"{__name__}.WithMasks"}
    with pytest.raises(ValueError, match=r"failing\(\) raised AttributeError: no board yet"):
        stream(EnvConfig("Masked-v0", num_envs=2, wrappers=[wrapper], action_mask="failing()"))


@pytest.mark.parametrize("source", ["info", "action_masks()"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_masked_actions_are_taken_neither_in_training_nor_in_tests(
    source: str, num_workers: int, tmp_path: Path
) -> None:
    data = stream(EnvConfig("Masked-v0", num_envs=4, action_mask=source), num_workers=num_workers, eval_episodes=5)
    module = agent(data)
    trainer = fit(module, data, 5, tmp_path, enable_checkpointing=False)
    trainer.test(module, datamodule=data, verbose=False)


def test_a_mask_that_allows_nothing_names_the_sub_environment() -> None:
    class Stuck(Masked):
        def _show(self) -> tuple[Any, dict[str, Any]]:
            return super()._show()[0], {"action_mask": np.zeros(3, bool)}

    gymnasium.register("Stuck-v0", entry_point=Stuck)
    with pytest.raises(ValueError, match="'Stuck-v0': the action mask allows no action after reset"):
        CollectorDataModule(EnvConfig("Stuck-v0", action_mask="info"))
    del gymnasium.registry["Stuck-v0"]


def test_an_agent_acts_on_a_dict_of_tensors_in_the_environments_units() -> None:
    module = agent(stream(EnvConfig("IdentityDict-v0")))
    assert isinstance(module.net, AgentNetwork)
    actions = module.act({"a": torch.zeros(3, 2), "b": torch.zeros(3, 1)})
    assert actions.shape == (3, 2)
    starts = agent(stream(EnvConfig("IdentityDiscrete-v0"))).act(torch.zeros(50, 3))
    assert set(starts.tolist()) == {-1, 0, 1}
    assert agent(stream(EnvConfig("Pendulum-v1"))).act(torch.zeros(2, 3)).shape == (2, 1)


def test_statistics_are_pooled_kept_and_used_without_training(tmp_path: Path) -> None:
    data = stream(EnvConfig("Pendulum-v1", num_envs=4), num_workers=2)
    module = agent(data, normalize_observations=True, normalize_rewards=True)
    trainer = fit(module, data, 6, tmp_path, enable_checkpointing=False)
    assert isinstance(module.net, AgentNetwork)
    moments = module.net.observation_moments
    assert moments is not None
    assert int(moments.count) == 5 * 64  # those of the last batch would come with the next version
    assert float(module.net.reward_scale) != 1
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "a.ckpt")
    observation = torch.tensor([[0.5, -0.5, 3.0]])
    torch.testing.assert_close(loaded.eval()(observation), module.eval()(observation))
    before = loaded.net.observation_moments.mean.clone()
    loaded.train()(observation)
    assert torch.equal(before, loaded.net.observation_moments.mean)


def test_merged_groups_have_the_moments_of_all_samples_together() -> None:
    samples = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 0.1]) + 3
    groups = samples.split([7, 93, 200])
    means, variances = torch.stack([moments_of(group)[0] for group in groups]).unbind(1)
    moments = RunningMoments(2)
    moments.merge([7, 93], means[:2], variances[:2])
    moments.merge([200], means[2:], variances[2:])
    whole = moments_of(samples)[0]
    torch.testing.assert_close(torch.stack([moments.mean, moments.variance]), whole)
    assert float(moments.count) == 300
    torch.testing.assert_close(moments.normalize(samples), (samples - whole[0]) / whole[1].sqrt())


def test_statistics_that_were_loaded_copied_or_pickled_normalise_alike() -> None:
    moments = RunningMoments(1)
    moments.merge([10], torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    loaded = RunningMoments(1)
    loaded.load_state_dict(moments.state_dict())
    values = torch.tensor([[4.0], [-100.0]])
    for same in (loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert same.normalize(values).flatten().tolist() == pytest.approx([1.0, -10.0])
    assert set(moments.state_dict()) == {"count", "mean", "variance"}  # as in earlier checkpoints


def test_bounded_means_stay_within_the_bounds_however_large_the_outputs_are() -> None:
    module = A3CModule.for_data(stream(EnvConfig("Pendulum-v1")), bound_means=True)
    assert isinstance(module.net, AgentNetwork)
    torch.nn.init.constant_(module.net.net.policy[-1].bias, 100.0)
    observations = torch.zeros(1, 3)
    assert module.act(observations, greedy=True)[0].tolist() == [2.0]
    mean, log_std = module(observations)[0][0].tolist()
    assert (mean, log_std) == (1.0, -0.5)


def test_bounded_means_are_refused_where_they_mean_nothing() -> None:
    with pytest.raises(ValueError, match="set squash_actions or bound_means, not both"):
        A3CModule.for_data(stream(EnvConfig("Pendulum-v1")), bound_means=True, squash_actions=True)


@pytest.mark.parametrize(
    "option", [{"squash_actions": True}, {"log_std": "head"}, {"initial_log_std": 0.0}, {"bound_means": True}]
)
def test_options_for_real_numbers_are_refused_where_actions_have_none(option: dict[str, Any]) -> None:
    message = f"{next(iter(option))} has no effect on actions without real numbers; remove it"
    with pytest.raises(ValueError, match=message):
        A3CModule.for_data(stream(EnvConfig("CartPole-v1")), **option)


def test_a_checkpoint_of_another_action_space_is_refused(tmp_path: Path) -> None:
    box, binary = stream(EnvConfig("IdentityBox-v0")), stream(EnvConfig("IdentityMultiBinary-v0"))
    fit(agent(box), box, 1, tmp_path, enable_checkpointing=False).save_checkpoint(tmp_path / "box.ckpt")
    with pytest.raises(CheckpointMismatch, match=r"trained on .* with actions and observations"):
        fit(agent(binary), binary, 2, tmp_path, str(tmp_path / "box.ckpt"), enable_checkpointing=False)
    with pytest.raises(MisconfigurationException, match="the module was made for spaces"):
        fit(agent(box), binary, 1, tmp_path)


def test_wrappers_of_the_config_are_part_of_the_task(tmp_path: Path) -> None:
    limit = {"class_path": "gymnasium.wrappers.TimeLimit", "init_args": {"max_episode_steps": 3}}
    data = stream(EnvConfig("IdentityBox-v0", num_envs=2, wrappers=[limit]), eval_episodes=4)
    module = agent(data)
    trainer = fit(module, data, 2, tmp_path, enable_checkpointing=False)
    assert set(module.progress.lengths) == {3}
    assert module.hparams["task"]["wrappers"] == [limit]
    assert trainer.test(module, datamodule=data, verbose=False)[0]["test/length_max"] == 3


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        ({"class_path": "gymnasium.wrappers.TimeLimt"}, "cannot be imported"),
        ({"class_path": "gymnasium.wrappers.TimeLimit", "init_args": {"steps": 3}}, "cannot be built with"),
        ("TimeLimit", "must be"),
        (
            {"class_path": "gymnasium.wrappers.TimeLimit", "init_arg": {}},
            "has 'init_arg', which is neither",
        ),
        ({"class_path": "gymnasium.wrappers.TimeLimit", "init_args": [3]}, "init_args must be a dict of arguments"),
    ],
)
def test_a_wrapper_that_cannot_be_had_is_refused_by_its_place(wrapper: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"env.wrappers\[0\].*{reason}"):
        CollectorDataModule(EnvConfig("CartPole-v1", wrappers=[wrapper]))


def test_normalising_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="normalize_observations needs float observations"):
        A3CModule((4, 84, 84), 6, task={"observation_dtype": "uint8"}, normalize_observations=True)


def test_one_observation_unpacks_like_many() -> None:
    module = agent(stream(EnvConfig("Masked-v0", action_mask="info")))
    assert isinstance(module.net, AgentNetwork)
    packed = torch.randint(0, 2, (3, 2 * 4 + 3), dtype=torch.uint8)
    whole = module.net.unpack(packed)
    for index in range(3):
        for name, part in module.net.unpack(packed[index : index + 1]).items():
            assert torch.equal(part[0], whole[name][index])
