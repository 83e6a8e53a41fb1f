"""Learner or workers on a GPU, or on what keeps tensors apart as one does: the updates are those made on the CPU."""

import time
from contextlib import closing
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel, auto
from lightning_a3c.collection.job import CPU
from lightning_a3c.collection.payloads import MakePayload, SendGradients
from lightning_a3c.collection.processes.pool import WorkerPool
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.collection.stream import CollectorDataset
from lightning_a3c.rl.losses import A2CLoss
from lightning_a3c.rl.networks import MLP
from lightning_a3c.rl.types import Batch
from tests.other_device import OTHER, OtherAccelerator, OtherDevice

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.fixture
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "_WARM_UP_SECONDS", 0.1)
    monkeypatch.setattr(auto, "_TRIAL_SECONDS", 0.4)


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
        self.pins = trainer.train_dataloader.pin_memory


def train(mode: str, stream: CollectorDataModule, **where: object) -> tuple[A3CModule, Watch]:
    torch.manual_seed(0)
    watch = Watch()
    # the default, but not fused, which PyTorch refuses on devices it has no kernels for
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


@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "PongNoFrameskip-v4"])
def test_three_updates_on_another_device_are_those_on_the_cpu(mode: str, env_id: str) -> None:
    on_cpu, _ = train(mode, data(env_id), accelerator="cpu")
    with OtherDevice():
        on_other, watch = train(
            mode, data(env_id), accelerator=OtherAccelerator(), strategy=SingleDeviceStrategy(OTHER)
        )
        weights = {name: tensor.cpu() for name, tensor in on_other.state_dict().items()}
    assert watch.devices == {OTHER.type}
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(weights[name], tensor)


@needs_gpu
@pytest.mark.usefixtures("short_trials")
@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize("worker_device", ["cuda", "auto"])
def test_workers_on_a_gpu_give_the_updates_of_those_on_the_cpu(mode: str, worker_device: str) -> None:
    on_cpu, _ = train(mode, data(), accelerator="cpu")
    on_gpu, _ = train(mode, data(worker_device=worker_device), accelerator="gpu")
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_a_collector_on_another_device_gives_the_updates_of_one_on_the_cpu(mode: str) -> None:
    on_cpu, _ = train(mode, data(num_workers=0), accelerator="cpu")
    with OtherDevice():
        on_other, watch = train(mode, data(num_workers=0, worker_device=str(OTHER)), accelerator="cpu")
    assert watch.devices == {"cpu"}
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(on_other.state_dict()[name], tensor)


class SlowOn(nn.Module):
    """Takes its time on one device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.net = device, MLP((4,), 2)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        if observations.device == self.device:
            time.sleep(0.05)
        logits, values = self.net(observations)
        return logits, values


@pytest.mark.usefixtures("short_trials")
@pytest.mark.parametrize(("slow", "fast"), [(CPU, OTHER), (OTHER, CPU)])
def test_auto_takes_the_device_on_which_workers_collect_faster(slow: torch.device, fast: torch.device) -> None:
    def stream_on(device: torch.device) -> CollectorDataset:
        return data(num_workers=0, worker_device=str(device)).dataset(SlowOn(slow))

    with OtherDevice():
        assert auto.fastest_device(stream_on, slow, fast) == fast


@pytest.mark.usefixtures("short_trials")
@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_what_auto_tries_leaves_no_trace_in_the_run(mode: str) -> None:
    on_cpu, _ = train(mode, data(num_workers=0), accelerator="cpu")
    with OtherDevice():
        on_other, _ = train(
            mode,
            data(num_workers=0, worker_device="auto"),
            accelerator=OtherAccelerator(),
            strategy=SingleDeviceStrategy(OTHER),
        )
        weights = {name: tensor.cpu() for name, tensor in on_other.state_dict().items()}
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(weights[name], tensor)


@pytest.mark.usefixtures("short_trials")
@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_auto_does_not_take_a_device_on_which_workers_fail(mode: str) -> None:
    maker = SendGradients(A2CLoss()) if mode == "gradient" else None

    def stream_on(device: torch.device) -> CollectorDataset:
        return data(worker_device=str(device)).dataset(MLP((4,), 2), make_payload=maker)

    assert auto.fastest_device(stream_on, torch.device("meta"), CPU) == CPU


@pytest.mark.usefixtures("short_trials")
def test_auto_tries_devices_as_training_will_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    take, publish = WorkerPool.take, SharedWeights.publish
    calls: list[str] = []
    threads: set[int] = set()

    def watched_take(self: WorkerPool, *args: Any) -> Any:
        calls.append("take")
        threads.add(torch.get_num_threads())
        return take(self, *args)

    def watched_publish(self: SharedWeights, net: nn.Module) -> int:
        calls.append("publish")
        return publish(self, net)

    def stream_on(device: torch.device) -> CollectorDataset:
        stream = data(worker_device=str(device))
        stream.learner_threads = before + 1
        return stream.dataset(MLP((4,), 2))

    monkeypatch.setattr(WorkerPool, "take", watched_take)
    monkeypatch.setattr(SharedWeights, "publish", watched_publish)
    before = torch.get_num_threads()
    assert auto.fastest_device(stream_on, CPU) == CPU
    assert len(calls) > 6
    assert calls == ["publish", "take"] * (len(calls) // 2)  # renewing weights is what a GPU's workers wait for
    assert threads == {before + 1}
    assert torch.get_num_threads() == before


def test_auto_leaves_workers_on_the_cpu_when_the_learner_is() -> None:
    with closing(data(worker_device="auto").dataset(MLP((4,), 2))) as stream:
        assert stream.job.device == CPU


@pytest.mark.parametrize("mode", ["data", "gradient"])
def test_a_learner_on_the_cpu_pins_no_memory(mode: str) -> None:
    _, watch = train(mode, data(), accelerator="cpu")
    assert watch.devices == {"cpu"}
    assert not watch.pins


@pytest.mark.parametrize(
    ("make_payload", "travel"),
    [(None, {"observations", "actions", "returns"}), (SendGradients(A2CLoss()), {"gradient"})],
)
def test_only_what_is_computed_with_travels_to_the_learners_device(
    make_payload: MakePayload | None, travel: set[str]
) -> None:
    stream = data()
    with closing(stream.dataset(A3CModule.for_data(stream).net, make_payload=make_payload)) as dataset:
        batch = next(iter(dataset))
    moved = stream.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {name for name, tensor in moved.payload._asdict().items() if tensor.device.type == "meta"} == travel
    assert moved.stats is batch.stats
    assert moved.policy_lag is batch.policy_lag
