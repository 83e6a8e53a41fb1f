"""Learner or workers on a GPU: the updates equal those made on the CPU."""

import os
from contextlib import closing
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
from torch import distributed as dist

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel
from lightning_a3c.collection.auto import auto_device
from lightning_a3c.collection.job import CPU
from lightning_a3c.collection.payloads import MakePayload, SendGradients
from lightning_a3c.collection.stream import CollectorDataset
from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.networks import MLP
from lightning_a3c.rl.types import Batch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def data(env_id: str = "CartPole-v1", num_workers: int = 2, worker_device: str = "cpu") -> CollectorDataModule:
    return CollectorDataModule(
        EnvConfig(env_id, num_envs=4),
        num_workers=num_workers,
        micro_batch_size=16,
        batch_size=32,
        synchronous=True,
        worker_device=worker_device,
        seed=5,
    )


class Watch(pl.Callback):
    """Keeps the batches as the learner gets them, and whether the dataset gave them in pinned memory."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.pins = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.devices.add(batch.payload[0].device.type)
        assert batch.stats.env_steps.device.type == "cpu"
        assert isinstance(trainer.train_dataloader, CollectorDataset)
        self.pins = trainer.train_dataloader.config.pin_memory


def train(mode: str, stream: CollectorDataModule, **where: object) -> tuple[A3CModule, Watch]:
    torch.manual_seed(0)
    watch = Watch()
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "eps": 1e-3}}
    module = A3CModule.for_data(stream, mode=mode, optimizer=adam)
    pl.Trainer(
        **where,
        devices=1,
        max_steps=3,
        callbacks=[watch, *([GradientParallel()] if mode == "gradient" else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=stream)
    return module, watch


@needs_gpu
@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "PongNoFrameskip-v4"])
def test_three_updates_on_a_gpu_are_those_on_the_cpu(mode: str, env_id: str) -> None:
    on_cpu, _ = train(mode, data(env_id), accelerator="cpu")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        on_gpu, watch = train(mode, data(env_id), accelerator="gpu")
    assert watch.devices == {"cuda"}
    assert watch.pins
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), tensor, atol=1e-5, rtol=1e-4)


@needs_gpu
@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("worker_device", ["cuda", "auto"])
def test_workers_on_a_gpu_give_the_updates_of_those_on_the_cpu(mode: str, worker_device: str) -> None:
    on_cpu, _ = train(mode, data(), accelerator="cpu")
    on_gpu, _ = train(mode, data(worker_device=worker_device), accelerator="gpu")
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("accelerator", ["cpu", pytest.param("gpu", marks=needs_gpu)])  # by gloo, by NCCL
def test_a_single_learner_under_ddp_makes_the_updates_of_one_without(mode: str, accelerator: str) -> None:
    alone, _ = train(mode, data(), accelerator=accelerator)
    with patch.dict(os.environ):  # Lightning leaves variables in it, which later tests' processes would inherit
        try:
            peer, _ = train(mode, data(), accelerator=accelerator, strategy="ddp")
        finally:
            dist.destroy_process_group()
    for mine, others in zip(peer.net.parameters(), alone.net.parameters(), strict=True):
        torch.testing.assert_close(mine.cpu(), others.cpu(), rtol=0, atol=1e-6)


def test_auto_leaves_workers_on_the_cpu_when_the_learner_is() -> None:
    with closing(data(worker_device="auto").dataset(MLP((4,), 2))) as stream:
        assert stream.job.device == CPU


@pytest.mark.parametrize(
    ("num_workers", "sends_gradients", "device"), [(6, False, "cuda"), (7, False, "cpu"), (15, True, "cuda")]
)
def test_auto_takes_the_gpu_unless_many_workers_only_act(num_workers: int, sends_gradients: bool, device: str) -> None:
    assert auto_device(torch.device("cuda"), num_workers, sends_gradients) == torch.device(device)


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_a_learner_on_the_cpu_pins_no_memory(mode: str) -> None:
    _, watch = train(mode, data(num_workers=0), accelerator="cpu")
    assert watch.devices == {"cpu"}
    assert not watch.pins


@pytest.mark.parametrize(
    ("make_payload", "travel"),
    [(None, {"observations", "actions", "returns", "log_probs"}), (SendGradients(A2CLoss()), {"gradient"})],
)
def test_only_what_is_computed_with_travels_to_the_learners_device(
    make_payload: MakePayload | None, travel: set[str]
) -> None:
    stream = data(num_workers=0)
    with closing(stream.dataset(A3CModule.for_data(stream).net, make_payload=make_payload)) as dataset:
        batch = next(iter(dataset))
    moved = stream.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {name for name, tensor in moved.payload._asdict().items() if tensor.device.type == "meta"} == travel
    assert moved.stats is batch.stats
    assert moved.policy_lag is batch.policy_lag
