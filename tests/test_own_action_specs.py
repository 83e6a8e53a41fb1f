"""Distributions that a user names by class path: learned with, kept, shown, exported, or refused with a reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from lightning_a3c import A3CModule, ActionSpec, EnvConfig, seeded_by
from lightning_a3c.learning.restoring import CheckpointMismatch
from lightning_a3c.rl.action_spec import BoxSpec, DiscreteSpec, JointSpec
from lightning_a3c.rl.action_spec_checks import own_action_spec
from lightning_a3c.viewing.playback import action_bars
from tests.test_every_space import agent, fit, stream

BETA = {"class_path": f"{__name__}.BetaSpec"}


@dataclass(frozen=True)
class BetaSpec(ActionSpec):
    """Independent Beta distributions, whose actions lie between finite bounds without clipping."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    least: float = 1.0

    @property
    def num_parameters(self) -> int:
        return 2 * len(self.low)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with seeded_by(generator):
            return self._beta(parameters).sample().clamp(1e-4, 1 - 1e-4)

    def mode(self, parameters: Tensor) -> Tensor:
        return self._beta(parameters).mean

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        beta = self._beta(parameters)
        return beta.log_prob(actions).sum(dim=1), beta.entropy().sum(dim=1)

    def to_env(self, actions: Tensor) -> Tensor:
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        return low + (high - low) * actions.cpu()

    def _beta(self, parameters: Tensor) -> D.Beta:
        first, second = (F.softplus(parameters) + self.least).chunk(2, dim=1)
        return D.Beta(first, second)


class Doubled(DiscreteSpec):
    """A discrete distribution of half the temperature, derived from the usual one."""

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return super().sample(2 * parameters, generator)

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return super().log_prob_and_entropy(2 * parameters, actions)


class Laplace(BoxSpec):
    """Uses the log-stds of the usual distribution, which are parameters of the agent."""

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with seeded_by(generator):
            return self._laplace(parameters).sample()

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        laplace = self._laplace(parameters)
        return laplace.log_prob(actions).sum(dim=1), laplace.entropy().sum(dim=1)

    def _laplace(self, parameters: Tensor) -> D.Laplace:
        mean, log_scale = parameters.chunk(2, dim=1)
        return D.Laplace(mean, log_scale.exp())


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_a_beta_distribution_learns_the_identity(mode: str, tmp_path: Path) -> None:
    data = stream(EnvConfig("IdentityBox-v0", num_envs=8))
    module = agent(data, mode=mode, action_spec=BETA)
    fit(module, data, 300, tmp_path, enable_checkpointing=False)
    assert module.hparams["action_spec"] == BETA
    assert module.loss.entropy_weight == 0
    assert module.progress.mean_return > 7  # 3.3 by chance, 6.7 in the middle


@pytest.mark.parametrize(
    ("env", "named", "num_workers"),
    [
        (EnvConfig("IdentityBox-v0", num_envs=4), {**BETA, "init_args": {"least": 1.5}}, 1),
        (EnvConfig("IdentityBox-v0", num_envs=4), {"class_path": f"{__name__}.Laplace"}, 0),
        (EnvConfig("Masked-v0", num_envs=4, action_mask="info"), {"class_path": f"{__name__}.Doubled"}, 0),
    ],
    ids=["Beta in a worker", "Laplace", "masked"],
)
@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_synchronous_runs_are_equal_and_resume_exactly(
    env: EnvConfig, named: dict[str, Any], num_workers: int, mode: str, tmp_path: Path
) -> None:
    def run(updates: int, ckpt_path: str | None = None) -> A3CModule:
        sizes = {"micro_batch_size": 8, "batch_size": 16, "updates_per_epoch": 4}
        data = stream(env, num_workers=num_workers, synchronous=True, **sizes)
        module = agent(data, mode=mode, action_spec=named)
        trainer = fit(module, data, updates, tmp_path, ckpt_path, enable_checkpointing=False)
        trainer.save_checkpoint(tmp_path / f"{updates}.ckpt")
        return module

    first, second, _ = run(7), run(7), run(3)
    resumed = run(7, ckpt_path=str(tmp_path / "3.ckpt"))
    for other in (second, resumed):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_it_is_kept_in_checkpoints_acted_with_and_exported(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    data = stream(EnvConfig("Pendulum-v1", num_envs=4))
    module = agent(data, action_spec=BETA)
    fit(module, data, 2, tmp_path, enable_checkpointing=False).save_checkpoint(tmp_path / "a.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.action_spec == BetaSpec((-2.0,), (2.0,))
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=0)
    action = loaded.decode(loaded.act(loaded.encode(observation))[0])
    assert env.action_space.contains(action)
    loaded.export_onnx(tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    outputs, _ = session.run(None, {"observations": observation[None]})
    expected, _ = loaded.eval()(loaded.encode(observation))
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointMismatch, match="trained with action_spec"):
        fit(agent(data), data, 3, tmp_path, str(tmp_path / "a.ckpt"), enable_checkpointing=False)


def test_playback_shows_what_it_does() -> None:
    spec = BetaSpec((-2.0, 0.0), (2.0, 1.0))
    bars = action_bars(spec, torch.zeros(1, 4), torch.tensor([[0.75, 0.5]]), ["throttle", "brake"])
    assert [bar.name for bar in bars] == ["throttle +1.00", "brake +0.50"]
    assert bars[0].share > bars[1].share > 0.5

    class Own(Plain):
        def to_env(self, actions: Tensor) -> Tensor:
            return actions + 1

    assert [bar.name for bar in action_bars(Own(3), torch.zeros(1, 3), torch.tensor([2]), ["a", "b", "c"])] == [
        "action 3"
    ]


def test_a_generator_decides_what_is_drawn_and_the_global_state_stays() -> None:
    def draw(seed: int) -> Tensor:
        with seeded_by(torch.Generator().manual_seed(seed)):
            return torch.rand(3)

    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(before, torch.get_rng_state())
    with seeded_by(None):
        torch.rand(1)
    assert not torch.equal(before, torch.get_rng_state())


@dataclass(frozen=True)
class Plain(ActionSpec):
    """A discrete distribution without any of the package's code."""

    n: int
    start: int = 0

    @property
    def num_parameters(self) -> int:
        return self.n

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.multinomial(parameters.softmax(dim=1), 1, generator=generator).squeeze(1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(dim=1)

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        categorical = D.Categorical(logits=parameters)
        return categorical.log_prob(actions), categorical.entropy()

    def to_env(self, actions: Tensor) -> Tensor:
        return actions + self.start


def changed(**methods: Any) -> type:
    return type("Own", (Plain,), methods)


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ({"num_parameters": 0}, r"num_parameters must be a whole number >= 1, got 0"),
        ({"num_outputs": 5}, r"num_outputs must be num_parameters \(3\), got 5"),
        ({"sample": lambda self, p, g=None: D.Categorical(logits=p).sample()}, "does not draw with the generator"),
        (
            {"sample": lambda self, p, g=None: p.argmax(dim=1).int()},
            r"sample must give .* got int32 \[B\]",
        ),
        ({"sample": lambda self, p, g=None: None}, "sample must give actions .* got NoneType"),
        ({"mode": lambda self, p: p}, r"mode gives float32 \[B, 3\], but sample gives int64 \[B\]"),
        ({"to_env": lambda self, a: a + 2}, r"to_env gives \d, which is no action of the environment"),
        ({"to_env": lambda self, a: a.float()}, r"to_env must give int64 \[B\], got float32 \[B\]"),
        ({"log_prob_and_entropy": lambda self, p, a: p[:, 0]}, "must give two tensors"),
        (
            {"log_prob_and_entropy": lambda self, p, a: (p, p[:, 0])},
            r"log-probability must be .* got .*B, 3",
        ),
        ({"log_prob_and_entropy": lambda self, p, a: (p[:, 0], p[:, 0] / 0)}, "the entropy .* is not finite"),
        ({"log_prob_and_entropy": lambda self, p, a: (a.float(), a.float())}, "does not depend on the parameters"),
        ({"log_prob_and_entropy": lambda self, p, a: (p[:, 0].abs().sqrt(), p[:, 0])}, "gradient .* is not finite"),
        ({"sample": lambda self, p, g=None: {}["x"]}, "raised KeyError when tried"),
    ],
)
def test_what_is_no_distribution_over_the_actions_is_refused(
    methods: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "Own", changed(**methods))
    with pytest.raises(ValueError, match=f"action_spec {__name__}.Own.*{reason}"):
        own_action_spec({"class_path": f"{__name__}.Own"}, DiscreteSpec(3, -1))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"class_path": "nowhere.Spec"}, "action_spec 'nowhere.Spec' cannot be imported: No module named 'nowhere'"),
        (BETA | {"init_args": {"leest": 1}}, r"action_spec: .*BetaSpec cannot be built with init_args .*leest"),
        ({"class_path": "builtins.dict"}, r"action_spec"),
        ("BetaSpec", "action_spec must be"),
    ],
)
def test_a_class_that_cannot_be_had_is_refused(named: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent(stream(EnvConfig("IdentityBox-v0")), action_spec=named)


def test_a_spec_for_other_actions_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"action_spec .*BetaSpec, made with \(2, 0\) for these actions, raised TypeError"
    ):
        agent(stream(EnvConfig("CartPole-v1")), action_spec=BETA)


def test_options_of_the_usual_distribution_are_refused_beside_it() -> None:
    data = stream(EnvConfig("IdentityBox-v0"))
    options: list[dict[str, Any]] = [{"squash_actions": True}, {"log_std": "head"}, {"initial_log_std": 0.0}]
    options.append({"bound_means": True})
    for option in options:
        with pytest.raises(ValueError, match=f"{next(iter(option))} has no effect beside action_spec"):
            agent(data, action_spec=BETA, **option)


class Wasteful(DiscreteSpec):
    """Gets a number that it does not use."""

    @property
    def num_outputs(self) -> int:
        return self.n + 1

    @property
    def num_parameters(self) -> int:
        return self.n + 1

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return super().sample(parameters[:, :-1], generator)

    def mode(self, parameters: Tensor) -> Tensor:
        return super().mode(parameters[:, :-1])

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return super().log_prob_and_entropy(parameters[:, :-1], actions)


def test_a_mask_needs_a_logit_for_each_choice() -> None:
    named = {"class_path": f"{__name__}.Wasteful"}
    assert agent(stream(EnvConfig("CartPole-v1")), action_spec=named).action_spec.num_outputs == 3
    with pytest.raises(ValueError, match=r"Wasteful takes 4 numbers, but env.action_mask needs .* 3 choices"):
        agent(stream(EnvConfig("Masked-v0", action_mask="info")), action_spec=named)


def test_all_parts_of_a_joint_space_are_handed_over() -> None:
    taken = own_action_spec(
        {"class_path": "lightning_a3c.rl.action_spec.JointSpec"}, JointSpec((DiscreteSpec(2), BoxSpec((0.0,), (1.0,))))
    )
    assert taken == JointSpec((DiscreteSpec(2), BoxSpec((0.0,), (1.0,))))
