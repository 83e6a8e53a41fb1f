"""A module and the data that it is trained or tested on fit together, or are refused before anything begins."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from gymnasium import spaces
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, GradientParallel
from lightning_a3c.rl.networks import MLP


class Memory(gymnasium.Env):
    """Shows 16 bytes of chance."""

    observation_space = spaces.Box(0, 255, (16,), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observation(), 1.0, self.steps == 5, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.integers(256, size=16, dtype=np.uint8)


if "Memory-v0" not in gymnasium.registry:
    # by its name: by the class, all workers would import this module, and Lightning with it
    gymnasium.register("Memory-v0", entry_point="tests.test_module:Memory")


class Net(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.p, self.v = nn.Sequential(*layers), nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layers(x)
        return self.p(hidden), self.v(hidden).squeeze(1)


def data(env_id: str = "CartPole-v1", **config: Any) -> CollectorDataModule:
    return CollectorDataModule(
        env=EnvConfig(env_id, num_envs=2, **config),
        num_workers=0,
        micro_batch_size=8,
        batch_size=8,
        seed=0,
        eval_episodes=2,
    )


def trainer(*callbacks: pl.Callback, **changes: Any) -> pl.Trainer:
    values: dict[str, Any] = {"accelerator": "cpu", "max_steps": 2, "logger": False, "enable_checkpointing": False}
    values |= {"enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(callbacks=list(callbacks), **(values | changes))


def test_a_module_without_task_takes_that_of_the_data(tmp_path: Path) -> None:
    stream = data("PongNoFrameskip-v4")
    module = A3CModule((4, 84, 84), 6)
    run = trainer(logger=CSVLogger(tmp_path))
    run.fit(module, datamodule=stream)
    assert run.callback_metrics["frames"] == 4 * run.callback_metrics["env_steps"]
    assert module.observation_dtype == torch.uint8
    run.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["task"] == stream.task.to_dict()
    assert "env_id: PongNoFrameskip-v4" in Path(run.logger.log_dir, "hparams.yaml").read_text()


@pytest.mark.parametrize(("shape", "num_actions"), [((8,), 2), ((4,), 3), ((4,), 1), ((1, 4), 2)])
def test_a_module_of_other_spaces_is_refused_before_anything_is_written(
    shape: tuple[int, ...], num_actions: int, tmp_path: Path
) -> None:
    message = (
        rf"made for observations \({shape[0]},.* and {num_actions} actions, but CartPole-v1 has "
        r"observations \(4,\) and 2 actions; .*for_data"
    )
    module = A3CModule(shape, num_actions)
    with pytest.raises(MisconfigurationException, match=message):
        trainer(logger=CSVLogger(tmp_path)).fit(module, datamodule=data())
    with pytest.raises(MisconfigurationException, match=message):
        trainer(logger=CSVLogger(tmp_path)).test(module, datamodule=data(), verbose=False)
    assert not list(tmp_path.iterdir())


def test_a_network_that_does_not_take_the_datas_bytes_is_refused() -> None:
    class FloatsOnly(MLP):
        def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
            return self.policy(observations), self.value(observations).squeeze(1)

    module = A3CModule((16,), 2, network=FloatsOnly((16,), 2))
    with pytest.raises(ValueError, match=r"FloatsOnly does not turn uint8 observations"):
        trainer().fit(module, datamodule=data("Memory-v0"))


def test_a_module_of_another_environment_is_told_and_counts_as_the_data_do() -> None:
    module = A3CModule.for_data(data(kwargs={"sutton_barto_reward": True}))
    message = r"made for kwargs {'sutton_barto_reward': True} instead of {}; the data module's task is played"
    with pytest.warns(UserWarning, match=message), pytest.warns(UserWarning, match="plays untrained weights"):
        trainer().test(module, datamodule=data(), verbose=False)
    assert module.hparams["task"]["kwargs"] == {}


def test_a_default_network_made_by_hand_scales_as_one_made_for_the_data(tmp_path: Path) -> None:
    module, run = A3CModule((16,), 2), trainer()
    run.fit(module, datamodule=data("Memory-v0"))
    assert module.net.scale == A3CModule.for_data(data("Memory-v0")).net.scale == 1 / 256
    run.save_checkpoint(tmp_path / "a.ckpt")
    assert A3CModule.load_from_checkpoint(tmp_path / "a.ckpt").net.scale == 1 / 256
    tested = A3CModule((16,), 2)
    trainer().test(tested, datamodule=data("Memory-v0"), ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert tested.net.scale == 1 / 256


def test_a_network_that_was_given_keeps_its_scale() -> None:
    module = A3CModule((16,), 2, network=MLP((16,), 2))
    trainer().fit(module, datamodule=data("Memory-v0"))
    assert module.net.scale == 1


@pytest.fixture
def old_checkpoint(tmp_path: Path) -> Path:
    """Of training without a scale, as before there were bounds."""
    module, run = A3CModule.for_data(data("Memory-v0")), trainer()
    module.net.set_bounds(None)
    run.fit(module, datamodule=data("Memory-v0"))
    run.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    for name in ("observation_low", "observation_high"):
        del content["hyper_parameters"]["task"][name]
    torch.save(content, tmp_path / "old.ckpt")
    return tmp_path / "old.ckpt"


def test_a_checkpoint_from_before_there_were_bounds_acts_and_goes_on_as_it_did(old_checkpoint: Path) -> None:
    module = A3CModule.load_from_checkpoint(old_checkpoint)
    assert module.net.scale == 1
    trainer().test(module, datamodule=data("Memory-v0"), verbose=False)  # without a warning
    trainer().fit(module, datamodule=data("Memory-v0"))
    assert module.net.scale == 1

    resumed, run = A3CModule.for_data(data("Memory-v0")), trainer(max_steps=4)
    run.fit(resumed, datamodule=data("Memory-v0"), ckpt_path=old_checkpoint, weights_only=True)
    assert resumed.net.scale == 1
    run.save_checkpoint(old_checkpoint)
    assert A3CModule.load_from_checkpoint(old_checkpoint).net.scale == 1


@pytest.mark.parametrize(
    ("mode", "layers", "told"),
    [
        ("gradient", [nn.BatchNorm1d(4)], r"its statistics \(layers.0.running_mean, .*\) never change; use mode="),
        ("gradient", [nn.Dropout(0.5)], "in evaluation mode, so Dropout is never applied"),
        ("data", [nn.Dropout(0.5)], "workers act in evaluation mode, without Dropout, while the loss"),
        ("data", [nn.BatchNorm1d(4)], None),  # learner and workers do as they should
        ("data", [nn.LayerNorm(4)], None),
        ("gradient", [nn.LayerNorm(4)], None),
    ],
)
def test_what_is_not_so_in_workers_is_told_once(mode: str, layers: list[nn.Module], told: str | None) -> None:
    stream = data()
    module = A3CModule.for_data(stream, network=Net(*layers), mode=mode)
    run = trainer(*([GradientParallel()] if mode == "gradient" else []))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(module, datamodule=stream)
    messages = [str(warning.message) for warning in caught if "network Net" in str(warning.message)]
    assert len(messages) == (told is not None)
    if told is not None:
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(messages[0])


def test_a_network_named_by_its_class_is_built_again_from_a_checkpoint(tmp_path: Path) -> None:
    module, run = A3CModule.for_data(data("Memory-v0"), network=MLP), trainer()
    run.fit(module, datamodule=data("Memory-v0"))
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.hparams["network"] == {"class_path": "lightning_a3c.rl.networks.MLP"}
    assert loaded.net.scale == 1 / 256
    observations = torch.randint(256, (5, 16), dtype=torch.uint8)
    assert torch.equal(loaded(observations)[0], module(observations)[0])


def test_specs_within_specs_and_wrappers_stay_plain_in_a_checkpoint_of_the_command_line(tmp_path: Path) -> None:
    features = {"class_path": "lightning_a3c.MLP", "init_args": {"hidden_sizes": [8]}}
    network = {"class_path": "lightning_a3c.RecurrentNetwork", "init_args": {"features": features}}
    wrappers = [{"class_path": "lightning_a3c.ObserveElements", "init_args": {"indices": [0, 2]}}]
    module, run = A3CModule.for_data(data(wrappers=wrappers), network=network), trainer()
    run.strategy.connect(module)
    run.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt")
    checkpoint["hyper_parameters"]["_instantiator"] = "pytorch_lightning.cli.instantiate_module"
    torch.save(checkpoint, tmp_path / "a.ckpt")
    loaded = A3CModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.hparams["network"] == network
    assert loaded.hparams["task"]["wrappers"] == wrappers


class Swap(pl.Callback):
    """Replaces the network, or adds to it, after the third update."""

    def __init__(self, adds: bool) -> None:
        self.adds = adds

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: object) -> None:
        if trainer.global_step == 3:
            if self.adds:
                module.net.extra = nn.Linear(2, 2)
            else:
                module.net = MLP((4,), 2)


@pytest.mark.parametrize("mode", ["data", "gradient"])
@pytest.mark.parametrize(
    ("adds", "message"), [(False, "the module's network was replaced during training"), (True, "10 instead of 12|14 ")]
)
def test_a_network_that_is_replaced_or_grows_in_training_is_refused(mode: str, adds: bool, message: str) -> None:
    stream = data()
    own = [GradientParallel()] if mode == "gradient" else []
    with pytest.raises((MisconfigurationException, ValueError), match=message):
        trainer(Swap(adds), *own, max_steps=9).fit(A3CModule.for_data(stream, mode=mode), datamodule=stream)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "Data"}, "mode must be .*, got 'Data'"),
        ({"log_std": "heads"}, "log_std must be .*, got 'heads'"),
        ({"optimizer": torch.optim.Adam}, "optimizer must be .*class_path.*, got <class"),
        ({"lr_scheduler": "StepLR"}, "lr_scheduler must be .*class_path.*, got 'StepLR'"),
        ({"entropy_weight": float("nan")}, "entropy_weight must be >= 0, got nan"),
        ({"value_weight": float("nan")}, "value_weight must be > 0, got nan"),
    ],
)
def test_values_out_of_range_are_refused_in_scripts_too(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        A3CModule((4,), 2, **changes)


class Remembers(Net):
    """Adds its last outputs to the next ones."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, values = super().forward(x)
        self.last = logits + getattr(self, "last", 0)
        return self.last, values


@pytest.mark.parametrize("change", ["replaced", "cast"])
def test_a_network_that_changed_since_the_module_was_made_is_checked_before_training(
    change: str, tmp_path: Path
) -> None:
    stream = data()
    module = A3CModule.for_data(stream)
    if change == "replaced":
        module.net = Remembers()
    else:
        module.double()
    with pytest.raises(MisconfigurationException, match=r"keeps state between calls|does not turn float32"):
        trainer(logger=CSVLogger(tmp_path)).fit(module, datamodule=stream)
    assert not list(tmp_path.iterdir())


def test_a_forward_that_workers_do_not_call_is_warned_of() -> None:
    class Scales(A3CModule):
        def forward(self, observations: Any) -> tuple[Tensor, Tensor]:
            return super().forward(observations / 2)

    stream = data()
    with pytest.warns(UserWarning, match="Scales overrides forward, but workers act with its network alone"):
        trainer().fit(Scales.for_data(stream), datamodule=stream)


def test_training_goes_on_from_weights_alone_with_fresh_moments(tmp_path: Path) -> None:
    stream = data()
    first = trainer()
    first.fit(A3CModule.for_data(stream), datamodule=stream)
    first.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    module = A3CModule.for_data(stream)
    with pytest.warns(UserWarning, match="the checkpoint holds weights only"):
        trainer(max_steps=4).fit(module, datamodule=stream, ckpt_path=tmp_path / "weights.ckpt")
    assert module.progress.env_steps == 2 * 8 + 4 * 8


def test_a_schedule_that_ends_before_training_says_so_in_one_line() -> None:
    stream = data()
    one_cycle = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.1, "total_steps": 2}}
    with pytest.raises(MisconfigurationException, match=r"lr_scheduler OneCycleLR cannot be stepped at update \d+"):
        trainer(max_steps=5).fit(A3CModule.for_data(stream, lr_scheduler=one_cycle), datamodule=stream)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entropy_weight": "0.9"}, "entropy_weight must be a number, got '0.9'"),
        ({"max_skipped_in_a_row": 2.5}, "max_skipped_in_a_row must be a whole number, got 2.5"),
        ({"orthogonal": "no"}, "orthogonal must be true or false, got 'no'"),
        (
            {"optimizer": {"class_path": "torch.optim.Adam", "init_arg": {}}},
            "optimizer has 'init_arg', which",
        ),
        ({"network": {"class_path": "lightning_a3c.MLP", "init_arg": {}}}, "network has 'init_arg', which"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        A3CModule((4,), 2, **arguments)
