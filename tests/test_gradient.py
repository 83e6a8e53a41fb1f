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
from lightning_a3c.losses import A2CLoss
from lightning_a3c.networks import AtariA2C
from lightning_a3c.payloads import SendGradients, clip_scale, send_transitions
from lightning_a3c.types import Batch, Gradients, Report, Transitions, map_tensors

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
        torch.randint(0, 256, (16, 4, 84, 84), dtype=torch.uint8), torch.randint(0, 6, (16,)), torch.randn(16)
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
    network = {"class_path": "lightning_a3c.networks.MLP", "init_args": {"hidden_sizes": []}}
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
        used=torch.ones(k, size, dtype=torch.bool),
        worker=torch.arange(k),
    )
    report = Report(torch.ones(k, dtype=torch.int64), torch.ones(k, dtype=torch.int64), torch.zeros(k), torch.zeros(k))
    return module, Batch(payload, report, torch.zeros(k), torch.zeros(1), torch.zeros(1))


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
    transitions = Transitions(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), torch.ones(4))
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
    with pytest.raises(RuntimeError, match=r"4 gradients in a row .* the last from worker 1"):
        apply(callback, module, batch)


def cartpole() -> CollectorDataModule:
    return CollectorDataModule(
        env=EnvConfig("CartPole-v1", num_envs=2), num_workers=0, micro_batch_size=8, batch_size=16
    )


def fit(
    module_mode: str,
    callbacks: list[pl.Callback],
    folder: Path,
    data: CollectorDataModule | None = None,
    **changes: object,
) -> None:
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
    trainer.fit(A3CModule.for_data(data, mode=module_mode), datamodule=data)


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


def test_the_callback_refuses_a_module_in_data_mode(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r'needs A3CModule\(mode="gradient"\)'):
        fit("data", [GradientParallel()], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_module_in_gradient_mode_refuses_to_run_without_the_callback(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"add lightning_a3c.GradientParallel"):
        fit("gradient", [], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", [{"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 2}])
def test_trainer_settings_for_automatic_optimisation_are_refused(setting: dict, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"[Rr]emove|manual optimization"):
        fit("gradient", [GradientParallel()], tmp_path, **setting)
    assert not list(tmp_path.iterdir())


def test_dropped_gradients_change_nothing_and_are_no_step(tmp_path: Path) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: A3CModule, batch: Batch, index: int) -> None:
            self.before = [parameter.clone() for parameter in module.parameters()]
            batch.payload.gradient.fill_(math.nan)

        def on_train_batch_end(self, trainer: pl.Trainer, module: A3CModule, *args: object) -> None:
            assert all(torch.equal(a, b) for a, b in zip(self.before, module.parameters(), strict=True))
            assert trainer.global_step == 0

    with pytest.raises(RuntimeError, match="gradients in a row"):
        fit("gradient", [Poison(), GradientParallel(max_dropped_in_a_row=6)], tmp_path)
