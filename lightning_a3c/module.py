"""The agent as a LightningModule: network, combined loss, optimizer. Knows no environment or process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_a3c.checkpoints import WholeCheckpoints, require_loadable
from lightning_a3c.losses import A2CLoss, LossTerms
from lightning_a3c.networks import build_network, instantiate, orthogonal_init
from lightning_a3c.onnx_export import export_onnx
from lightning_a3c.progress import Progress
from lightning_a3c.summary import EpisodeSummary
from lightning_a3c.types import Batch, Gradients, Prediction

SEED_OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "eps": 1e-3, "fused": True}}

# true 16 bits would round what workers report too, the returns of episodes; 16-mixed scales losses, which workers in
# gradient mode never see and fused optimizers unscale only after gradients are clipped
_PRECISIONS = ("32-true", "bf16-mixed")


class CheckpointMismatch(ValueError):
    """The checkpoint belongs to another environment or network."""


class NonFiniteLoss(RuntimeError):
    """Losses or gradients stay NaN or infinite."""


class A3CModule(pl.LightningModule):
    """Actor-critic learner for data-parallel and gradient-parallel training.

    >>> module = A3CModule(observation_shape=(4,), num_actions=2)
    >>> action = module.act(torch.zeros(1, 4))

    Args:
        observation_shape: of one observation.
        num_actions: size of the discrete action space.
        protocol: what is played, as plain values; kept in checkpoints. `frame_skip` turns env steps
            into frames.
        network: see `networks.build_network`: None, a class path with init_args, or a module (which
            a checkpoint cannot rebuild: give it again to `load_from_checkpoint`).
        orthogonal: initialise orthogonally instead of with PyTorch's default.
        entropy_weight: β.
        value_weight: weight of the critic's error.
        final_entropy_weight: what β falls or rises to on a straight line; None keeps it constant.
        entropy_updates: updates until β is there; given with `final_entropy_weight`, or not.
        optimizer: `{"class_path": …, "init_args": {…}}`; the default is fused Adam, lr 1e-3,
            eps 1e-3.
        lr_scheduler: likewise, or None; stepped after every update, unless it has a `monitor`.
        max_skipped_in_a_row: data mode skips an update whose gradient is NaN or infinite; this many with no good one
            between them end training, with the last good weights.
        mode: "data" learns from transitions by automatic optimisation; "gradient" applies what the
            `GradientParallel` callback makes of the workers' gradients.

    Raises:
        ValueError: the network does not fit the spaces, or an argument is out of range.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        protocol: dict[str, Any] | None = None,
        network: dict[str, Any] | nn.Module | None = None,
        orthogonal: bool = False,
        entropy_weight: float = 0.01,
        value_weight: float = 1.0,
        final_entropy_weight: float | None = None,
        entropy_updates: int | None = None,
        optimizer: dict[str, Any] | None = None,
        lr_scheduler: dict[str, Any] | None = None,
        max_skipped_in_a_row: int = 10,
        mode: Literal["data", "gradient"] = "data",
    ) -> None:
        super().__init__()
        if max_skipped_in_a_row < 1:
            raise ValueError(f"max_skipped_in_a_row must be >= 1, got {max_skipped_in_a_row}")
        observation_shape, num_actions = tuple(map(int, observation_shape)), int(num_actions)  # of NumPy, often
        self.save_hyperparameters(ignore=["network"] if isinstance(network, nn.Module) else None)
        self.net = build_network(observation_shape, num_actions, network, self.observation_dtype)
        if orthogonal:
            orthogonal_init(self.net)
        self.loss = A2CLoss(entropy_weight, value_weight, final_entropy_weight, entropy_updates)
        self.progress = Progress()
        # Lightning checks the trainer against this before any setup hook, so it must be known here
        self.automatic_optimization = mode == "data"
        self.frame_skip: int = (protocol or {}).get("frame_skip", 1)
        self.skipped_updates = 0
        self._skipped_in_a_row = 0
        self.evaluated = EpisodeSummary()

    @classmethod
    def for_data(cls, data: Any, **kwargs: Any) -> Self:
        """A module that fits the environment of a `CollectorDataModule`."""
        protocol = data.protocol
        return cls(protocol.observation_shape, protocol.num_actions, protocol.plain(), **kwargs)

    @property
    def observation_dtype(self) -> torch.dtype:
        """What the protocol names, float32 without a protocol."""
        dtype: torch.dtype = getattr(torch, (self.hparams["protocol"] or {}).get("observation_dtype", "float32"))
        return dtype

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → logits [B, A], values [B]; float32, or bfloat16 within autocast."""
        logits, values = self.net(observations)
        return logits, values

    @torch.no_grad()
    def act(self, observations: Tensor, greedy: bool = False) -> Tensor:
        """[B, *observation_shape] → actions int64 [B]."""
        logits, _ = self.forward(observations.to(self.device))
        return logits.argmax(dim=1) if greedy else torch.multinomial(logits.softmax(dim=1), 1).squeeze(1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer = instantiate(self.hparams["optimizer"] or SEED_OPTIMIZER, parameters)
        if self.hparams["lr_scheduler"] is None:
            return optimizer
        scheduler = instantiate(self.hparams["lr_scheduler"], optimizer)
        monitor = getattr(scheduler, "monitor", None)
        if monitor is None and isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ValueError(
                "lr_scheduler ReduceLROnPlateau does not say what to watch; use the class path "
                "pytorch_lightning.cli.ReduceLROnPlateau with monitor among its init_args"
            )
        if monitor is not None:
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_callbacks(self) -> list[pl.Callback]:
        """None; as the first hook, and one that each process of several calls, it refuses trainers that do not fit."""
        trainer, precision = self.trainer, self.trainer.precision_plugin.precision
        if trainer.world_size > 1:
            raise MisconfigurationException(
                f"trainer.devices × trainer.num_nodes must be 1, got {trainer.num_devices} × {trainer.num_nodes}: "
                "there is one learner, on one device; data.num_workers uses more cores"
            )
        if (trainer.gradient_clip_val or 0) < 0:
            raise MisconfigurationException(f"trainer.gradient_clip_val must be >= 0, got {trainer.gradient_clip_val}")
        if precision not in _PRECISIONS:
            raise MisconfigurationException(
                f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {precision}: weights are float32, "
                "and losses are not scaled"
            )
        if trainer.state.fn == "fit" and trainer.checkpoint_callbacks:
            require_loadable(self.hparams)
        return []

    def setup(self, stage: str) -> None:
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nobody chose another
            self.trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_fit_start(self) -> None:
        if self.hparams["protocol"]:
            rank_zero_info("Playing " + ", ".join(f"{k} {v}" for k, v in self.hparams["protocol"].items()))

    def on_train_start(self) -> None:
        self.progress.start()

    @property
    def logs_now(self) -> bool:
        """Whether anyone will see what this update logs: a logger, or a monitor at the start or end of the epoch.

        Twenty metrics cost a tenth of a small update, so the others log nothing.
        """
        loop = self.trainer.fit_loop.epoch_loop
        return self.trainer._logger_connector.should_update_logs or self.trainer.is_last_batch or loop.batch_idx == 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        self.progress.update(batch.report)
        if isinstance(batch.payload, Gradients):
            sent = batch.payload.loss_terms
            self._log(batch, LossTerms(*sent.where(sent.isfinite(), torch.nan).nanmean(dim=0)))
            self._apply_gradients()
            return None
        observations, actions, returns = batch.payload
        logits, values = self.forward(observations)
        terms = self.loss(logits, values, actions, returns, self.global_step)
        self._log(batch, terms)
        return terms.loss_total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        if not norm.isfinite():
            self._skip_update(norm)
        else:
            self._skipped_in_a_row = 0
            if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
                torch.nn.utils.clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)  # known already
            else:
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if self.logs_now:
            self.log_dict({"grad_norm": norm, "skipped_updates": float(self.skipped_updates)})

    def on_train_epoch_end(self) -> None:
        if self.automatic_optimization:
            return
        for config in self.trainer.lr_scheduler_configs:
            if config.monitor is not None and config.monitor in self.trainer.callback_metrics:
                config.scheduler.step(self.trainer.callback_metrics[config.monitor])  # type: ignore[arg-type]

    @property
    def is_untrained(self) -> bool:
        """Whether the weights come neither from a checkpoint nor from training."""
        return not self.trainer.ckpt_path and not self.progress.env_steps

    def on_validation_start(self) -> None:
        self._begin_evaluation("validate")

    def on_test_start(self) -> None:
        self._begin_evaluation("test")

    def on_predict_start(self) -> None:
        self._begin_evaluation("predict")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated.update(batch.episode_return, batch.length)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated.update(batch.episode_return, batch.length)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.evaluated.pop().items()})

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{name}": value for name, value in self.evaluated.pop(with_interval=True).items()})

    def predict_step(self, batch: Tensor) -> Prediction:
        """Observations [B, *observation_shape] → the probability of each action, and the value."""
        logits, values = self.forward(batch)
        return Prediction(logits.float().softmax(dim=1), values.float())

    def export_onnx(self, path: str | Path) -> None:
        """Write the network for onnxruntime: `observations` in, `logits` and `values` out, any batch size.

        `observations` have the `observation_dtype`. Needs the packages onnx and onnxscript
        (`pip install "lightning-a3c[onnx]"`).

        Raises:
            ModuleNotFoundError: one of them is missing.
            NotWritable: `path` cannot be written.
        """
        observations = torch.zeros(2, *self.hparams["observation_shape"], dtype=self.observation_dtype)
        export_onnx(self, path, observations.to(self.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = self.progress.state_dict() | {"skipped_updates": self.skipped_updates}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs, ours = checkpoint.get("hyper_parameters", {}), self.hparams
        for name in ("observation_shape", "num_actions"):
            if name in theirs and _plain(theirs[name]) != _plain(ours[name]):
                raise CheckpointMismatch(
                    f"the checkpoint was trained with {name} {theirs[name]}, this run has {ours[name]}; "
                    "use the config that made it: config.yaml in the log folder of its run"
                )
        saved, own = checkpoint["state_dict"], self.state_dict()
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in own.items()}:
            raise CheckpointMismatch(
                f"the checkpoint holds another network than {type(self.net).__name__} as configured here "
                f"(network {self.hparams.get('network')}); use the config that made it"
            )
        if "progress" in checkpoint:
            self.progress.load_state_dict(checkpoint["progress"])
            self.skipped_updates = checkpoint["progress"].get("skipped_updates", 0)

    def _begin_evaluation(self, command: str) -> None:
        self.evaluated.reset()  # an evaluation that was interrupted leaves episodes
        if self.trainer.state.fn != "fit" and self.is_untrained:
            rank_zero_warn(
                f"{command} plays untrained weights: no checkpoint was given and this module has not been trained; "
                f'give one: --ckpt_path FILE, or trainer.{command}(…, ckpt_path="FILE") in a script'
            )

    def _skip_update(self, norm: Tensor) -> None:
        self.skipped_updates += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self.hparams["max_skipped_in_a_row"]:
            raise NonFiniteLoss(
                f"{self._skipped_in_a_row} updates in a row had the gradient norm {norm:g}; the weights are those "
                "of the last good one; lower the learning rate or check the environment's rewards and observations"
            )
        for parameter in self.parameters():
            parameter.grad = None  # the optimizer leaves such a parameter, and its own state for it, alone

    def _apply_gradients(self) -> None:
        if all(parameter.grad is None for parameter in self.parameters()):
            return  # no worker sent a usable gradient
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.step()  # inside training_step, where Lightning counts it as a global step
        optimizer.zero_grad()  # the next sum takes their memory
        for config in self.trainer.lr_scheduler_configs:
            if config.monitor is None:
                config.scheduler.step()  # type: ignore[call-arg]  # a plateau scheduler has a monitor

    def _log(self, batch: Batch, terms: LossTerms) -> None:
        if not self.logs_now:
            return
        self.log_dict({name: term.detach() for name, term in terms._asdict().items()})
        self.log_dict(self.progress.metrics(self.frame_skip))
        self.log("policy_lag", batch.policy_lag.float().mean())
        self.log("queue_fill", batch.queue_fill.mean())
        self.log("worker_restarts", batch.worker_restarts.float().mean())
        self.log("steps/s", self.progress.steps_per_second, prog_bar=True)
        if self.progress.mean_return is not None:
            self.log("return_100", self.progress.mean_return, prog_bar=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
