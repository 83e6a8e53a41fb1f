"""The agent as a LightningModule: network, combined loss, optimizer. Steps no environment and knows no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.parsing import AttributeDict
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_a3c.environments.encoding import TaskEncoding
from lightning_a3c.environments.task import in_words
from lightning_a3c.learning.agents import (
    AgentOptions,
    build_agent,
    inner_net,
    set_bounds,
)
from lightning_a3c.learning.checkpoints import AtomicCheckpointIO
from lightning_a3c.learning.export import export_onnx
from lightning_a3c.learning.forward_passes import after_sequences, one_step
from lightning_a3c.learning.hyper_parameters import INTERNAL, plain
from lightning_a3c.learning.module_arguments import check_arguments
from lightning_a3c.learning.non_finite import NonFiniteCounter
from lightning_a3c.learning.optimizers import follow, specs_of
from lightning_a3c.learning.peers import Peers, peers_of
from lightning_a3c.learning.progress import Progress
from lightning_a3c.learning.restoring import require_same_agent, task_of
from lightning_a3c.learning.run_preparation import follow_targets, prepare_run
from lightning_a3c.learning.schedules import EpochSchedules, schedule_config, step_counting_schedules, step_schedule
from lightning_a3c.learning.source_lags import SourceLags
from lightning_a3c.learning.summary import EpisodeSummary
from lightning_a3c.learning.task_following import count_anew
from lightning_a3c.learning.tasks import TaskDict
from lightning_a3c.learning.trainer_checks import (
    end_started_learners,
)
from lightning_a3c.learning.update_log import OF_EPISODES, EpisodeMetricGuard, UpdateLog
from lightning_a3c.rl.action_spec import ActionSpec, DiscreteSpec, is_continuous
from lightning_a3c.rl.agent_network import AgentNetwork, Observations, action_spec_of
from lightning_a3c.rl.losses import A2CLoss, LossTerms
from lightning_a3c.rl.memory import Memory, is_recurrent, outputs_of, state_size_of
from lightning_a3c.rl.network_checks import evaluating
from lightning_a3c.rl.networks import class_path_of, orthogonal_init
from lightning_a3c.rl.policies import choose_actions, require_distribution
from lightning_a3c.rl.types import Batch, Gradients, Prediction

_OF_POLICY_LAG = ("policy_kl", "importance_ratio", "clipped_ratios")  # NaN where they are unknown

# Checkpoints hold specs, and specs within them, as plain dicts. jsonargparse rebuilds modules that the command line has
# made; it leaves a dict alone where a type says dict, and where it says Any only makes a Namespace of a spec.
Spec = dict[str, dict[str, dict[str, Any] | list[dict[str, Any]] | Any] | Any]

DEFAULT_CLIP = 0.5
"""Largest norm of a gradient in data mode where the trainer sets none; unclipped, a policy may collapse."""


class A3CModule(pl.LightningModule):
    """Actor-critic learner for data-parallel and gradient-parallel training.

    In data mode gradients are clipped to `trainer.gradient_clip_val`, or to the norm 0.5 where that is None; 0 clips
    nothing. In gradient mode `GradientParallel` clips.

    >>> module = A3CModule(observation_shape=(4,), num_actions=2)
    >>> action = module.decode(module.act(module.encode([0.0, 0.0, 0.0, 0.0]))[0])

    Args:
        observation_shape: shape of one observation.
        num_actions: outputs of the policy: one for each discrete action, one mean for each Box component.
        task: description of the environment, as `Task.to_dict` gives it; kept in checkpoints. Its `frame_skip` turns
            env steps into frames.
        network: None, a class path with init_args, a class or function, or a module; see `build_network`. A checkpoint
            cannot rebuild a module, nor a class that cannot be imported: pass it to `load_from_checkpoint` again.
        orthogonal: initialise orthogonally instead of with PyTorch's default.
        entropy_weight: β; None takes 0.01, and 0 for actions that are, or have, real numbers.
        value_weight: weight of the critic's error.
        final_entropy_weight: where β goes on a straight line; None keeps it constant.
        entropy_updates: updates until β is there; required with `final_entropy_weight`.
        optimizer: `{"class_path": …, "init_args": {…}}`; the default is fused Adam, lr 1e-3, eps 1e-3.
        lr_scheduler: likewise, or None. Stepped after every update, unless it has a `monitor`.
        max_skipped_in_a_row: data mode skips an update whose gradient is NaN or infinite. This many with no good one
            between them end training.
        mode: "data" learns from transitions by automatic optimization; "gradient" applies the workers' gradients, as
            the `GradientParallel` callback sums them. None follows the trainer: gradient mode if it has that callback.
        normalize_observations: bring float observations to mean 0 and variance 1 by running statistics of all workers.
        normalize_rewards: divide the rewards that are learned from by the running standard deviation of returns.
        squash_actions: bring Box actions into their bounds by tanh instead of clipping them.
        bound_means: bring the means of Box actions into their bounds by tanh, where both bounds are finite; actions
            drawn around them are still clipped.
        log_std: whether the log-stds of Box actions are a "parameter" each or outputs of the network, a "head".
        initial_log_std: where a "parameter" starts.
        action_spec: a distribution of your own instead of the usual one, `{"class_path": …, "init_args": {…}}`; see
            `ActionSpec`.
        protocol: the former name of `task`, so that earlier checkpoints load.

    Raises:
        ValueError: the network does not fit the spaces, or an argument is out of range.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        task: dict[str, list[Spec] | Any] | None = None,
        # not NetworkFactory: jsonargparse would turn the dict that the command line saves into a function
        network: Spec | nn.Module | Any = None,
        orthogonal: bool = False,
        entropy_weight: float | None = None,
        value_weight: float = 1.0,
        final_entropy_weight: float | None = None,
        entropy_updates: int | None = None,
        optimizer: Spec | None = None,
        lr_scheduler: Spec | None = None,
        max_skipped_in_a_row: int = 10,
        mode: Literal["data", "gradient"] | None = None,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        squash_actions: bool = False,
        log_std: Literal["parameter", "head"] = "parameter",
        initial_log_std: float = -0.5,
        action_spec: Spec | None = None,
        protocol: dict[str, list[Spec] | Any] | None = None,
        bound_means: bool = False,
    ) -> None:
        super().__init__()
        task = task or protocol
        check_arguments(
            mode=mode,
            log_std=log_std,
            specs={"optimizer": optimizer, "lr_scheduler": lr_scheduler, "action_spec": action_spec}
            | ({"network": network} if isinstance(network, dict) else {}),
            numbers={
                "entropy_weight": entropy_weight,
                "value_weight": value_weight,
                "final_entropy_weight": final_entropy_weight,
                "initial_log_std": initial_log_std,
            },
            switches={
                "orthogonal": orthogonal,
                "normalize_observations": normalize_observations,
                "normalize_rewards": normalize_rewards,
                "squash_actions": squash_actions,
                "bound_means": bound_means,
            },
            max_skipped_in_a_row=max_skipped_in_a_row,
        )
        observation_shape, num_actions = tuple(map(int, observation_shape)), int(num_actions)  # often NumPy's
        if callable(network) and not isinstance(network, nn.Module) and (class_path := class_path_of(network)):
            network = {"class_path": class_path}  # a checkpoint can keep this
        self.save_hyperparameters(ignore=["protocol", "network"] if callable(network) else ["protocol"])
        options = AgentOptions(
            normalize_observations,
            normalize_rewards,
            squash_actions,
            log_std == "head",
            initial_log_std,
            action_spec,
            bound_means,
        )
        self.agent_options = options
        self.net = build_agent(observation_shape, num_actions, task, network, options)
        if orthogonal:
            orthogonal_init(inner_net(self.net))
        spec = action_spec_of(self.net, num_actions)
        if entropy_weight is None:
            entropy_weight = 0.0 if is_continuous(spec) else 0.01
        custom_spec = None if spec == DiscreteSpec(num_actions) else spec
        self.loss = A2CLoss(
            entropy_weight, value_weight, final_entropy_weight, entropy_updates, action_spec=custom_spec
        )
        self.progress = Progress()
        self._lags = SourceLags()
        self.update_log = UpdateLog()
        self._metric_guard = EpisodeMetricGuard()
        self.peers: Peers | None = None  # the other learners, while a trainer runs
        self._averaged: set[nn.Parameter] = set()  # those whose gradients DDP averages, if there are peers
        self._counted: object = None  # the stats of the last update
        self._epoch_schedules = EpochSchedules()
        self._restored: dict[str, Any] = {}  # progress in the checkpoint that this run resumes from
        self.automatic_optimization = mode != "gradient"  # `configure_callbacks` decides where mode is None
        played: TaskDict = task or {}
        self.frame_skip: int = played.get("frame_skip", 1)
        self._skipped = NonFiniteCounter(max_skipped_in_a_row)
        self.evaluated = EpisodeSummary()
        self._encoding_of: tuple[TaskDict | None, TaskEncoding] | None = None  # and the task that it is of

    @classmethod
    def for_data(cls, data: Any, **kwargs: Any) -> Self:
        """A module that fits the environment of a `CollectorDataModule`."""
        task = data.task
        module = cls(task.observation_shape, task.num_actions, task=task.to_dict(), **kwargs)
        follow_targets(module, data)
        return module

    @property
    def action_spec(self) -> ActionSpec:
        """The family of the actions."""
        return action_spec_of(self.net, self.hparams["num_actions"])

    @property
    def skipped_updates(self) -> int:
        """Updates left out because their gradient was NaN or infinite."""
        return self._skipped.total

    @property
    def observation_dtype(self) -> torch.dtype:
        """The task's observation dtype; float32 without a task."""
        dtype: torch.dtype = getattr(torch, (self.hparams["task"] or {}).get("observation_dtype", "float32"))
        return dtype

    @property
    def hparams_initial(self) -> Any:
        """The arguments, for loggers, with the task that is really played, and in `fit` those of the data module."""
        hparams = super().hparams_initial
        hparams.update(task=self.hparams["task"])
        try:
            trainer = self.trainer
        except RuntimeError:  # none yet
            data: Any = None
        else:  # only what a run learns with: MLflow refuses other values where `test` follows with the same logger
            data = getattr(trainer, "datamodule", None) if trainer.state.fn == "fit" else None
        if hasattr(data, "values_in_force"):
            hparams.update(data=data.values_in_force)
        values = plain({name: value for name, value in hparams.items() if name not in INTERNAL})
        return AttributeDict(values)

    def forward(self, observations: Observations, *memory: Tensor) -> tuple[Tensor, ...]:
        """Observations → parameters of the action distribution [B, P], values [B]; bfloat16 within autocast.

        Observations are [B, *observation_shape], or for Dict and Tuple spaces also a dict of tensors by part. A network
        with memory takes sequences, a state and starts, and returns a state too, as `rl.memory` says.
        """
        results: tuple[Tensor, ...] = self.net(observations, *memory)
        return results

    @property
    def is_recurrent(self) -> bool:
        """Whether the network has memory, so that `act` takes and returns a state."""
        return is_recurrent(self.net)

    def encode(self, observation: Any, info: Mapping[str, Any] | None = None) -> Tensor:
        """What `env.reset` and `env.step` return → observations [B, *observation_shape], as `act` and `forward` take.

        The environment must give what the agent was trained on: put the wrappers in `hparams["task"]["wrappers"]`
        around it, and the preprocessing of Atari. Normalisation is part of the network.

        Args:
            observation: one, which gives B = 1, or those of a Gymnasium vector environment.
            info: what the environment returned with it. Needed where the action mask does not come with the
                observation: `info["action_mask"]` is read, also where training calls a method for it.

        Raises:
            ValueError: the observation does not fit the task, or the mask is missing or allows nothing.
        """
        return torch.from_numpy(self._encoding().encode(observation, info)).to(self.device)

    def decode(self, action: Any) -> Any:
        """An action of `act` → what `env.step` takes.

        Args:
            action: one of them, `act(…)[0]`, for an environment; all of them for a Gymnasium vector environment.

        Raises:
            ValueError: its shape is neither that of an action nor that of a batch.
        """
        return self._encoding().decode(action.cpu() if isinstance(action, Tensor) else action)

    def _encoding(self) -> TaskEncoding:
        task = self.hparams["task"]
        if self._encoding_of is None or self._encoding_of[0] is not task:  # the data module's task may replace it
            names = ("observation_shape", "num_actions")
            self._encoding_of = task, TaskEncoding(task or {name: self.hparams[name] for name in names})
        return self._encoding_of[1]

    @torch.no_grad()
    def act(
        self,
        observations: Observations,
        greedy: bool = False,
        state: Tensor | None = None,
        starts: Tensor | Sequence[bool] | None = None,
    ) -> Any:
        """Observations → actions in the environment's units, always chosen in evaluation mode.

        Args:
            observations: as `encode` gives them, on any device, or a dict of tensors by part.
            greedy: take the likeliest actions instead of sampling.
            state: what the last call returned, for a network with memory; None begins B episodes.
            starts: bool [B], where an episode begins with these observations, so that the state is forgotten.

        Returns:
            int64 [B] for Discrete, float32 [B, *action shape] for Box, otherwise rows of numbers [B, L]. `decode`
            turns them into what `env.step` takes. With memory, a pair of these and the state for the next call.

        Raises:
            ValueError: the network masks every action, or gives NaN, or a state is given to one without memory.
        """
        if (state is not None or starts is not None) and not self.is_recurrent:
            raise ValueError(f"{self.network_name} has no memory: call act without state and starts")
        on_device: Observations = (
            {name: tensor.to(self.device) for name, tensor in observations.items()}
            if isinstance(observations, Mapping)
            else observations.to(self.device)
        )
        with evaluating(self):
            parameters, _, new_state = one_step(self.forward, state_size_of(self.net), on_device, state, starts)
        spec = self.action_spec
        actions = spec.to_env(choose_actions(parameters.float(), greedy, spec=spec, network=self.network_name))
        shape = tuple((self.hparams["task"] or {}).get("action_shape") or ())
        shaped = actions.view(len(actions), *shape) if shape else actions
        return (shaped, new_state) if self.is_recurrent else shaped

    def configure_optimizers(self) -> OptimizerLRScheduler:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer, scheduler = specs_of(self.hparams).build(parameters)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule_config(scheduler, self.automatic_optimization)}

    def configure_callbacks(self) -> list[pl.Callback]:
        """Validate the trainer and the data, follow the data's task, and add the callbacks that are missing.

        Lightning calls this hook first, in every process, before it writes any file.
        """
        try:
            return prepare_run(self)
        except Exception:
            end_started_learners(self.trainer)  # none of them has come as far, so the error appears once
            raise

    def setup(self, stage: str) -> None:
        self.peers = peers_of(self.trainer)
        if self.peers is not None:
            self.peers.begin()
            self._averaged = {parameter for parameter in self.parameters() if parameter.requires_grad}
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # the user chose no other
            self.trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def teardown(self, stage: str) -> None:
        self.peers = None
        self._averaged = set()

    def on_fit_start(self) -> None:
        if self.hparams["task"]:
            rank_zero_info(f"Playing {in_words(self.hparams['task'])}")

    def on_train_start(self) -> None:
        self.progress.start()
        self._lags.begin(self.trainer)
        self.update_log.begin(self.trainer)
        self._metric_guard.begin(self.trainer)
        metrics = self._restored.get("metrics", {})
        forgotten = () if self.progress.returns else OF_EPISODES
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in metrics.items() if name not in forgotten}
        )
        self._epoch_schedules.resume(self._restored, self.trainer, self.lr_scheduler_step)
        self._restored = {}

    @property
    def logs_now(self) -> bool:
        """Whether anyone reads the metrics of this update; see `UpdateLog.is_seen`."""
        return self.update_log.is_seen(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if isinstance(batch.payload, Gradients):
            sent = batch.payload.loss_terms
            self._end_update(batch, lambda: LossTerms(*sent.where(sent.isfinite(), torch.nan).nanmean(dim=0)))
            self._apply_gradients()
            return None
        parameters, values = outputs_of(self.forward, batch.payload, self.is_recurrent)
        terms = self.loss.of(parameters, values, batch.payload, self.global_step)
        detached = LossTerms._make(term.detach() for term in terms)
        self._end_update(batch, lambda: detached)
        return terms.loss_total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.peers is not None:
            self.peers.end_update()
        self.update_log.end_batch(self)

    def on_train_end(self) -> None:
        self.update_log.end(self)
        self._metric_guard.end()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if self.peers is not None:
            self._require_averaged()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

        def find() -> dict[str, float | Tensor]:
            return {"grad_norm": norm, "skipped_updates": float(self.skipped_updates)}

        self.update_log.keep("clipping", find)
        if not norm.isfinite():
            self._skipped.leave_out(f"updates with the gradient norm {norm:g}")
            for parameter in parameters:
                parameter.grad = None  # the optimizer skips such a parameter and keeps its state
        else:
            self._skipped.accept()
            gradient_clip_val = DEFAULT_CLIP if gradient_clip_val is None else gradient_clip_val
            if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
                torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)  # reuses the norm
            else:
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.update_log.add(self, "clipping", find)

    def on_train_epoch_end(self) -> None:
        self._metric_guard.hold(until=bool(self.progress.returns))
        if self._epoch_schedules.is_due(self.trainer):
            self._epoch_schedules.end_epoch(self.trainer, self.lr_scheduler_step)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        step_schedule(scheduler, metric, self.global_step, has_episodes=bool(self.progress.returns))

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
        self._metric_guard.hold(until=bool(self.progress.returns))
        self._log_evaluated({f"val/{name}": value for name, value in self.evaluated.pop().items()})

    def on_test_epoch_end(self) -> None:
        self._log_evaluated({f"test/{name}": value for name, value in self.evaluated.pop(with_interval=True).items()})

    def predict_step(self, batch: Tensor) -> Prediction:
        """Observations [B, *observation_shape] → probabilities of discrete actions, values, likeliest actions.

        A network with memory takes whole sequences [B, T, *observation_shape], from the beginning of an episode on, and
        gives the prediction after each last step.
        """
        shape = tuple(self.hparams["observation_shape"])
        parameters, values = after_sequences(self.forward, state_size_of(self.net), batch, shape, self.network_name)
        require_distribution(parameters, self.network_name)
        spec, parameters = self.action_spec, parameters.float()
        is_discrete = isinstance(spec, DiscreteSpec)
        probabilities = parameters.softmax(dim=1) if is_discrete else parameters[:, :0]
        return Prediction(probabilities, values.float(), spec.to_env(spec.mode(parameters)))

    def export_onnx(self, path: str | Path) -> None:
        """Write the network for onnxruntime: `observations` in, `logits` and `values` out, any batch size.

        Observations of several parts go in by part, under the names of the parts. A network with memory makes one
        step: `state` [B, H] and `starts` [B] go in too, and `next_state` comes out.

        `observations` have the `observation_dtype`. Needs the packages onnx and onnxscript
        (`pip install "lightning-a3c[onnx]"`).

        Raises:
            ModuleNotFoundError: one of them is missing.
            NotWritable: `path` cannot be written.
        """
        observations = torch.zeros(2, *self.hparams["observation_shape"], dtype=self.observation_dtype)
        observations = observations.to(self.device)
        unpacked = self.net.unpack(observations) if isinstance(self.net, AgentNetwork) else observations
        memory = Memory.empty(2, state_size_of(self.net)) if self.is_recurrent else None
        export_onnx(self, path, unpacked, memory and Memory(*(tensor.to(self.device) for tensor in memory)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = self.progress.state_dict() | {
            "skipped_updates": self.skipped_updates,
            "learners": 1 if self.peers is None else self.peers.count,
        }
        if self._is_in("fit"):
            checkpoint["progress"] |= {
                "metrics": {name: float(value) for name, value in self.trainer.callback_metrics.items()},
            } | self._epoch_schedules.state_dict(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs, ours = checkpoint.get("hyper_parameters", {}), self.hparams
        require_same_agent(checkpoint, self)
        trained_on = task_of(theirs)
        set_bounds(self.net, ours, trained_on)
        if "progress" in checkpoint:
            self.progress.load_state_dict(checkpoint["progress"])
            self._skipped.total = checkpoint["progress"].get("skipped_updates", 0)
        if self._is_in("fit"):
            self._restored = checkpoint.get("progress", {})
            self._compare_learners(self._restored.get("learners", 1))
        if self._is_in("fit", None) and ours["task"] and trained_on:
            count_anew(self.progress, trained_on, ours["task"])
        if self._is_in("fit") and "optimizer_states" not in checkpoint:
            checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [], []
            rank_zero_warn("the checkpoint holds weights only: the optimizer and the count of updates begin anew")
        elif self._is_in("fit") and "optimizer" in theirs:
            self._followspecs_of(checkpoint)

    def _begin_evaluation(self, command: str) -> None:
        self.evaluated.reset()  # an interrupted evaluation leaves episodes
        if self.trainer.state.fn != "fit" and self.is_untrained:
            rank_zero_warn(
                f"{command} plays untrained weights: no checkpoint was given and this module has not been trained; "
                f'give one: --ckpt_path FILE, or trainer.{command}(…, ckpt_path="FILE") in a script'
            )

    def _log_evaluated(self, values: dict[str, Tensor | float]) -> None:
        self.log_dict(values, sync_dist=self.peers is not None)  # equal in all learners, but Lightning cannot know

    @property
    def overrides_forward(self) -> bool:
        """Whether a subclass computes something else than its network, which workers would not know."""
        return type(self).forward is not A3CModule.forward

    @property
    def network_name(self) -> str:
        """What messages call the network."""
        return f"network {type(inner_net(self.net)).__name__}"

    def _apply_gradients(self) -> None:
        if all(parameter.grad is None for parameter in self.parameters()):
            return  # no worker sent a usable gradient
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.step()  # inside training_step, where Lightning counts it as a global step
        optimizer.zero_grad()  # frees the memory for the next sum
        step_counting_schedules(self.trainer, self.lr_scheduler_step, "step", self.trainer.fit_loop.batch_idx)

    def _end_update(self, batch: Batch, find_terms: Callable[[], LossTerms]) -> None:
        peers = self.peers
        if peers is not None:
            batch = peers.newest(batch)
        if batch.stats is not self._counted:  # some optimizers compute the loss again
            self._counted = batch.stats
            self.progress.update(batch.stats)
            self._lags.update(batch)
        lag, fill, restarts = (
            batch.policy_lag,
            batch.queue_fill,
            batch.worker_restarts,
        )  # not the payload, so it is freed

        def find() -> dict[str, float | Tensor]:
            terms = find_terms()
            if peers is not None:
                terms = LossTerms(*peers.mean(torch.stack(terms)))
            return {
                **self._metric_guard.placeholders,
                **_known(terms),
                **self.progress.metrics(self.frame_skip),
                "policy_lag": lag.float().mean(),
                **self._lags.metrics(),
                "queue_fill": fill.mean(),
                "worker_restarts": restarts.float().mean(),
            }

        self.update_log.keep("update", find)
        self.update_log.log_if_seen(self, self.logs_now)

    def _is_in(self, *functions: str | None) -> bool:
        """Whether the trainer runs one of these functions; None stands for no trainer."""
        try:
            return self.trainer.state.fn in functions
        except RuntimeError:  # there is no trainer
            return None in functions

    def _require_averaged(self) -> None:
        names = [n for n, p in self.named_parameters() if p.requires_grad and p not in self._averaged]
        if names:
            raise MisconfigurationException(
                f"{names[0]} was frozen when training began, so strategy ddp does not average its gradient over the "
                'learners; unfreeze it before training, or use mode="gradient"'
            )

    def _compare_learners(self, theirs: int) -> None:
        ours = self.trainer.world_size
        if theirs != ours:
            rank_zero_warn(
                f"the checkpoint was made by {theirs} learners, and training goes on with {ours}: with the same "
                f"data.batch_size an update learns from {ours} instead of {theirs} times as many transitions"
            )

    def _followspecs_of(self, checkpoint: dict[str, Any]) -> None:
        if type(self).configure_optimizers is not A3CModule.configure_optimizers:
            return
        try:
            changes = follow(checkpoint, specs_of(checkpoint["hyper_parameters"]), specs_of(self.hparams))
        except ValueError as error:
            raise MisconfigurationException(str(error)) from error
        if changes.starts_afresh:
            rank_zero_warn(f"the optimizer begins without the checkpoint's moments: {', '.join(changes.differences)}")
        elif changes.differences:
            rank_zero_info(f"Optimizer settings differ from the checkpoint: {', '.join(changes.differences)}")


def _known(terms: LossTerms) -> dict[str, Tensor]:
    return {name: term for name, term in terms._asdict().items() if name not in _OF_POLICY_LAG or not term.isnan()}


def require_a3c(callback: pl.Callback, module: pl.LightningModule) -> None:
    if not isinstance(module, A3CModule):
        raise MisconfigurationException(
            f"{type(callback).__name__} reads the progress of an A3CModule, got {type(module).__name__}; remove it"
        )
