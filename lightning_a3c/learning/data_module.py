"""The Lightning data module: environments, and the data that each stage of the trainer gets from them.

Knows nothing of optimizers.
"""

from __future__ import annotations

import inspect
import math
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_a3c.collection.auto import auto_device, auto_precision, auto_workers, require_usable
from lightning_a3c.collection.config import RolloutConfig, StreamConfig, Supervision, WorkerPrecision
from lightning_a3c.collection.job import CPU, CollectorJob
from lightning_a3c.collection.payloads import MakePayload, SendGradients, send_transitions
from lightning_a3c.collection.ray_cluster.config import RayCollectors
from lightning_a3c.collection.stream import CollectorDataset
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.making import training_backend
from lightning_a3c.environments.task import backend_note, describe_task, playing_notes
from lightning_a3c.learning.evaluation import EvaluationDataset
from lightning_a3c.learning.evaluation_watch import EvaluationWatch
from lightning_a3c.learning.gradient_parallel import GradientParallel
from lightning_a3c.learning.lightning_internals import leave_out_sigterm_broadcast
from lightning_a3c.learning.observation_file import read_observations
from lightning_a3c.learning.peers import Peers, SharedEvaluation, peers_of
from lightning_a3c.learning.progress import Progress
from lightning_a3c.learning.source_lags import Sources
from lightning_a3c.rl.memory import is_recurrent
from lightning_a3c.rl.network_checks import device_of
from lightning_a3c.rl.targets import TargetName, VTraceConfig
from lightning_a3c.rl.types import Batch, Gradients
from lightning_a3c.system.argument_checks import require_number, require_switch, require_whole
from lightning_a3c.system.process_wide import ProcessWideSetting

_PREDICT_CHUNK = 256  # observations at once
_LARGE_LAG = 20.0  # updates; see docs/architecture.md


def _ignore_empty_list() -> Any:
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    return warnings.filters[0]


def _stop_ignoring(entry: Any) -> None:
    if entry in warnings.filters:
        warnings.filters.remove(entry)  # type: ignore[attr-defined]  # a list, documented as a sequence


_NO_VALIDATION = ProcessWideSetting(_ignore_empty_list, _stop_ignoring)  # Lightning warns of an intended state


class CollectorDataModule(pl.LightningDataModule):
    """Training batches from parallel collectors, and evaluation episodes, for `trainer.fit`.

    Every argument is checked before a process starts.

    Args:
        env: which environment, and how many in each worker; an id stands for `EnvConfig(id)`.
        num_workers: collector processes of each learner. 0 collects in the learner's process, for debugging; "auto"
            starts one per core that this process may use, at most 8. Several learners on a machine share its cores.
        n_steps: N of the return targets; if synchronous, at most `micro_batch_size` / `env.num_envs`.
        targets: "n_step" returns, or "gae": V plus the generalised advantage over N steps, of lower variance
            and biased towards the critic; or "vtrace", which corrects for policy lag where the loss is computed. The
            windows of "vtrace" and of networks with memory end every N steps, with the sequence that is sent.
        gae_lambda: λ of "gae"; 1 gives the n-step return.
        vtrace: where "vtrace" clips importance ratios.
        discount: γ.
        micro_batch_size: transitions that a worker sends, or in gradient mode differentiates, at once.
        batch_size: transitions per update of each learner, a multiple of `micro_batch_size`.
        updates_per_epoch: length of an epoch, Lightning's unit for checkpoints and validation.
        slots_per_worker: payloads each worker may have under way, being filled or waiting. None shares the payloads of
            two updates among the workers, so that they need not wait for the learner. Fewer slots lower the policy lag.
        synchronous: collectors and learner take turns. The policy lag is 0, as in A2C, and on one machine a seed gives
            the same run every time. Slower, since one side waits for the other. Ignores `slots_per_worker`.
        worker_precision: precision of the workers' network. "bf16-true" takes half the time where the processor
            computes in bfloat16, with rounded weights; "auto" chooses it there and "32-true" elsewhere. The learner's
            precision is `trainer.precision`, or `AutoPrecision` among `trainer.plugins`.
        worker_device: where the workers' networks compute. On a GPU each worker has a copy of the weights and acts for
            all its environments at once; environments always step on the CPU. "auto" takes the learner's device,
            except that many workers in data mode stay on the CPU.
        learner_threads: PyTorch threads of the learner while workers run; None takes the cores that the workers
            leave, at least one.
        supervision: when failed workers are restarted, and when the run ends instead.
        eval_episodes: episodes that `validate` and `test` play.
        eval_policy: sample actions as in training, or take the likeliest.
        eval_max_steps: env steps after which `validate` and `test` cut off an episode, with a warning; it counts with
            its return so far. The default is ALE's limit in frames.
        predict_observations: NumPy file for `predict`: `.npy` with observations [n, *observation_shape], as
            `A3CModule.encode` gives them, or `.npz` with an array [n, ...] for each part of a Dict or Tuple observation
            (such as "player.position"), and "action_mask" for masks that come apart.
        validate_in_fit: also validate after each epoch of `fit`.
        seed: of environments and action sampling; None takes PyTorch's, as set by `seed_everything`. Asynchronous
            workers do not seed Atari games without sticky actions: ALE would load each game a second time, and
            asynchronous runs are not reproducible anyway.
        collectors: None starts the workers on this machine; `RayCollectors` in actors of a Ray cluster, `num_workers`
            of each learner in all of them together.
    """

    def __init__(
        self,
        env: EnvConfig = EnvConfig(),
        num_workers: int | Literal["auto"] = 4,
        n_steps: int = 4,
        discount: float = 0.99,
        micro_batch_size: int = 32,
        batch_size: int = 128,
        updates_per_epoch: int = 500,
        slots_per_worker: int | None = None,
        synchronous: bool = False,
        worker_precision: WorkerPrecision | Literal["auto"] = "32-true",
        worker_device: str = "cpu",
        learner_threads: int | None = None,
        supervision: Supervision = Supervision(),
        eval_episodes: int = 10,
        eval_policy: Literal["sample", "greedy"] = "sample",
        eval_max_steps: int = 108_000,
        predict_observations: str | None = None,
        validate_in_fit: bool = False,
        seed: int | None = None,
        targets: TargetName = "n_step",
        gae_lambda: float = 0.95,
        vtrace: VTraceConfig = VTraceConfig(),
        collectors: RayCollectors | None = None,
    ) -> None:
        super().__init__()
        if isinstance(env, str):  # not in the annotation: the command line would lose the options of `env`
            env = EnvConfig(env)
        if not isinstance(env, EnvConfig):
            raise ValueError(f"data.env must be a Gymnasium id or an EnvConfig, got {env!r}")
        if num_workers != "auto":
            workers = num_workers
        elif collectors is None:
            workers = auto_workers()
        else:
            workers = collectors.auto_workers()
        for name, value, least in (
            ("num_workers", workers, 0),
            ("n_steps", n_steps, 1),
            ("micro_batch_size", micro_batch_size, 1),
            ("batch_size", batch_size, 1),
            ("updates_per_epoch", updates_per_epoch, 1),
            ("slots_per_worker", slots_per_worker, 1),
            ("learner_threads", learner_threads, 1),
            ("eval_episodes", eval_episodes, 1),
            ("eval_max_steps", eval_max_steps, 1),
            ("seed", seed, 0),
        ):
            if value is None:
                continue
            require_whole(f"data.{name}", value)
            if value < least:
                raise ValueError(f"data.{name} must be >= {least}, got {value}")
        if eval_policy not in ("sample", "greedy"):
            raise ValueError(f'data.eval_policy must be "sample" or "greedy", got {eval_policy!r}')
        if worker_precision not in (*get_args(WorkerPrecision), "auto"):
            raise ValueError(
                f'data.worker_precision must be "32-true", "bf16-true" or "auto", got {worker_precision!r}'
            )
        if worker_device != "auto":
            require_usable(worker_device)
        if collectors is not None:
            collectors.require_workers(workers)
            if worker_device not in ("cpu", "auto"):
                raise ValueError(f"data.worker_device must be cpu with data.collectors, got {worker_device!r}")
        if targets not in get_args(TargetName):
            raise ValueError(f'data.targets must be "n_step", "gae" or "vtrace", got {targets!r}')
        for name, switch in (("synchronous", synchronous), ("validate_in_fit", validate_in_fit)):
            require_switch(f"data.{name}", switch)
        for name, fraction in (("discount", discount), ("gae_lambda", gae_lambda)):
            require_number(f"data.{name}", fraction)
            if not 0 <= fraction <= 1:
                raise ValueError(f"data.{name} must be in [0, 1], got {fraction}")
        if batch_size % micro_batch_size:
            raise ValueError(
                f"data.batch_size must be a multiple of data.micro_batch_size, got {batch_size} and {micro_batch_size}"
            )
        if synchronous:
            _require_equal_shares(batch_size, micro_batch_size, workers)
        if synchronous and micro_batch_size % env.num_envs:
            raise ValueError(
                "with data.synchronous a micro-batch is whole steps of all environments: data.micro_batch_size must be "
                f"a multiple of env.num_envs, got {micro_batch_size} and {env.num_envs}"
            )
        if targets == "vtrace":
            _require_whole_sequences('data.targets "vtrace"', micro_batch_size, n_steps, env.num_envs)
        if synchronous and env.backend in ("envpool", "vector"):
            raise ValueError(
                f"with data.synchronous every episode gets a seed of its own, which env.backend {env.backend!r} cannot "
                "give; set env.backend to 'auto' or 'gymnasium'"
            )
        if synchronous and (steps := micro_batch_size // env.num_envs) < n_steps:
            rank_zero_warn(
                f"data.n_steps {n_steps} acts as {steps}: with data.synchronous a window ends with its micro-batch, "
                f"which is data.micro_batch_size {micro_batch_size} / env.num_envs {env.num_envs} = {steps} steps; set "
                f"data.n_steps to {steps}, or data.micro_batch_size to {n_steps * env.num_envs} and data.batch_size to "
                "a multiple of that"
            )
        with isolate_rng(include_cuda=False):  # an environment may draw from the global generators
            self.task = describe_task(env)
        for note in playing_notes(env):
            rank_zero_info(note)
        if self.task.left_out:
            rank_zero_info(f"{env.id}: {', '.join(self.task.left_out)} of the observations is left out, being no array")
        self.env = env
        self.num_workers = workers
        self._chooses_workers = num_workers == "auto"
        self._chooses_slots = slots_per_worker is None
        self.n_steps = n_steps
        self.targets = targets
        self.gae_lambda = gae_lambda
        self.vtrace = vtrace
        self.discount = discount
        self.micro_batch_size = micro_batch_size
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.slots_per_worker = slots_per_worker or self._slots_for_two_updates()
        self.synchronous = synchronous
        self.worker_precision = auto_precision() if worker_precision == "auto" else worker_precision
        self.worker_device = worker_device
        self.learner_threads = learner_threads
        self.supervision = supervision
        self.eval_episodes = eval_episodes
        self.eval_policy = eval_policy
        self.eval_max_steps = eval_max_steps
        self.predict_observations = predict_observations
        self.validate_in_fit = validate_in_fit
        self.seed = seed
        self.collectors = collectors
        self._observations = (
            None if predict_observations is None else read_observations(predict_observations, self.task)
        )
        self.make_payload: MakePayload = send_transitions
        self._dataset: CollectorDataset | None = None
        self._quiet = ExitStack()  # while a fit runs

    @property
    def vtrace_in_use(self) -> VTraceConfig | None:
        """What the loss corrects for policy lag with; None if it does not."""
        return self.vtrace if self.targets == "vtrace" else None

    def sends_sequences(self, net: nn.Module) -> bool:
        """Whether workers send sequences instead of transitions to a learner of `net`."""
        return self.targets == "vtrace" or is_recurrent(net)

    def require_whole_sequences(self, net: nn.Module) -> None:
        """Raise ValueError if `net` has memory and a micro-batch is not made of whole sequences."""
        if is_recurrent(net):
            what = "a network with memory"
            _require_whole_sequences(what, self.micro_batch_size, self.n_steps, self.env.num_envs)

    @property
    def values_in_force(self) -> dict[str, Any]:
        """The arguments, with numbers in place of "auto" and of defaults that depend on others."""
        names = inspect.signature(CollectorDataModule).parameters
        return {name: getattr(self, name) for name in names} | {"seed": self.run_seed}

    @property
    def messages_per_batch(self) -> int:
        """Payloads per update."""
        return self.batch_size // self.micro_batch_size

    @property
    def lag_bound(self) -> float:
        """Updates that the oldest action of a message is old at most, with workers of about equal speed.

        The same for each of several learners; docs/architecture.md derives it.
        """
        if self.synchronous:
            return 0.0
        window = math.ceil(self.n_steps * self.env.num_envs / self.micro_batch_size)
        if not self.num_workers:
            return float(math.ceil(window / self.messages_per_batch))
        bound = (self.slots_per_worker + window) * self.num_workers / self.messages_per_batch
        return (
            bound if self.collectors is None else bound + self.collectors.messages_under_way / self.messages_per_batch
        )

    @property
    def sources(self) -> Sources:
        """Whose policy lag the log tells apart."""
        workers = max(1, self.num_workers)
        if self.collectors is None:
            return Sources("learner", collectors=workers, per_learner=1)
        return Sources("actor", workers // self.collectors.actors, self.collectors.actors)

    @property
    def num_predict_observations(self) -> int:
        """Number of observations in `predict_observations`."""
        return 0 if self._observations is None else len(self._observations)

    @property
    def run_seed(self) -> int:
        """The seed in force: `seed`, or PyTorch's."""
        return torch.initial_seed() % 2**31 if self.seed is None else int(self.seed)

    def dataset(
        self,
        net: nn.Module,
        first_update: int = 0,
        pin_memory: bool = False,
        make_payload: MakePayload | None = None,
        resumed_at: int | None = None,
    ) -> CollectorDataset:
        """The training stream for `net`; the caller closes it. Lightning need not be involved.

        Args:
            net: the learner's network.
            first_update: updates that it has had.
            pin_memory: place batches where a GPU can copy them while the learner goes on.
            make_payload: turns transitions into what workers send; None takes the attribute of that name.
            resumed_at: how far the run is, in any unit; another number gives other episodes. None takes
                `first_update`.
        """
        self.require_whole_sequences(net)
        make_payload = make_payload or self.make_payload
        if self.collectors is not None:
            device = CPU
        elif self.worker_device == "auto":
            device = auto_device(device_of(net), self.num_workers, isinstance(make_payload, SendGradients))
        elif self.worker_device == device_of(net).type:
            device = device_of(net)  # of several GPUs, the learner's own
        else:
            device = torch.device(self.worker_device)
        env = replace(self.env, backend=training_backend(self.env, self.synchronous))
        if note := backend_note(env):
            rank_zero_info(note)
        job = CollectorJob(
            env=env,
            task=self.task,
            rollout=RolloutConfig(
                self.n_steps,
                self.discount,
                self.micro_batch_size,
                self.targets,
                self.gae_lambda,
                self.synchronous,
                self.sends_sequences(net),
            ),
            net=net,
            make_payload=make_payload,
            seed=self.run_seed,
            precision=self.worker_precision,
            device=device,
            first_update=first_update,
            resumed_at=first_update if resumed_at is None else resumed_at,
        )
        shares = self.messages_per_batch // max(1, self.num_workers)
        config = StreamConfig(
            num_workers=self.num_workers,
            messages_per_batch=self.messages_per_batch,
            updates_per_epoch=self.updates_per_epoch,
            slots_per_worker=shares if self.synchronous else self.slots_per_worker,
            learner_threads=self.learner_threads,
            supervision=self.supervision,
            pin_memory=pin_memory,
            collectors=self.collectors,
        )
        stream = CollectorDataset(job, net, config)
        stream.check_interrupt = self._check_interrupt
        return stream

    def share_cores(self, learners: int) -> None:
        """Follow that so many learners run on this machine, where the number of workers is automatic.

        Raises:
            ValueError: with `synchronous`, the workers cannot share a batch.
        """
        if not self._chooses_workers or learners == 1 or self.collectors is not None:
            return
        self.num_workers = auto_workers(learners)
        if self.synchronous:
            _require_equal_shares(self.batch_size, self.micro_batch_size, self.num_workers)
        if self._chooses_slots:
            self.slots_per_worker = self._slots_for_two_updates()

    def train_dataloader(self) -> CollectorDataset:
        assert self.trainer is not None
        self._close()
        trainer = self.trainer
        on_gpu = trainer.strategy.root_device.type == "cuda"
        progress = getattr(trainer.lightning_module, "progress", None)
        self._dataset = self.dataset(
            self._net(),
            trainer.global_step,
            on_gpu,
            self._choose_payload(),
            resumed_at=progress.env_steps if isinstance(progress, Progress) else None,
        )
        self._dataset.continues_epochs = False
        self._announce_lag()
        if (peers := peers_of(trainer)) is not None:
            self._join(self._dataset, peers)
        return self._dataset

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move only what the device computes with; the learner reads the rest on the CPU."""
        if not isinstance(batch, Batch):
            if self.trainer is not None and self.trainer.predicting:
                self._check_interrupt()  # Lightning does not look between batches of `predict`
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._dataset is not None and self._dataset.net is not self._net():
            raise MisconfigurationException(
                "the module's network was replaced during training, and workers still act with the one before; "
                "load weights into it instead, or replace it between two fits"
            )
        payload = batch.payload
        if device.type == "cpu":
            return batch  # collectors send from there
        if isinstance(payload, Gradients):
            gradient = super().transfer_batch_to_device(payload.gradient, device, dataloader_idx)
            return batch._replace(payload=payload._replace(gradient=gradient))
        return batch._replace(payload=super().transfer_batch_to_device(payload, device, dataloader_idx))

    def val_dataloader(self) -> EvaluationDataset | SharedEvaluation | list[Any]:
        assert self.trainer is not None
        if self.trainer.state.fn == "fit" and not self.validate_in_fit:
            self._quiet.enter_context(_NO_VALIDATION.applied())
            return []
        return self._evaluation()

    def test_dataloader(self) -> EvaluationDataset | SharedEvaluation:
        return self._evaluation()

    def predict_dataloader(self) -> DataLoader[Tensor]:
        """Chunks of the observations in `predict_observations`."""
        if self._observations is None:
            raise MisconfigurationException(
                "data.predict_observations is not set; give it a NumPy file of observations "
                f"[n, {', '.join(map(str, self.task.observation_shape))}]"
            )
        return DataLoader(torch.from_numpy(np.array(self._observations)), batch_size=_PREDICT_CHUNK)  # type: ignore[arg-type]

    def teardown(self, stage: str) -> None:
        self._close()
        self._quiet.close()

    def on_exception(self, exception: BaseException) -> None:
        peers = getattr(getattr(self.trainer, "lightning_module", None), "peers", None)
        if isinstance(peers, Peers):
            peers.leave()  # in `fit` that was done before checkpoints were saved
        self._close()
        self._quiet.close()

    def _choose_payload(self) -> MakePayload:
        """Gradients if the trainer has the callback that applies them, otherwise `make_payload`."""
        assert self.trainer is not None
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientParallel):
                return callback.make_payload(self.trainer.lightning_module)
        return self.make_payload

    def _join(self, stream: CollectorDataset, peers: Peers) -> None:
        """Make `stream` that of one of several learners: all learn from the experience of each."""
        assert self.trainer is not None
        leave_out_sigterm_broadcast(self.trainer)  # the exchange of reports tells of signals too
        peers.watch_signals()
        seed = self.trainer.strategy.broadcast(self.run_seed)
        stream.job = replace(stream.job, seed=seed, first_collector=peers.rank * max(1, self.num_workers))
        stream.learners = peers
        stream.check_interrupt = peers.check_pending
        rank_zero_info(
            f"{peers.count} learners: an update learns from {peers.count} × {self.batch_size} = "
            f"{peers.count * self.batch_size} transitions, as data.batch_size is of each; the learning rate stays as "
            "it is set"
        )

    def _announce_lag(self) -> None:
        if self.synchronous:
            return
        bound = f"policy lag: at most about {self.lag_bound:.3g} versions of the weights"
        if self.lag_bound > _LARGE_LAG:
            correct = "" if self.targets == "vtrace" else "set data.targets to vtrace, which corrects for lag, "
            calls = "" if self.collectors is None else ", data.collectors.messages_per_call"
            rank_zero_warn(
                f"{bound}, at which actions say little about the policy that learns from them; raise data.batch_size, "
                f"take more learners with fewer workers each, {correct}or lower data.slots_per_worker{calls} or "
                "data.num_workers"
            )
        else:
            rank_zero_info(bound)

    def _slots_for_two_updates(self) -> int:
        return math.ceil(2 * self.messages_per_batch / max(1, self.num_workers))

    def _check_interrupt(self) -> None:
        """Raise as Lightning does between batches if the trainer was told to end."""
        if self.trainer is not None and self.trainer.received_sigterm:
            raise SIGTERMException

    def _net(self) -> nn.Module:
        assert self.trainer is not None
        net = self.trainer.lightning_module.net
        assert isinstance(net, nn.Module)
        return net

    def _evaluation(self) -> EvaluationDataset | SharedEvaluation:
        assert self.trainer is not None
        evaluation = EvaluationDataset(
            self.env,
            self._net(),
            episodes=self.eval_episodes,
            greedy=self.eval_policy == "greedy",
            seed=self.run_seed,
            max_steps=self.eval_max_steps,
            watch=EvaluationWatch(self.trainer, self.eval_max_steps),
        )
        peers = peers_of(self.trainer)
        if peers is None:
            return evaluation
        peers.watch_signals()
        return SharedEvaluation(evaluation, peers)

    def _close(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None


def _require_whole_sequences(what: str, micro_batch_size: int, n_steps: int, num_envs: int) -> None:
    if micro_batch_size % (n_steps * num_envs):
        raise ValueError(
            f"{what} learns from sequences of data.n_steps: data.micro_batch_size must be a multiple of data.n_steps × "
            f"env.num_envs, got {micro_batch_size}, {n_steps} and {num_envs}; {n_steps * num_envs} would do"
        )


def _require_equal_shares(batch_size: int, micro_batch_size: int, workers: int) -> None:
    if batch_size % (micro_batch_size * max(1, workers)):
        raise ValueError(
            "with data.synchronous every worker gives the same part of a batch: data.batch_size must be a multiple "
            f"of data.micro_batch_size × data.num_workers, got {batch_size}, {micro_batch_size} and {workers}"
        )
