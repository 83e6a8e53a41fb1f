"""Bringing a module, its trainer and its data together before a run: what they must agree on, and who follows whom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_a3c.learning.agents import check_agent, chooses_bounds, set_bounds
from lightning_a3c.learning.gradient_parallel import GradientParallel
from lightning_a3c.learning.optimizers import specs_of
from lightning_a3c.learning.task_following import count_anew, require_same_spaces, task_changes
from lightning_a3c.learning.tasks import TaskDict, observation_bounds
from lightning_a3c.learning.trainer_checks import needs_all_parameters, validate_fit, validate_trainer
from lightning_a3c.rl.network_checks import training_differences, unused_parameters

if TYPE_CHECKING:
    from lightning_a3c.learning.module import A3CModule


def prepare_run(module: A3CModule) -> list[pl.Callback]:
    """Validate the trainer and the data, follow the data's task, and set the mode of a `fit`.

    Returns:
        The callbacks that the run needs and the trainer lacks.

    Raises:
        MisconfigurationException: something does not go with something else.
    """
    trainer = module.trainer
    validate_trainer(trainer)
    data = getattr(trainer, "datamodule", None)
    task = getattr(data, "task", None)
    if task is not None:
        require_same_spaces(module.hparams, task.to_dict())
        _follow_task(module, task.to_dict())
    if trainer.state.fn != "fit":
        return []
    missing = _choose_mode(module)
    validate_fit(trainer, module.net)
    follow_targets(module, data)
    _check_network(module)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if not any(isinstance(callback, _LogLastUpdate) for callback in callbacks):
        missing.append(_LogLastUpdate())
    return missing


def follow_targets(module: A3CModule, data: Any) -> None:
    """Compute the targets that `data` asks for, and check that it sends what the network learns from."""
    if hasattr(data, "vtrace_in_use"):
        data.require_whole_sequences(module.net)
        module.loss = replace(module.loss, vtrace=data.vtrace_in_use)
        try:
            module.loss.require_targets()
        except ValueError as error:
            raise MisconfigurationException(str(error)) from error


def _choose_mode(module: A3CModule) -> list[pl.Callback]:
    """Set the mode from `mode` and the trainer's callbacks; returns the callback that `mode` implies, if missing."""
    mode = module.hparams["mode"]
    callbacks: list[pl.Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    has_callback = any(isinstance(callback, GradientParallel) for callback in callbacks)
    if mode == "data" and has_callback:
        raise MisconfigurationException(
            'GradientParallel needs gradient mode, got A3CModule(mode="data"); leave model.mode out, or remove the '
            "callback"
        )
    module.automatic_optimization = mode != "gradient" and not has_callback
    if not module.automatic_optimization and specs_of(module.hparams).optimizer["class_path"].endswith(".LBFGS"):
        raise MisconfigurationException(
            "optimizer LBFGS computes losses again, which gradient mode cannot; take another"
        )
    return [GradientParallel()] if mode == "gradient" and not has_callback else []


def _follow_task(module: A3CModule, task: TaskDict) -> None:
    """Note that `task` is what is played now, whatever the module was made for."""
    own: TaskDict = module.hparams["task"] or {}
    dtype, is_fit = module.observation_dtype, module.trainer.state.fn == "fit"
    changed = [f"{name} {own[name]} instead of {task[name]}" for name in task_changes(own, task)]
    if changed and is_fit and module.progress.env_steps:
        count_anew(module.progress, own, task)
    elif changed:
        rank_zero_warn(f"the module was made for {', '.join(changed)}; the data module's task is played")
    is_new = is_fit and not module.progress.env_steps  # a network that has learned with a scale keeps it
    takes_bounds = is_new and chooses_bounds(module.net, module.hparams)
    module.hparams["task"] = task
    set_bounds(module.net, module.hparams, task if takes_bounds else own)
    module.frame_skip = task["frame_skip"]
    if module.observation_dtype != dtype:
        check_agent(module.net, module.hparams["observation_shape"], module.hparams["num_actions"], task)


def _check_network(module: A3CModule) -> None:
    """Refuse a network that cannot be trained in this run, and warn of one that workers use otherwise."""
    hparams, in_gradient_mode = module.hparams, not module.automatic_optimization
    if module.overrides_forward:
        rank_zero_warn(
            f"{type(module).__name__} overrides forward, but workers act with its network alone, not with what "
            "forward adds; put that into the network"
        )
    try:
        check_agent(module.net, hparams["observation_shape"], hparams["num_actions"], hparams["task"])
    except ValueError as error:  # the network was replaced or changed since the module was made
        raise MisconfigurationException(str(error)) from error
    inputs = hparams["observation_shape"], module.observation_dtype, observation_bounds(hparams["task"])
    differences = training_differences(module.net, *inputs)
    if not in_gradient_mode and needs_all_parameters(module.trainer):
        unused = unused_parameters(module.net, *inputs)
        if unused:
            raise MisconfigurationException(
                f"{module.network_name} has parameters that neither logits nor values depend on "
                f"({', '.join(unused[:3])}), for which strategy ddp would wait; take "
                "trainer.strategy ddp_find_unused_parameters_true, or remove them"
            )
    if warnings := differences.warnings(in_gradient_mode):
        rank_zero_warn(f"{module.network_name}: {'; '.join(warnings)}")


class _LogLastUpdate(pl.Callback):
    """Logs the last update when an exception ends training, before checkpoints are saved for it."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        peers = getattr(pl_module, "peers", None)
        if peers is not None:
            peers.leave()
        pl_module.on_train_end()
