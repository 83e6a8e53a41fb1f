"""Gradient parallelism computes what data parallelism would, and refuses what it cannot do."""

import copy
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.testing import assert_close

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel
from lightning_a3c.collection.payloads import SendGradients, clip_scale, send_transitions
from lightning_a3c.learning.non_finite import NonFiniteLoss
from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.networks import AtariA2C
from lightning_a3c.rl.types import Batch, Gradients, RolloutStats, Transitions, map_tensors

LOSS = A2CLoss(entropy_weight=0.01)
NO_CLIP = 1e9


@pytest.fixture
def net() -> AtariA2C:
    torch.manual_seed(0)
    return AtariA2C((4, 84, 84), 6)


@pytest.fixture
def transitions() -> Transitions:
    torch.manual_seed(1)
    return Transitions(
        torch.randint(0, 256, (16, 4, 84, 84), dtype=torch.uint8),
        torch.randint(0, 6, (16,)),
        torch.randn(16),
        torch.full((16,), -1.8),
    )


def halves(transitions: Transitions) -> list[Transitions]:
    return [map_tensors(lambda t: t[:8], transitions), map_tensors(lambda t: t[8:], transitions)]


def gradient_of(net: nn.Module, transitions: Transitions) -> torch.Tensor:
    net = copy.deepcopy(net)
    LOSS(*net(transitions.observations), transitions.actions, transitions.returns).loss_total.backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])


def test_the_sum_of_worker_gradients_is_the_gradient_of_the_summed_losses(
    net: AtariA2C, transitions: Transitions
) -> None:
    summed = sum(SendGradients(LOSS, NO_CLIP)(net, half, 0, 0).gradient[0] for half in halves(transitions))
    direct = copy.deepcopy(net)
    sum(LOSS(*direct(h.observations), h.actions, h.returns).loss_total for h in halves(transitions)).backward()
    assert_close(summed, torch.cat([p.grad.flatten() for p in direct.parameters()]), rtol=1e-4, atol=1e-6)


def test_it_is_twice_the_gradient_of_data_mode_on_the_same_transitions(net: AtariA2C, transitions: Transitions) -> None:
    summed = sum(SendGradients(LOSS, NO_CLIP)(net, half, 0, 0).gradient[0] for half in halves(transitions))
    assert_close(summed, 2 * gradient_of(net, transitions), rtol=1e-4, atol=1e-6)


def test_the_worker_clips_as_pytorch_does(net: AtariA2C, transitions: Transitions) -> None:
    sent = SendGradients(LOSS, max_norm=0.1)(net, transitions, 0, 0)
    LOSS(*net(transitions.observations), transitions.actions, transitions.returns).loss_total.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    assert norm > 0.1
    assert_close(sent.norm[0], norm, rtol=1e-4, atol=1e-6)
    assert_close(sent.gradient[0], torch.cat([p.grad.flatten() for p in net.parameters()]), rtol=1e-4, atol=1e-7)


def test_a_gradient_of_rounded_weights_is_that_of_the_weights_but_for_rounding(
    net: AtariA2C, transitions: Transitions
) -> None:
    exact = gradient_of(net, transitions)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = SendGradients(LOSS, NO_CLIP)(copy.deepcopy(net).to(torch.bfloat16), transitions, 0, 0).gradient[0]
    assert rounded.dtype == torch.float32
    assert nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert_close(rounded.norm(), exact.norm(), rtol=0.05, atol=0)


def test_a_gradient_inside_the_bound_is_not_scaled() -> None:
    gradient = torch.tensor([0.03, 0.04])
    assert clip_scale(gradient.norm(), 0.1) == 1


def test_the_workers_own_gradients_are_left_alone(net: AtariA2C, transitions: Transitions) -> None:
    SendGradients(LOSS)(net, transitions, 0, 0)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_gradient_made_where_it_is_sent_from_is_the_same(net: AtariA2C, transitions: Transitions) -> None:
    net.value.requires_grad_(False)
    expected = SendGradients(LOSS)(net, transitions, 0, 0)
    place = expected._replace(gradient=torch.full_like(expected.gradient, math.nan))
    made = SendGradients(LOSS)(net, transitions, 0, 0, place)
    assert made.gradient is place.gradient
    assert_close(made.gradient, expected.gradient, rtol=0, atol=0)


def test_data_mode_sends_the_transitions_themselves(net: AtariA2C, transitions: Transitions) -> None:
    assert send_transitions(net, transitions, 0, 0) is transitions


class Silent(A3CModule):
    """Does without a trainer to log to."""

    logs_now = False


def module_and_batch(*gradients: float, frozen: bool = False) -> tuple[A3CModule, Batch]:
    """A module with 2 × 3 weights a tower and a batch of constant gradients for it."""
    network = {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"hidden_sizes": []}}
    module = Silent((2,), 2, network=network, mode="gradient")
    if frozen:
        module.net.value.requires_grad_(False)
    count = sum(p.numel() for p in module.net.parameters())
    size = len(list(module.net.parameters()))
    k = len(gradients)
    gradient = torch.stack([torch.full((count,), value) for value in gradients])
    payload = Gradients(
        gradient=gradient,
        norm=torch.linalg.vector_norm(gradient, dim=1),
        loss_terms=torch.zeros(k, 9),
        has_gradient=torch.ones(k, size, dtype=torch.bool),
        worker=torch.arange(k),
    )
    stats = RolloutStats(
        torch.ones(k, dtype=torch.int64),
        torch.ones(k, dtype=torch.int64),
        torch.zeros(k),
        torch.zeros(k),
        torch.zeros(k, 2, 0),
        torch.zeros(k, 3),
        torch.arange(k),
    )
    return module, Batch(payload, stats, torch.zeros(k), torch.zeros(1), torch.zeros(1))


def apply(callback: GradientParallel, module: A3CModule, batch: Batch) -> None:
    callback.on_train_batch_start(pl.Trainer(logger=False, accelerator="cpu"), module, batch, 0)


def test_the_sum_is_clipped_as_pytorch_does() -> None:
    module, batch = module_and_batch(1.0, 2.0)
    apply(GradientParallel(max_norm=0.1), module, batch)
    applied = torch.cat([parameter.grad.flatten() for parameter in module.net.parameters()])
    reference = nn.Parameter(torch.zeros(9))
    reference.grad = torch.full((9,), 3.0)
    nn.utils.clip_grad_norm_([reference], 0.1)
    assert_close(applied, reference.grad)


def test_frozen_parameters_stay_frozen() -> None:
    module, batch = module_and_batch(1.0, frozen=True)
    apply(GradientParallel(), module, batch)
    assert all(parameter.grad is None for parameter in module.net.value.parameters())
    assert all(parameter.grad is not None for parameter in module.net.policy.parameters())


def test_parameters_the_loss_does_not_use_get_no_gradient() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value, self.spare = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.policy(x), self.value(x).squeeze(1)

    module = Silent((2,), 2, network=Spare(), mode="gradient")
    transitions = Transitions(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), torch.ones(4), -torch.ones(4))
    _, batch = module_and_batch(1.0)
    apply(GradientParallel(), module, batch._replace(payload=SendGradients(LOSS)(module.net, transitions, 0, 0)))
    assert module.net.policy.weight.grad is not None
    assert module.net.spare.weight.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_gradient_is_dropped_counted_and_the_others_applied(bad: float) -> None:
    module, batch = module_and_batch(bad, 0.001)
    callback = GradientParallel()
    apply(callback, module, batch)
    assert callback.dropped_gradients == 1
    assert all((parameter.grad == 0.001).all() for parameter in module.net.parameters())


def test_too_many_in_a_row_stop_training_and_name_the_worker() -> None:
    module, batch = module_and_batch(math.nan, math.nan)
    callback = GradientParallel(max_dropped_in_a_row=4)
    apply(callback, module, batch)
    assert all(parameter.grad is None for parameter in module.net.parameters())
    with pytest.raises(NonFiniteLoss, match=r"4 in a row: gradients .* the last from worker 1"):
        apply(callback, module, batch)


def cartpole() -> CollectorDataModule:
    return CollectorDataModule(
        env=EnvConfig("CartPole-v1", num_envs=2), num_workers=0, micro_batch_size=8, batch_size=16
    )


def fit(
    module_mode: str | None,
    callbacks: list[pl.Callback],
    folder: Path,
    data: CollectorDataModule | None = None,
    **changes: object,
) -> tuple[A3CModule, pl.Trainer]:
    """Two updates, logged in `folder`."""
    data = data or cartpole()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=CSVLogger(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        callbacks=callbacks,
        **changes,
    )
    module = A3CModule.for_data(data, mode=module_mode)
    trainer.fit(module, datamodule=data)
    return module, trainer


def test_data_that_served_one_mode_serves_the_other(tmp_path: Path) -> None:
    data = cartpole()
    payloads: list[str] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: A3CModule, batch: Batch, index: int) -> None:
            payloads.append(type(batch.payload).__name__)

    fit("gradient", [GradientParallel(), Watch()], tmp_path, data)
    fit("data", [Watch()], tmp_path, data)
    assert payloads == ["Gradients"] * 2 + ["Transitions"] * 2


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_a_precision_that_scales_losses_is_refused(mode: str, tmp_path: Path) -> None:
    scaling = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(MisconfigurationException, match=r"must be one of 32-true, bf16-mixed, got 16-mixed"):
        fit(mode, [GradientParallel()] if mode == "gradient" else [], tmp_path, plugins=[scaling])
    assert not list(tmp_path.iterdir())


def test_the_callback_refuses_a_module_that_insists_on_data_mode(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r'needs gradient mode, got A3CModule\(mode="data"\)'):
        fit("data", [GradientParallel()], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mode", "callbacks"), [(None, [GradientParallel()]), ("gradient", [])])
def test_gradient_mode_is_said_once_by_the_module_or_the_callback(
    mode: str | None, callbacks: list[pl.Callback], tmp_path: Path
) -> None:
    module, trainer = fit(mode, callbacks, tmp_path)
    assert not module.automatic_optimization
    assert "worker_grad_norm" in trainer.callback_metrics


@pytest.mark.parametrize("callbacks", [[], [GradientParallel()]])
@pytest.mark.parametrize("setting", [{"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 2}])
def test_trainer_settings_for_automatic_optimisation_are_refused(
    setting: dict, callbacks: list[pl.Callback], tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationException, match=r"must be 1, got 2|is 0.1, but in gradient mode .* to null"):
        fit("gradient", callbacks, tmp_path, **setting)
    assert not list(tmp_path.iterdir())


def test_dropped_gradients_change_nothing_and_are_no_step(tmp_path: Path) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: A3CModule, batch: Batch, index: int) -> None:
            self.before = [parameter.clone() for parameter in module.parameters()]
            batch.payload.gradient.fill_(math.nan)

        def on_train_batch_end(self, trainer: pl.Trainer, module: A3CModule, *args: object) -> None:
            assert all(torch.equal(a, b) for a, b in zip(self.before, module.parameters(), strict=True))
            assert trainer.global_step == 0

    with pytest.raises(NonFiniteLoss, match="in a row: gradients"):
        fit("gradient", [Poison(), GradientParallel(max_dropped_in_a_row=6)], tmp_path)


def test_a_gradient_has_a_place_for_frozen_parameters(net: AtariA2C, transitions: Transitions) -> None:
    whole = SendGradients(LOSS, NO_CLIP)(net, transitions, 0, 0)
    net.features.requires_grad_(False)
    partial = SendGradients(LOSS, NO_CLIP)(net, transitions, 0, 0, whole._replace(gradient=whole.gradient.clone()))
    frozen = sum(parameter.numel() for parameter in net.features.parameters())
    assert not partial.gradient[0, :frozen].any()
    assert_close(partial.gradient[0, frozen:], whole.gradient[0, frozen:])
    assert partial.has_gradient.tolist() == [[False] * 6 + [True] * 8]


def test_a_network_all_frozen_sends_no_gradient(net: AtariA2C, transitions: Transitions) -> None:
    sent = SendGradients(LOSS)(net.requires_grad_(False), transitions, 0, 0)
    assert (sent.norm, sent.has_gradient.any(), sent.gradient.any()) == (0, False, False)


def test_integers_among_the_parameters_have_no_place() -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.Parameter(torch.tensor([1, 0]), requires_grad=False)
            self.policy, self.value = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.policy(x[:, self.order]), self.value(x).squeeze(1)

    module = Silent((2,), 2, network=Picks(), mode="gradient")
    batch = Transitions(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), torch.ones(4), -torch.ones(4))
    sent = SendGradients(LOSS)(module.net, batch, 0, 0)
    assert sent.gradient.shape == (1, 9)
    apply(GradientParallel(), module, module_and_batch(1.0)[1]._replace(payload=sent))
    assert module.net.policy.weight.grad is not None


def test_a_parameter_frozen_since_takes_no_part_in_the_norm() -> None:
    module, batch = module_and_batch(3.0)
    module.net.policy.requires_grad_(False)
    apply(GradientParallel(max_norm=0.1), module, batch)
    applied = torch.cat([parameter.grad.flatten() for parameter in module.net.value.parameters()])
    assert_close(applied.norm(), torch.tensor(0.1))
    assert all(parameter.grad is None for parameter in module.net.policy.parameters())


def test_a_parameter_thawed_since_waits_for_its_gradient() -> None:
    module, batch = module_and_batch(0.001)
    batch.payload.has_gradient[:, 0] = False
    apply(GradientParallel(), module, batch)
    assert [parameter.grad is None for parameter in module.net.parameters()] == [True, False, False, False]


def test_a_network_all_frozen_is_refused() -> None:
    module, batch = module_and_batch(1.0)
    module.net.requires_grad_(False)
    with pytest.raises(MisconfigurationException, match="all parameters of the network are frozen"):
        apply(GradientParallel(), module, batch)


def test_complex_parameters_are_refused_by_name(tmp_path: Path) -> None:
    class Waves(nn.Linear):
        def __init__(self, shape: tuple[int, ...], num_actions: int) -> None:
            super().__init__(*shape, num_actions + 1)
            self.phase = nn.Parameter(torch.ones(num_actions + 1, dtype=torch.complex64))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            outputs = super().forward(x) * self.phase.real
            return outputs[:, :-1], outputs[:, -1]

    data = cartpole()
    own = {"logger": False, "enable_checkpointing": False, "callbacks": [GradientParallel()]}
    trainer = pl.Trainer(accelerator="cpu", max_steps=1, **own)
    with pytest.raises(
        MisconfigurationException, match=r'complex parameters \(phase\) cannot be sent; use mode="data"'
    ):
        trainer.fit(A3CModule.for_data(data, mode="gradient", network=Waves), datamodule=data)


class Twins(nn.Module):
    """Two bodies of one shape whose gradients have opposite signs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(4, 16)
        self.policy, self.value = nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.a(x)) - torch.tanh(self.b(x))
        return self.policy(hidden), self.value(hidden).squeeze(1)


class Turns(pl.Callback):
    """Trains body a, and from the third update on body b."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        module.net.b.requires_grad_(False)

    def on_train_batch_start(self, trainer: pl.Trainer, module: A3CModule, *args: object) -> None:
        if trainer.global_step == 2:
            module.net.a.requires_grad_(False)
            module.net.b.requires_grad_(True)


def gradients_by_update(mode: str, num_workers: int) -> list[dict[str, torch.Tensor | None]]:
    """Of five updates that change nothing, on the same experience whatever the mode."""
    seen = []

    class Look(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, module: A3CModule, optimizer: object) -> None:
            seen.append({n: None if p.grad is None else p.grad.clone() for n, p in module.net.named_parameters()})

    class Still(A3CModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    torch.manual_seed(0)
    data = CollectorDataModule(
        env=EnvConfig(num_envs=2), num_workers=num_workers, micro_batch_size=8, batch_size=8, seed=0, synchronous=True
    )
    own = [GradientParallel(NO_CLIP, NO_CLIP)] if mode == "gradient" else []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Turns(), *own, Look()],
    )
    trainer.fit(Still.for_data(data, mode=mode, network=Twins()), datamodule=data)
    return seen


@pytest.mark.parametrize("num_workers", [0, 1])
def test_gradients_of_parameters_frozen_and_thawed_in_training_are_those_of_data_mode(num_workers: int) -> None:
    ours, theirs = gradients_by_update("gradient", num_workers), gradients_by_update("data", num_workers)
    for update in (0, 1, 3, 4):
        trained = {name for name, gradient in ours[update].items() if gradient is not None}
        assert {name[0] for name in trained} == {"a" if update < 2 else "b", "p", "v"}
        for name in trained:
            assert_close(ours[update][name], theirs[update][name], rtol=1e-4, atol=1e-6)
    # the gradient of the third update was computed before: of body a, which is frozen by now
    assert {name[0] for name, gradient in ours[2].items() if gradient is not None} == {"p", "v"}


class Thaws(pl.callbacks.BaseFinetuning):
    def freeze_before_training(self, module: pl.LightningModule) -> None:
        self.freeze(module.net.policy[:-1])

    def finetune_function(self, module: pl.LightningModule, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(module.net.policy[:-1], optimizer, lr=1e-2)


def test_lightnings_fine_tuning_thaws_layers_in_gradient_mode() -> None:
    weights: list[torch.Tensor] = []

    class Look(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: A3CModule) -> None:
            weights.append(module.net.policy[1].weight.detach().clone())

    data = CollectorDataModule(
        env=EnvConfig(num_envs=2), num_workers=0, micro_batch_size=8, batch_size=8, updates_per_epoch=4
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Thaws(), GradientParallel(), Look()],
    )
    module = A3CModule.for_data(data, mode="gradient")
    before = module.net.policy[1].weight.detach().clone()
    trainer.fit(module, datamodule=data)
    assert torch.equal(weights[0], before)
    assert not torch.equal(weights[1], before)
