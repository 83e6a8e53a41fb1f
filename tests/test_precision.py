"""The learner's precision where it is automatic."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_a3c import A3CModule, AutoPrecision, CollectorDataModule, EnvConfig
from lightning_a3c.rl.types import Batch


class Watched(A3CModule):
    """Remembers the dtype of its loss's inputs in training."""

    seen: torch.dtype

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        self.seen = self.forward(batch.payload[0])[0].dtype
        return super().training_step(batch, batch_idx)


def fit(folder: Path, **where: object) -> tuple[Watched, str]:
    """The module after two updates, and the precision that the trainer says it has."""
    data = CollectorDataModule(EnvConfig("CartPole-v1"), num_workers=0, seed=0)
    module = Watched.for_data(data, optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}})
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(plugins=[AutoPrecision()], max_steps=2, default_root_dir=folder, **quiet, **where)
    trainer.fit(module, datamodule=data)
    return module, trainer.precision


@pytest.mark.parametrize(
    ("has_bf16", "dtype", "precision"), [(True, torch.bfloat16, "bf16-mixed"), (False, torch.float32, "32-true")]
)
def test_the_learner_computes_in_bf16_where_the_processor_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_bf16: bool, dtype: torch.dtype, precision: str
) -> None:
    monkeypatch.setattr("lightning_a3c.learning.precision.computes_in_bf16", lambda: has_bf16)
    module, said = fit(tmp_path, accelerator="cpu")
    assert (module.seen, said) == (dtype, precision)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_learner_on_a_gpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lightning_a3c.learning.precision.computes_in_bf16", lambda: True)
    module, said = fit(tmp_path, accelerator="gpu", devices=1)
    assert (module.seen, said) == (torch.float32, "32-true")


def test_two_choices_of_precision_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Received both `precision=32-true` and `plugins=AutoPrecision\(\)`"):
        pl.Trainer(plugins=[AutoPrecision()], precision="32-true")
