"""Networks with memory: their interface, what workers send for them, training, resuming, acting and exporting."""

from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import pytorch_lightning as pl
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_a3c import A3CModule, AtariLSTM, CollectorDataModule, EnvConfig, RecurrentNetwork
from lightning_a3c.collection.rollout import Rollout
from lightning_a3c.learning.evaluation import EvaluationDataset
from lightning_a3c.learning.observation_file import ObservationMismatch
from lightning_a3c.rl.image_networks import SymbolTrunk
from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.memory import Memory, outputs_of, state_size_of
from lightning_a3c.rl.network_checks import check_network, training_differences, unused_parameters
from lightning_a3c.rl.policies import Decision
from lightning_a3c.rl.targets import VTraceConfig
from tests.scripted import Episode, NumberPolicy
from tests.small_runs import trainer
from tests.test_rollout import vector_env

SMALL = {"class_path": "lightning_a3c.RecurrentNetwork", "init_args": {"hidden_size": 16, "feature_size": 16}}
SAME_STEP, NEXT_STEP = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP


class Recall(gymnasium.Env[np.ndarray, int]):
    """Shows 1 or -1 once, then zeros; the action of the last of four steps should say which."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.shown = 0, int(self.np_random.integers(2))
        return np.array([2 * self.shown - 1], dtype=np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        is_last = self.steps == 4
        return np.zeros(1, np.float32), float(is_last and action == self.shown), is_last, False, {}


gymnasium.register("Recall-v0", entry_point="tests.test_memory:Recall")


def recall_data(num_envs: int = 8, **options: Any) -> CollectorDataModule:
    values = {"num_workers": 0, "n_steps": 4, "micro_batch_size": 4 * num_envs, "batch_size": 8 * num_envs, "seed": 1}
    return CollectorDataModule(EnvConfig(options.pop("env_id", "Recall-v0"), num_envs=num_envs), **values | options)


def agent(data: CollectorDataModule, network: Any = SMALL, **options: Any) -> A3CModule:
    torch.manual_seed(0)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 5e-3}}
    return A3CModule.for_data(data, network=network, orthogonal=True, optimizer=adam, **options)


def fit(
    module: A3CModule, data: CollectorDataModule, updates: int, folder: Path, ckpt: Path | None = None
) -> pl.Trainer:
    fitting = trainer(folder, max_steps=updates, max_epochs=-1)
    fitting.fit(module, datamodule=data, ckpt_path=ckpt)
    return fitting


class Counter(NumberPolicy):
    """Values an observation at the number of steps of its episode before it, which only its memory knows."""

    state_size = 1

    def __call__(self, observations: Tensor, memory: Memory) -> Decision:
        decision = super().__call__(observations, memory)
        return decision._replace(state=self._before(memory) + 1, values=self.values(observations, memory))

    def values(self, observations: Tensor, memory: Memory) -> Tensor:
        return self._before(memory)[:, 0]

    def _before(self, memory: Memory) -> Tensor:
        return memory.state.masked_fill(memory.starts[:, None], 0.0)


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same_step", "next_step"])
def test_sequences_hold_every_step_in_order_with_the_state_before_the_first(mode: AutoresetMode) -> None:
    env = vector_env([Episode((1, 2, 3), "terminated"), Episode((4, 5, 6, 7, 8))], mode=mode)
    rollout = Rollout(env, Counter(), n_steps=2, discount=0.5)
    first, second, third = (rollout.collect_sequences(2, 1)[0] for _ in range(3))
    assert first.rewards.tolist() == [[1, 2]]
    assert first.starts.tolist() == [[True, False]]
    assert first.bootstrap.tolist() == [2]  # asked for without a step of the memory
    assert first.returns.tolist() == [[1 + 2 / 2 + 2 / 4, 2 + 2 / 2]]
    assert second.state.tolist() == [[2]]
    assert second.discounts[0, 0] == 0
    if mode is SAME_STEP:
        assert second.rewards.tolist() == [[3, 4]]
        assert second.starts.tolist() == [[False, True]]
        assert second.is_valid.all()
        assert third.state.tolist() == [[1]]
    else:  # the second step only resets
        assert second.is_valid.tolist() == [[True, False]]
        assert third.rewards.tolist() == [[4, 5]]
        assert third.starts.tolist() == [[True, False]]


def test_the_value_of_a_truncated_episode_is_that_of_its_final_observation_with_its_memory() -> None:
    env = vector_env([Episode((1, 2), "truncated"), Episode((9, 9, 9))], mode=SAME_STEP)
    sequences, _ = Rollout(env, Counter(), n_steps=3, discount=0.5).collect_sequences(3, 1)
    assert sequences.rewards.tolist() == [[1, 2 + 0.5 * 2, 9]]
    assert sequences.discounts.tolist() == [[0.5, 0, 0.5]]


def test_a_micro_batch_of_several_windows_holds_those_of_each_environment_one_after_the_other() -> None:
    env = vector_env([Episode((1,) * 9)], [Episode((2,) * 9)], mode=SAME_STEP)
    sequences, stats = Rollout(env, Counter(), n_steps=2, discount=0.5).collect_sequences(8, 7)
    assert sequences.rewards.tolist() == [[1, 1], [2, 2], [1, 1], [2, 2]]
    assert sequences.state.flatten().tolist()[2:] == [2, 2]
    assert (stats.env_steps.item(), stats.policy_version.item()) == (8, 7)


def test_one_hot_images_are_not_scaled_like_symbols() -> None:
    images = torch.randint(2, (3, 7, 7, 20), dtype=torch.uint8)
    net = RecurrentNetwork((7, 7, 20), 7, observation_bounds=(0, 1))
    torch.testing.assert_close(net.features(images), net.features(images.float()), rtol=0, atol=0)


def test_symbols_are_taken_as_one_hot_vectors() -> None:
    torch.manual_seed(0)
    trunk = SymbolTrunk((2, 2, 1), num_symbols=3, num_features=5)
    images = torch.randint(3, (4, 2, 2, 1), dtype=torch.uint8)
    one_hot = torch.nn.functional.one_hot(images.long(), 3).flatten(1).float()
    torch.testing.assert_close(trunk(images), (one_hot @ trunk.vectors.weight).relu())
    torch.testing.assert_close(trunk(torch.full_like(images, 255)), trunk(torch.full_like(images, 2)), rtol=0, atol=0)


def test_heads_may_have_a_hidden_layer() -> None:
    net = RecurrentNetwork((5,), 3, hidden_size=8, head_size=6)
    assert [tuple(layer.weight.shape) for layer in net.policy if isinstance(layer, nn.Linear)] == [(6, 8), (3, 6)]
    outputs, values, _ = net(torch.randn(2, 4, 5), net.initial_state(2), torch.zeros(2, 4, dtype=torch.bool))
    assert (outputs.shape, values.shape) == ((2, 4, 3), (2, 4))
    with pytest.raises(ValueError, match="head_size must be >= 1, or null for linear heads, got 0"):
        RecurrentNetwork((5,), 3, head_size=0)


def test_only_small_images_of_an_observation_hold_symbols() -> None:
    net = RecurrentNetwork({"direction": (4,), "image": (7, 7, 3)}, 7, num_symbols=11)
    assert [type(trunk) for trunk in net.features.trunks.values()][1] is SymbolTrunk
    observations = {"direction": torch.eye(4)[:, None], "image": torch.randint(11, (4, 1, 7, 7, 3), dtype=torch.uint8)}
    outputs, values, _ = net(observations, net.initial_state(4), torch.zeros(4, 1, dtype=torch.bool))
    assert (outputs.shape, values.shape) == ((4, 1, 7), (4, 1))
    with pytest.raises(ValueError, match="num_symbols must be >= 2, got 1"):
        RecurrentNetwork((7, 7, 3), 7, num_symbols=1)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_sequence_gives_what_its_steps_give_one_by_one(cell: str) -> None:
    torch.manual_seed(0)
    net = RecurrentNetwork((5,), 3, cell=cell, hidden_size=8, feature_size=8)
    observations, starts = torch.randn(4, 6, 5), torch.rand(4, 6) < 0.3
    state = torch.randn(4, state_size_of(net))
    outputs, values, after = net(observations, state, starts)
    for step in range(6):
        output, value, state = net(observations[:, step : step + 1], state, starts[:, step : step + 1])
        torch.testing.assert_close(output[:, 0], outputs[:, step])
        torch.testing.assert_close(value[:, 0], values[:, step])
    torch.testing.assert_close(state, after)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_cells_are_those_of_pytorch(cell: str) -> None:
    torch.manual_seed(0)
    net = RecurrentNetwork((5,), 3, cell=cell, hidden_size=8, feature_size=8)
    observations, state = torch.randn(4, 1, 5), torch.randn(4, state_size_of(net))
    _, _, after = net(observations, state, torch.zeros(4, 1, dtype=torch.bool))
    given = state.chunk(2, dim=1) if cell == "lstm" else state
    expected = net.cell(net.features(observations[:, 0]), given)
    torch.testing.assert_close(after, torch.cat(expected, dim=1) if cell == "lstm" else expected)


def test_atari_lstm_has_the_sizes_of_the_paper() -> None:
    net = AtariLSTM((4, 84, 84), 6)
    outputs, values, state = net(
        torch.zeros(2, 3, 4, 84, 84, dtype=torch.uint8), net.initial_state(2), torch.zeros(2, 3, dtype=torch.bool)
    )
    assert (outputs.shape, values.shape, state.shape) == ((2, 3, 6), (2, 3), (2, 512))
    assert (
        sum(p.numel() for p in net.parameters())
        == 4 * 16 * 64 + 16 + 16 * 32 * 16 + 32 + 2592 * 256 + 256 + (4 * 256 * 512 + 8 * 256) + 257 * 7
    )


class Wrong(nn.Module):
    """A network with memory that breaks its interface in one way."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.layer = nn.Linear(4, 2)
        self.seen = torch.zeros(1)

    def initial_state(self, batch: int) -> Any:
        return [0.0] * batch if self.fault == "no tensor" else torch.zeros(batch, 3)

    def forward(self, observations: Tensor, state: Tensor, starts: Tensor) -> Any:
        outputs = self.layer(observations)
        if self.fault == "attribute":
            self.seen = self.seen + observations.sum()
        if self.fault == "ignores starts":
            state = state + 1
            outputs = outputs + state[:, None, :1]
        if self.fault == "other state":
            state = state[:, :2]
        if self.fault == "no state":
            return outputs, outputs[..., 0]
        return outputs, outputs[..., 0], state


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no tensor", r"initial_state\(2\) gives list, not a float tensor \(2, H\)"),
        ("other state", r"its state changes from \(2, 3\) to \(2, 2\)"),
        ("no state", "it does not return outputs, values and a state"),
        ("attribute", "keeps state between calls"),
        ("ignores starts", "gives other outputs for a sequence than for its steps one by one"),
    ],
)
def test_networks_that_break_the_interface_are_refused(fault: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_network(Wrong(fault), (4,), 2)


def test_a_network_that_takes_a_state_but_has_no_initial_one_is_told_what_it_lacks() -> None:
    class Lacking(Wrong):
        initial_state = property()  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"needs a method initial_state\(batch\)"):
        check_network(Lacking(""), (4,), 2)


@pytest.mark.parametrize("targets", ["n_step", "vtrace"])
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "feed-forward"])
def test_both_modes_take_the_same_gradient_of_a_micro_batch(targets: str, memory: bool) -> None:
    if not memory and targets == "n_step":
        pytest.skip("sends transitions")
    found = []
    for mode in ("data", "gradient"):
        data = recall_data(batch_size=32, targets=targets)
        module = agent(data, SMALL if memory else None)
        if mode == "data":
            with closing(data.dataset(module.net)) as stream:
                payload = next(iter(stream)).payload
            parameters, values = outputs_of(module.net, payload, memory)
            module.loss.of(parameters, values, payload).loss_total.backward()
            found.append(torch.cat([p.grad.flatten() for p in module.net.parameters() if p.grad is not None]))
        else:
            from lightning_a3c.collection.payloads import SendGradients

            with closing(data.dataset(module.net, make_payload=SendGradients(module.loss, 1e9))) as stream:
                found.append(next(iter(stream)).payload.gradient[0])
    assert torch.equal(*found)


def test_importance_ratios_are_one_where_nothing_changed_between_acting_and_learning() -> None:
    data = recall_data(targets="vtrace", batch_size=32)
    module = agent(data)
    with closing(data.dataset(module.net)) as stream:
        payload = next(iter(stream)).payload
    terms = module.loss.of(*outputs_of(module.net, payload, True), payload)
    assert (terms.policy_kl.item(), terms.importance_ratio.item(), terms.clipped_ratios.item()) == pytest.approx(
        (0, 1, 0), abs=1e-6
    )


class Doubled(A2CLoss):
    """A user's loss, written for transitions."""

    def __call__(self, parameters: Tensor, values: Tensor, actions: Tensor, returns: Tensor, update: int = 0) -> Any:
        terms = super().__call__(parameters, values, actions, returns, update)
        return terms._replace(loss_total=2 * terms.loss_total)


def test_a_loss_of_ones_own_learns_from_sequences_too_but_not_with_vtrace(tmp_path: Path) -> None:
    data = recall_data(batch_size=32)
    module = agent(data)
    with closing(data.dataset(module.net)) as stream:
        payload = next(iter(stream)).payload
    outputs = outputs_of(module.net, payload, True)
    expected = 2 * module.loss.of(*outputs, payload).loss_total
    assert torch.equal(Doubled(action_spec=module.loss.action_spec).of(*outputs, payload).loss_total, expected)
    with pytest.raises(ValueError, match=r'Doubled has its own __call__.*set data\.targets to "gae"'):
        Doubled(vtrace=VTraceConfig()).of(*outputs, payload)
    data = recall_data(targets="vtrace")
    module = agent(data)
    module.loss = Doubled()
    with pytest.raises(MisconfigurationException, match="Doubled has its own __call__"):
        fit(module, data, 1, tmp_path)


def test_steps_that_only_reset_are_not_learned_from() -> None:
    data = recall_data(targets="vtrace", batch_size=32)
    module = agent(data)
    with closing(data.dataset(module.net)) as stream:
        payload = next(iter(stream)).payload
    outputs = outputs_of(module.net, payload, True)
    is_valid = payload.is_valid.clone()
    is_valid[:, 1] = False
    rewards = payload.rewards.clone()
    discounts = payload.discounts.clone()
    discounts[:, 0] = 0  # as where an episode ended
    terms = []
    for reward in (0.0, 99.0):
        rewards[:, 1] = reward
        changed = payload._replace(rewards=rewards, discounts=discounts, is_valid=is_valid)
        terms.append(module.loss.of(*outputs, changed).loss_total)
    assert torch.equal(*terms)


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_memory_is_learned_where_a_feed_forward_policy_cannot(mode: str, tmp_path: Path) -> None:
    data = recall_data(targets="gae")
    module = agent(data, mode=mode)
    fit(module, data, 300, tmp_path)
    assert module.progress.mean_return > 0.9
    blind = agent(recall_data(targets="gae"), None, mode=mode)
    fit(blind, recall_data(targets="gae"), 300, tmp_path)
    assert blind.progress.mean_return < 0.7


@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("targets", ["n_step", "vtrace"])
def test_synchronous_runs_are_equal_and_resume_exactly_with_the_state(mode: str, targets: str, tmp_path: Path) -> None:
    def run(updates: int, ckpt: Path | None = None) -> tuple[A3CModule, Path]:
        data = recall_data(
            4, env_id="CartPole-v1", synchronous=True, updates_per_epoch=4, targets=targets, num_workers=2
        )
        module = agent(data, mode=mode, normalize_observations=True, normalize_rewards=True)
        path = tmp_path / f"{updates}.ckpt"
        fit(module, data, updates, tmp_path, ckpt).save_checkpoint(path)
        return module, path

    first, _ = run(11)
    second, _ = run(11)
    _, half = run(6)
    resumed, _ = run(11, half)
    for other in (second, resumed):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_workers_send_sequences_of_images_in_either_precision(precision: str) -> None:
    data = CollectorDataModule(
        EnvConfig("PongNoFrameskip-v4", num_envs=2),
        num_workers=1,
        n_steps=2,
        micro_batch_size=4,
        batch_size=4,
        worker_precision=precision,  # type: ignore[arg-type]
        seed=1,
    )
    module = A3CModule.for_data(data, network=AtariLSTM)
    with closing(data.dataset(module.net)) as stream:
        payload = next(iter(stream)).payload
    assert payload.observations.shape == (2, 2, 4, 84, 84)
    assert payload.state.dtype == torch.float32
    terms = module.loss.of(*outputs_of(module.net, payload, True), payload)
    assert terms.policy_kl < (1e-6 if precision == "32-true" else 1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "vtrace", "micro_batch_size": 16}, 'data.targets "vtrace" learns from sequences'),
        ({"micro_batch_size": 16}, "a network with memory learns from sequences"),
        ({"n_steps": 3}, "must be a multiple of data.n_steps × env.num_envs, got 32, 3 and 8; 24 would do"),
    ],
)
def test_a_micro_batch_that_is_not_whole_sequences_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent(recall_data(**options))


def test_acting_takes_and_returns_the_state() -> None:
    module = agent(recall_data())
    steps = torch.randn(3, 2, 1)
    actions, state = module.act(steps[0])
    assert (actions.shape, state.shape) == ((2,), (2, 32))
    _, second = module.act(steps[1], state=state)
    _, anew = module.act(steps[1])
    _, mixed = module.act(steps[1], state=state, starts=[True, False])
    assert torch.equal(mixed[0], anew[0])
    assert torch.equal(mixed[1], second[1])
    with pytest.raises(ValueError, match=r"state \(3, 32\) .* do not fit 2 observations: \(2, 32\)"):
        module.act(steps[1], state=torch.zeros(3, 32))
    with pytest.raises(ValueError, match="has no memory"):
        agent(recall_data(), None).act(steps[0], state=state)


def test_evaluation_forgets_at_the_end_of_each_episode(tmp_path: Path) -> None:
    data = recall_data(targets="gae")
    module = agent(data)
    fit(module, data, 300, tmp_path)
    episodes = list(EvaluationDataset(EnvConfig("Recall-v0", num_envs=2), module.net, 20, greedy=True, seed=3))
    assert [float(episode.episode_return) for episode in episodes] == [1.0] * 20


def test_predictions_are_made_from_sequences(tmp_path: Path) -> None:
    data = recall_data()
    module = agent(data)
    sequences = torch.randn(5, 4, 1)
    np.save(tmp_path / "steps.npy", sequences.numpy())
    loaded = recall_data(predict_observations=str(tmp_path / "steps.npy"))
    fit(module, data, 1, tmp_path).save_checkpoint(tmp_path / "run.ckpt")
    result = trainer(tmp_path).predict(module, datamodule=loaded, ckpt_path=tmp_path / "run.ckpt")
    memory = Memory.empty(5, 32)
    for step in range(4):
        parameters, values, state = module(sequences[:, step : step + 1], memory.state, memory.starts[:, None])
        memory = Memory(state, torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(result[0].values, values[:, 0])
    torch.testing.assert_close(result[0].probabilities, parameters[:, 0].softmax(dim=1))
    with pytest.raises(
        ObservationMismatch,
        match=r"network RecurrentNetwork has memory and predicts from sequences \[n, T, 1\], got \(5, 1\)",
    ):
        module.predict_step(sequences[:, 0])
    with pytest.raises(ObservationMismatch, match="has no memory and predicts from observations"):
        agent(data, None).predict_step(sequences)


def test_the_exported_network_makes_one_step(tmp_path: Path) -> None:
    module = agent(recall_data())
    module.export_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    observations, state = torch.randn(3, 1), torch.randn(3, 32)
    starts = torch.tensor([True, False, False])
    given = {"observations": observations, "state": state, "starts": starts}
    logits, values, after = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
    expected = module(observations[:, None], state, starts[:, None])
    for ours, theirs in zip((logits, values, after), (expected[0][:, 0], expected[1][:, 0], expected[2]), strict=True):
        np.testing.assert_allclose(ours, theirs.detach(), atol=1e-5)


def test_a_checkpoint_rebuilds_the_network_and_its_memory(tmp_path: Path) -> None:
    data = recall_data()
    module = agent(data, normalize_observations=True)
    fit(module, data, 2, tmp_path).save_checkpoint(tmp_path / "run.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "run.ckpt")
    state = torch.randn(2, 32)
    assert torch.equal(loaded.act(torch.ones(2, 1), state=state)[1], module.act(torch.ones(2, 1), state=state)[1])


def test_a_whole_agent_with_memory_is_examined_as_its_network_is() -> None:
    """Before learners train together, and before dropout, which workers leave out."""
    module = agent(recall_data())
    assert unused_parameters(module.net, (1,)) == []
    assert not training_differences(module.net, (1,)).is_random
    module.net.net.features.hidden.append(nn.Dropout(0.5))
    module.net.idle = nn.Linear(2, 2)
    assert unused_parameters(module.net, (1,)) == ["idle.weight", "idle.bias"]
    assert training_differences(module.net, (1,)).is_random


def test_vtrace_makes_up_for_old_data() -> None:
    """The share of clipped ratios and the KL grow with the distance between the policies; on old data they differ."""
    data = recall_data(targets="vtrace", batch_size=32)
    module, other = agent(data), agent(data)
    with torch.no_grad():
        for parameter in other.net.parameters():
            parameter += 2 * torch.randn_like(parameter)
    with closing(data.dataset(module.net)) as stream:
        payload = next(iter(stream)).payload
    outputs = outputs_of(other.net, payload, True)
    terms = other.loss.of(*outputs, payload)
    assert terms.policy_kl > 0.01
    assert 0 < terms.clipped_ratios < 1
    uncorrected = A2CLoss(action_spec=other.loss.action_spec).of(*outputs, payload)
    assert uncorrected.loss_policy != terms.loss_policy
    assert VTraceConfig() == data.vtrace_in_use
