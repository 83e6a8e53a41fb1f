"""The agent as a LightningModule: network, combined loss, optimizer. Knows no environment or process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn

from lightning_a3c.checkpoints import WholeCheckpoints, require_loadable
from lightning_a3c.losses import A2CLoss, LossTerms
from lightning_a3c.network_checks import check_network, evaluating, training_differences
from lightning_a3c.networks import MLP, AtariA2C, Bounds, build_network, class_path_of, orthogonal_init
from lightning_a3c.onnx_export import export_onnx
from lightning_a3c.optimizers import Specs, follow, monitor_of
from lightning_a3c.policies import choose_actions, require_choice
from lightning_a3c.progress import Progress
from lightning_a3c.summary import EpisodeSummary
from lightning_a3c.trainer_checks import require_fitting_trainer
from lightning_a3c.types import Batch, Gradients, Prediction
from lightning_a3c.update_log import OF_EPISODES, EpisodeWait, UpdateLog

SEED_OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "eps": 1e-3, "fused": True}}

_BOUNDS = ("observation_low", "observation_high")  # of a protocol; checkpoints made before there were any have none


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
        network: see `networks.build_network`: None, a class path with init_args, a class or function, or a module
            (which a checkpoint cannot rebuild, nor what cannot be imported: give it again to `load_from_checkpoint`).
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
        # not NetworkFactory: jsonargparse, which loads what the command line saved, would make a function of a dict
        network: dict[str, Any] | nn.Module | Any = None,
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
        if callable(network) and not isinstance(network, nn.Module) and (class_path := class_path_of(network)):
            network = {"class_path": class_path}  # which a checkpoint can keep
        self.save_hyperparameters(ignore=["network"] if callable(network) else None)
        self.net = build_network(observation_shape, num_actions, network, self.observation_dtype, _bounds(protocol))
        if orthogonal:
            orthogonal_init(self.net)
        self.loss = A2CLoss(entropy_weight, value_weight, final_entropy_weight, entropy_updates)
        self.progress = Progress()
        self.update_log = UpdateLog()
        self._episode_wait = EpisodeWait()
        self._counted: object = None  # the last report
        self._ended_at = -1  # the batch after which an epoch ended last
        self._restored: dict[str, Any] = {}  # of the checkpoint that is resumed from
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

    @property
    def hparams_initial(self) -> Any:
        """What loggers keep: the arguments, but the protocol of what is really played."""
        hparams = super().hparams_initial
        hparams.update(protocol=self.hparams["protocol"])
        return hparams

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *observation_shape] → logits [B, A], values [B]; float32, or bfloat16 within autocast."""
        logits, values = self.net(observations)
        return logits, values

    @torch.no_grad()
    def act(self, observations: Tensor, greedy: bool = False) -> Tensor:
        """[B, *observation_shape] → actions int64 [B], chosen in evaluation mode whatever mode the module is in.

        Raises:
            ValueError: the network masks every action, or gives NaN.
        """
        with evaluating(self):
            logits, _ = self.forward(observations.to(self.device))
        return choose_actions(logits.float(), greedy, network=self._network_name)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer, scheduler = _specs(self.hparams).build(parameters)
        if isinstance(optimizer, torch.optim.LBFGS) and not self.automatic_optimization:
            raise ValueError("optimizer LBFGS computes losses again, which gradient mode cannot; take another")
        if scheduler is None:
            return optimizer
        monitor = monitor_of(scheduler)
        if monitor is None and isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ValueError(
                "lr_scheduler ReduceLROnPlateau does not say what to watch; use the class path "
                "pytorch_lightning.cli.ReduceLROnPlateau with monitor among its init_args"
            )
        config: LRSchedulerConfigType = {"scheduler": scheduler, "interval": "step" if monitor is None else "epoch"}
        if monitor is not None and self.automatic_optimization:
            config["reduce_on_plateau"] = False  # stepped here: Lightning leaves out the epoch that is resumed
        return {"optimizer": optimizer, "lr_scheduler": config}

    def configure_callbacks(self) -> list[pl.Callback]:
        """One that has the last update logged where an exception ends training.

        As the first hook, and one that each process of several calls, it refuses trainers and data that do not fit,
        and takes note of what the data play.
        """
        trainer = self.trainer
        require_fitting_trainer(trainer)
        protocol = getattr(getattr(trainer, "datamodule", None), "protocol", None)
        if protocol is not None:
            self._require_same_spaces(protocol)
            self._play(protocol.plain())
        if trainer.state.fn != "fit":
            return []
        self._tell_training_differences()
        if trainer.checkpoint_callbacks:
            require_loadable(self.hparams)
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        return [] if any(isinstance(callback, _LogLastUpdate) for callback in callbacks) else [_LogLastUpdate()]

    def setup(self, stage: str) -> None:
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nobody chose another
            self.trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_fit_start(self) -> None:
        if self.hparams["protocol"]:
            rank_zero_info("Playing " + ", ".join(f"{k} {v}" for k, v in self.hparams["protocol"].items()))

    def on_train_start(self) -> None:
        self.progress.start()
        self.update_log.begin(self.trainer)
        self._episode_wait.begin(self.trainer)
        # Lightning begins with the end of an epoch, or leaves it out, where a checkpoint is of its last update
        metrics, self._ended_at = self._restored.get("metrics", {}), self._restored.get("ended_at", -1)
        forgotten = () if self.progress.returns else OF_EPISODES
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in metrics.items() if name not in forgotten}
        )
        if self._restored.get("is_epoch_end_due"):
            self._end_epoch()
        self._restored = {}

    @property
    def logs_now(self) -> bool:
        """Whether anyone will see what this update logs; see `UpdateLog.is_seen`."""
        return self.update_log.is_seen(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if isinstance(batch.payload, Gradients):
            sent = batch.payload.loss_terms
            self._end_update(batch, lambda: LossTerms(*sent.where(sent.isfinite(), torch.nan).nanmean(dim=0)))
            self._apply_gradients()
            return None
        observations, actions, returns = batch.payload
        logits, values = self.forward(observations)
        terms = self.loss(logits, values, actions, returns, self.global_step)
        detached = LossTerms._make(term.detach() for term in terms)
        self._end_update(batch, lambda: detached)
        return terms.loss_total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.update_log.end_batch(self)

    def on_train_end(self) -> None:
        self.update_log.end(self)
        self._episode_wait.end()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])

        def find() -> dict[str, float | Tensor]:
            return {"grad_norm": norm, "skipped_updates": float(self.skipped_updates)}

        self.update_log.keep("clipping", find)
        if not norm.isfinite():
            self._skip_update(norm)
        else:
            self._skipped_in_a_row = 0
            if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
                torch.nn.utils.clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)  # known already
            else:
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.update_log.add(self, "clipping", find)

    def on_train_epoch_end(self) -> None:
        self._episode_wait.hold(until=bool(self.progress.returns))
        if self._is_epoch_end_due:
            self._end_epoch()

    @property
    def _is_epoch_end_due(self) -> bool:
        return self.trainer.is_last_batch and self.trainer.fit_loop.total_batch_idx != self._ended_at

    def _end_epoch(self) -> None:
        self._ended_at = self.trainer.fit_loop.total_batch_idx
        if not self.automatic_optimization:
            self._step_schedulers("epoch", self.current_epoch)
        for config in self.trainer.lr_scheduler_configs:
            monitor, metrics = monitor_of(config.scheduler), self.trainer.callback_metrics
            if monitor is None or config.reduce_on_plateau:  # which Lightning steps
                continue
            if monitor not in metrics:
                raise MisconfigurationException(
                    f"lr_scheduler.monitor {monitor} is not logged; take one of {', '.join(metrics)}"
                )
            self.lr_scheduler_step(config.scheduler, metrics[monitor])

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        if metric is None:
            if monitor_of(scheduler) is None:  # else `on_train_epoch_end` sees to it
                scheduler.step()
        elif self.progress.returns or math.isfinite(metric):  # else no episode has ended: no bad epoch
            scheduler.step(metric)

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
        self._episode_wait.hold(until=bool(self.progress.returns))
        self.log_dict({f"val/{name}": value for name, value in self.evaluated.pop().items()})

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{name}": value for name, value in self.evaluated.pop(with_interval=True).items()})

    def predict_step(self, batch: Tensor) -> Prediction:
        """Observations [B, *observation_shape] → the probability of each action, and the value."""
        logits, values = self.forward(batch)
        require_choice(logits, self._network_name)
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
        checkpoint["progress"] = self.progress.state_dict() | {
            "skipped_updates": self.skipped_updates,
        }
        if self._is_in("fit"):
            checkpoint["progress"] |= {
                "metrics": {name: float(value) for name, value in self.trainer.callback_metrics.items()},
                "ended_at": self._ended_at,
                "is_epoch_end_due": self._is_epoch_end_due,
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs, ours = checkpoint.get("hyper_parameters", {}), self.hparams
        for name in ("observation_shape", "num_actions"):
            if name in theirs and _plain(theirs[name]) != _plain(ours[name]):
                raise CheckpointMismatch(
                    f"the checkpoint was trained with {name} {theirs[name]}, this run has {ours[name]}; use the config "
                    "that made it, which the command line saves as config.yaml in the folder of the first logger"
                )
        saved, own = checkpoint["state_dict"], self.state_dict()
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in own.items()}:
            raise CheckpointMismatch(
                f"the checkpoint holds another network than {type(self.net).__name__} as configured here "
                f"(network {self.hparams.get('network')}); use the config that made it"
            )
        self._take_bounds(theirs.get("protocol"))
        if "progress" in checkpoint:
            self.progress.load_state_dict(checkpoint["progress"])
            self.skipped_updates = checkpoint["progress"].get("skipped_updates", 0)
        if self._is_in("fit"):
            self._restored = checkpoint.get("progress", {})
        if self._is_in("fit", None) and ours["protocol"] and theirs.get("protocol"):
            self._go_on_with(ours["protocol"], theirs["protocol"])
        if self._is_in("fit") and "optimizer_states" in checkpoint and "optimizer" in theirs:
            self._follow_specs(checkpoint)

    def _begin_evaluation(self, command: str) -> None:
        self.evaluated.reset()  # an evaluation that was interrupted leaves episodes
        if self.trainer.state.fn != "fit" and self.is_untrained:
            rank_zero_warn(
                f"{command} plays untrained weights: no checkpoint was given and this module has not been trained; "
                f'give one: --ckpt_path FILE, or trainer.{command}(…, ckpt_path="FILE") in a script'
            )

    @property
    def _network_name(self) -> str:
        return f"network {type(self.net).__name__}"

    @property
    def _has_own_bounds(self) -> bool:
        """Whether nobody but this package decides how the network scales observations."""
        if not isinstance(self.net, AtariA2C | MLP) or "network" not in self.hparams:  # a module that was given
            return False
        init_args = (self.hparams["network"] or {}).get("init_args") or {}
        return init_args.get("observation_bounds") is None

    def _require_same_spaces(self, protocol: Any) -> None:
        ours = tuple(self.hparams["observation_shape"]), int(self.hparams["num_actions"])
        if ours != (protocol.observation_shape, protocol.num_actions):
            raise MisconfigurationException(
                f"the module was made for observations {ours[0]} and {ours[1]} actions, but {protocol.env_id} has "
                f"observations {protocol.observation_shape} and {protocol.num_actions} actions; make it with "
                "A3CModule.for_data(data)"
            )

    def _play(self, protocol: dict[str, Any]) -> None:
        """Take note that `protocol` is what is played now, whatever the module was made for."""
        own: dict[str, Any] = self.hparams["protocol"] or {}
        dtype = self.observation_dtype
        changed = [
            f"{name} {own[name]} instead of {value}"
            for name, value in protocol.items()
            if name in own and name not in _BOUNDS and str(_plain(own[name])) != str(_plain(value))
        ]
        if changed and self.trainer.state.fn == "fit" and self.progress.env_steps:
            self._go_on_with(protocol, own)
        elif changed:
            rank_zero_warn(f"the module was made for {', '.join(changed)}; what the data play counts")
        # what has learned with a scale keeps it
        is_new = self.trainer.state.fn == "fit" and not self.progress.env_steps and self._has_own_bounds
        self.hparams["protocol"] = protocol
        self._take_bounds(protocol if is_new else own)
        self.frame_skip = protocol["frame_skip"]
        if self.observation_dtype != dtype:
            shape, num_actions = self.hparams["observation_shape"], self.hparams["num_actions"]
            check_network(self.net, shape, num_actions, self.observation_dtype, _bounds(self.hparams["protocol"]))

    def _take_bounds(self, protocol: dict[str, Any] | None) -> None:
        """Scale observations as a module of this protocol does, and keep that in checkpoints."""
        bounds = {name: value for name, value in (protocol or {}).items() if name in _BOUNDS}
        if self.hparams["protocol"] is not None:
            others = {name: value for name, value in self.hparams["protocol"].items() if name not in _BOUNDS}
            self.hparams["protocol"] = others | bounds
        if self._has_own_bounds:
            assert isinstance(self.net, AtariA2C | MLP)
            self.net.set_bounds(_bounds(protocol))

    def _tell_training_differences(self) -> None:
        statistics, is_random = training_differences(
            self.net, self.hparams["observation_shape"], self.observation_dtype, _bounds(self.hparams["protocol"])
        )
        told = []
        if statistics and not self.automatic_optimization:
            told.append(
                "in gradient mode workers differentiate in evaluation mode, so its statistics "
                f'({", ".join(statistics[:3])}) never change; use mode="data", or layers without statistics'
            )
        if is_random and not self.automatic_optimization:
            told.append("in gradient mode workers differentiate in evaluation mode, so Dropout is never applied")
        elif is_random:
            told.append(
                "workers act in evaluation mode, without Dropout, while the loss is computed with it: what is learned "
                "from was not chosen by the policy that learns"
            )
        if told:
            rank_zero_warn(f"{self._network_name}: {'; '.join(told)}")

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
        self._step_schedulers("step", self.trainer.fit_loop.batch_idx)

    def _step_schedulers(self, interval: str, index: int) -> None:
        """Those of the interval `index` of which has ended, as Lightning does in automatic optimization."""
        for config in self.trainer.lr_scheduler_configs:
            if config.interval != interval or (index + 1) % config.frequency:
                continue
            if not isinstance(config.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):  # which needs a metric
                self.lr_scheduler_step(config.scheduler, None)

    def _end_update(self, batch: Batch, find_terms: Callable[[], LossTerms]) -> None:
        if batch.report is not self._counted:  # some optimizers have losses computed again
            self._counted = batch.report
            self.progress.update(batch.report)
        lag, fill, restarts = batch.policy_lag, batch.queue_fill, batch.worker_restarts  # the payload is to be freed

        def find() -> dict[str, float | Tensor]:
            return {
                **self._episode_wait.placeholders,
                **find_terms()._asdict(),
                **self.progress.metrics(self.frame_skip),
                "policy_lag": lag.float().mean(),
                "queue_fill": fill.mean(),
                "worker_restarts": restarts.float().mean(),
            }

        self.update_log.keep("update", find)
        self.update_log.log_if_seen(self, self.logs_now)

    def _is_in(self, *functions: str | None) -> bool:
        """Whether the trainer's function is one of these; None stands for no trainer."""
        try:
            return self.trainer.state.fn in functions
        except RuntimeError:  # how Lightning says that there is none
            return None in functions

    def _go_on_with(self, protocol: dict[str, Any], before: dict[str, Any]) -> None:
        """Count only episodes of `protocol` towards the mean, if what was played before is something else."""
        common = [name for name in protocol if name in before]
        changed = [name for name in common if _plain(protocol[name]) != _plain(before[name])]
        if not changed or not self.progress.env_steps:
            return
        self.progress.forget_episodes()
        rank_zero_warn(
            "what was trained on so far is something else than what is played now ("
            + ", ".join(f"{name} {before[name]} → {protocol[name]}" for name in changed)
            + "): weights and counts go on, and the mean of the last episodes begins anew"
        )

    def _follow_specs(self, checkpoint: dict[str, Any]) -> None:
        if type(self).configure_optimizers is not A3CModule.configure_optimizers:
            return
        try:
            changes = follow(checkpoint, _specs(checkpoint["hyper_parameters"]), _specs(self.hparams))
        except ValueError as error:
            raise MisconfigurationException(str(error)) from error
        if changes.starts_afresh:
            rank_zero_warn(f"the optimizer begins without the checkpoint's moments: {', '.join(changes.differences)}")
        elif changes.differences:
            rank_zero_info(f"Optimizing otherwise than the checkpoint: {', '.join(changes.differences)}")


class _LogLastUpdate(pl.Callback):
    """Has an exception not hide the last update from loggers, and from the names of checkpoints saved for it."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, A3CModule)
        pl_module.on_train_end()


def _specs(hyperparameters: Mapping[str, Any]) -> Specs:
    return Specs(hyperparameters["optimizer"] or SEED_OPTIMIZER, hyperparameters.get("lr_scheduler"))


def _bounds(protocol: dict[str, Any] | None) -> Bounds | None:
    """Of observations; infinite where their elements have no common ones, None where the protocol does not tell."""
    if protocol is None or not all(name in protocol for name in _BOUNDS):
        return None
    low, high = (protocol[name] for name in _BOUNDS)
    return (-math.inf, math.inf) if low is None or high is None else (low, high)


def _plain(value: Any) -> Any:
    """With lists for tuples, as files have them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
