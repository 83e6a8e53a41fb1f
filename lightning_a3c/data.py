"""The stream of experience as a PyTorch dataset and a Lightning data module.

Owns the life of the collectors; knows nothing of optimizers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_a3c.envs import EnvConfig, Protocol, inspect
from lightning_a3c.evaluation import EvaluationDataset
from lightning_a3c.payloads import MakePayload, send_transitions
from lightning_a3c.pool import Collectors, open_collectors
from lightning_a3c.types import Batch
from lightning_a3c.worker import CollectorJob

_PREDICT_CHUNK = 256  # observations at once


class CollectorDataset(IterableDataset[Batch]):
    """Batches of fresh experience, one an update, `updates_per_epoch` of them an epoch.

    Whenever a batch is asked for, the network's weights are published to the collectors first: a
    plain loop of `for batch in dataset` with an optimizer step inside trains with current data,
    without a further call. The length is known, so nothing is prefetched.
    Collectors start with the first batch and live until `close`, across epochs.

    Args:
        job: what each collector does.
        net: the learner's network, on any device.
        num_workers: collector processes; 0 collects in this process.
        messages_per_batch: payloads concatenated to one batch, >= 1.
        updates_per_epoch: batches in an epoch, >= 1.
        slots_per_worker: see `WorkerPool`.
        learner_threads: see `CollectorDataModule`.

    Raises:
        RuntimeError: iterated inside a DataLoader worker.
        WorkerError: a collector raised or died.
        NoFreeSharedMemory: /dev/shm is too small.
    """

    def __init__(
        self,
        job: CollectorJob,
        net: nn.Module,
        num_workers: int,
        messages_per_batch: int,
        updates_per_epoch: int,
        slots_per_worker: int = 2,
        learner_threads: int | None = None,
    ) -> None:
        self.job = job
        self.net = net
        self.num_workers = num_workers
        self.messages_per_batch = messages_per_batch
        self.updates_per_epoch = updates_per_epoch
        self.slots_per_worker = slots_per_worker
        self.learner_threads = learner_threads
        self._collectors: Collectors | None = None
        self._position = 0  # batches handed out in this epoch
        self._threads_before = torch.get_num_threads()

    def __len__(self) -> int:
        return self.updates_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise RuntimeError(
                "CollectorDataset starts its own processes and cannot run in those of a DataLoader: "
                "use DataLoader(dataset, batch_size=None, num_workers=0), or iterate the dataset itself"
            )
        if self._position == self.updates_per_epoch:
            self._position = 0
        while self._position < self.updates_per_epoch:
            batch = self._next_batch()
            self._position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """How much of the epoch is done, for Lightning to resume in its middle."""
        return {"position": self._position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict["position"]

    def close(self) -> None:
        """End the collectors; a later iteration starts new ones."""
        if self._collectors is not None:
            self._collectors.close()
            self._collectors = None
            torch.set_num_threads(self._threads_before)

    def _open(self) -> Collectors:
        collectors = open_collectors(self.job, self.num_workers, self.slots_per_worker)
        self._threads_before = torch.get_num_threads()
        if self.num_workers:
            # threads that wait for a core that a worker has are worse than no threads
            torch.set_num_threads(self.learner_threads or max(1, self._threads_before - self.num_workers))
        return collectors

    def _next_batch(self) -> Batch:
        if self._collectors is None:
            self._collectors = self._open()
        self._collectors.weights.publish(self.net)
        message, queue_fill = self._collectors.take(self.messages_per_batch)
        return Batch(
            payload=message.payload,
            report=message.report,
            policy_lag=self._collectors.weights.version - message.report.policy_version,
            queue_fill=torch.tensor([queue_fill]),
        )


class CollectorDataModule(pl.LightningDataModule):
    """Training batches from parallel collectors, and evaluation episodes, for `trainer.fit`.

    Every argument is checked before a process is started.

    Args:
        env: which environment, and how many in each worker.
        num_workers: collector processes; 0 collects in the learner's process, to debug in.
        n_steps: N of the return targets.
        discount: γ.
        micro_batch_size: transitions a worker sends at once; in gradient mode, those it
            differentiates at once.
        batch_size: transitions an update learns from, a multiple of `micro_batch_size`.
        updates_per_epoch: length of an epoch, Lightning's unit for checkpoints and validation.
        slots_per_worker: payloads each worker may have under way, being filled or waiting. 2 allow as
            many as a queue of `num_workers` would; 1 halves the policy lag, and keeps two or more
            workers busy as long as the learner is the slower side.
        learner_threads: PyTorch threads of this process while workers run; None takes the cores that
            the workers leave, at least one.
        eval_episodes: episodes that `validate` and `test` play.
        eval_policy: act by sampling, as in training, or take the likeliest action.
        predict_observations: NumPy file (`.npy`) of observations [n, *observation_shape] for `predict`.
        validate_in_fit: also validate after each epoch of `fit`.
        seed: of environments and action sampling; None takes PyTorch's, as set by `seed_everything`.
    """

    def __init__(
        self,
        env: EnvConfig = EnvConfig(),  # noqa: B008  frozen
        num_workers: int = 4,
        n_steps: int = 4,
        discount: float = 0.99,
        micro_batch_size: int = 32,
        batch_size: int = 128,
        updates_per_epoch: int = 500,
        slots_per_worker: int = 2,
        learner_threads: int | None = None,
        eval_episodes: int = 10,
        eval_policy: Literal["sample", "greedy"] = "sample",
        predict_observations: str | None = None,
        validate_in_fit: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("num_workers", num_workers, 0),
            ("n_steps", n_steps, 1),
            ("micro_batch_size", micro_batch_size, 1),
            ("batch_size", batch_size, 1),
            ("updates_per_epoch", updates_per_epoch, 1),
            ("slots_per_worker", slots_per_worker, 1),
            ("learner_threads", learner_threads, 1),
            ("eval_episodes", eval_episodes, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"data.{name} must be >= {least}, got {value}")
        if not 0 <= discount <= 1:
            raise ValueError(f"data.discount must be in [0, 1], got {discount}")
        if batch_size % micro_batch_size:
            raise ValueError(
                f"data.batch_size must be a multiple of data.micro_batch_size, got {batch_size} and {micro_batch_size}"
            )
        self.protocol = inspect(env)
        self.env = env
        self.num_workers = num_workers
        self.n_steps = n_steps
        self.discount = discount
        self.micro_batch_size = micro_batch_size
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.slots_per_worker = slots_per_worker
        self.learner_threads = learner_threads
        self.eval_episodes = eval_episodes
        self.eval_policy = eval_policy
        self.predict_observations = predict_observations
        self.validate_in_fit = validate_in_fit
        self.seed = seed
        self._observations = (
            None if predict_observations is None else _open_observations(predict_observations, self.protocol)
        )
        self.make_payload: MakePayload = send_transitions  # gradient mode's callback puts its own here
        self._dataset: CollectorDataset | None = None

    @property
    def messages_per_batch(self) -> int:
        """Payloads that make one update."""
        return self.batch_size // self.micro_batch_size

    @property
    def run_seed(self) -> int:
        """The seed in force: `seed`, or PyTorch's."""
        return torch.initial_seed() % 2**31 if self.seed is None else self.seed

    def dataset(self, net: nn.Module) -> CollectorDataset:
        """The training stream for `net`; the caller closes it. Lightning need not be involved."""
        job = CollectorJob(
            env=self.env,
            net=net,
            make_payload=self.make_payload,
            n_steps=self.n_steps,
            discount=self.discount,
            size=self.micro_batch_size,
            seed=self.run_seed,
        )
        return CollectorDataset(
            job,
            net,
            num_workers=self.num_workers,
            messages_per_batch=self.messages_per_batch,
            updates_per_epoch=self.updates_per_epoch,
            slots_per_worker=self.slots_per_worker,
            learner_threads=self.learner_threads,
        )

    def train_dataloader(self) -> CollectorDataset:
        assert self.trainer is not None
        if not self.trainer.lightning_module.automatic_optimization and self.make_payload is send_transitions:
            raise MisconfigurationException(
                'the module is in gradient mode (mode="gradient") but no worker is told to send gradients: '
                'add lightning_a3c.GradientParallel() to the trainer\'s callbacks, or use mode="data"'
            )
        self._close()
        self._dataset = self.dataset(self._net())
        return self._dataset

    def val_dataloader(self) -> EvaluationDataset | list[Any]:
        assert self.trainer is not None
        if self.trainer.state.fn == "fit" and not self.validate_in_fit:
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # it is meant
            return []
        return self._evaluation()

    def test_dataloader(self) -> EvaluationDataset:
        return self._evaluation()

    def predict_dataloader(self) -> DataLoader[Tensor]:
        """Chunks of the observations in `predict_observations`."""
        if self._observations is None:
            raise MisconfigurationException(
                "data.predict_observations is not set; give it a NumPy file of observations "
                f"[n, {', '.join(map(str, self.protocol.observation_shape))}]"
            )
        return DataLoader(torch.from_numpy(np.array(self._observations)), batch_size=_PREDICT_CHUNK)  # type: ignore[arg-type]

    def teardown(self, stage: str) -> None:
        self._close()

    def on_exception(self, exception: BaseException) -> None:
        self._close()

    def _net(self) -> nn.Module:
        assert self.trainer is not None
        net = self.trainer.lightning_module.net
        assert isinstance(net, nn.Module)
        return net

    def _evaluation(self) -> EvaluationDataset:
        return EvaluationDataset(
            self.env,
            self._net(),
            episodes=self.eval_episodes,
            greedy=self.eval_policy == "greedy",
            seed=self.run_seed,
        )

    def _close(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None


def _open_observations(path: str, protocol: Protocol) -> np.ndarray:
    """The array in `path`, left on disk; refused unless it looks like observations of `protocol`."""
    try:
        observations: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"data.predict_observations {path} cannot be read as a NumPy file: {error}") from error
    shape, dtype = ("n", *protocol.observation_shape), protocol.observation_dtype
    if observations.shape[1:] != protocol.observation_shape or observations.dtype.name != dtype:
        raise ValueError(
            f"data.predict_observations {path} holds {observations.dtype.name} {observations.shape}; "
            f"{protocol.env_id} has observations {dtype} ({', '.join(map(str, shape))})"
        )
    return observations
