"""The policy that ships with the repository plays Pong as its results say."""

from pathlib import Path

import pytest
import pytorch_lightning as pl

from lightning_a3c import A3CModule, CollectorDataModule
from lightning_a3c.environments.task import env_config_of

POLICY = Path(__file__).parents[1] / "results/pong/policy.ckpt"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_episodes_of_the_pretrained_policy() -> None:
    module = A3CModule.load_from_checkpoint(POLICY, weights_only=True)
    data = CollectorDataModule(env=env_config_of(module.hparams["task"]), eval_episodes=3, seed=0)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (results,) = trainer.test(module, datamodule=data, verbose=False)
    assert results["test/return_mean"] > 15
    assert results["test/return_max"] <= 21
