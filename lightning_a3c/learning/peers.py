"""Several learners, one in each process of Lightning's DDP, and what they tell each other once an update.

Each learner has collectors of its own, and payloads stay with it. Reports become common: after the exchange every
learner knows the stats of all, so all count, stop and fail at the same update. Knows no environment and no optimizer.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_a3c.learning import lightning_internals
from lightning_a3c.learning.evaluation import Episode, EvaluationDataset, EvaluationProgress
from lightning_a3c.rl.types import Batch

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_FLAGS = 2  # numbers before the content of an exchange: a signal or 0, and whether this learner failed
_TICK_SECONDS = 0.5  # between two exchanges while one learner evaluates
_END_SECONDS = 30.0  # until learners that were told to end are killed


class PeerError(RuntimeError):
    """Another learner failed, ended or cannot be reached."""


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective of DDP or Lightning failed, because another learner ended or did not answer in time."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


class Peers:
    """The other learners of a run, on a gloo group of its own: it carries numbers on the CPU, whatever DDP uses.

    Every method that says so is a collective: all learners call it at the same point, or the others wait for the
    strategy's timeout.

    Args:
        trainer: of this process, with its process group set up.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.rank = trainer.global_rank
        self.count = trainer.world_size
        self.pending = 0
        """The signal that this process has received, until all know of it; 0 for none."""
        self._trainer: pl.Trainer = weakref.proxy(trainer)
        self._timeout = lightning_internals.timeout_of(trainer)
        self._group: Any = dist.new_group(backend="gloo", timeout=self._timeout)
        self._length = 0  # of a report
        self._signal = 0  # that ends training, known to all
        self._end_together = False  # all know why training ends
        self._handlers: dict[int, Any] = {}  # from before `watch_signals`
        self._newest: Batch | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Peers:
        return self  # copies of a module have the same peers

    def begin(self) -> None:
        """A run of the trainer begins: forget what ended the one before."""
        self.pending = self._signal = 0
        self._end_together = False

    def watch_signals(self) -> None:
        """From now on signals only leave a note, which the next exchange passes on.

        Lightning's own handler would call a collective, wherever the others are. Lightning restores all handlers at
        the end.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            is_ours = handler == self._note
            is_free = number == signal.SIGUSR1 and handler is signal.SIG_DFL
            if not is_ours and not is_free and handler is not signal.SIG_IGN:
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def expect(self, report: Batch) -> None:
        """Note the shapes of the reports, so that a learner that has none can take part."""
        self._length = sum(tensor.numel() for tensor in _fields(report))

    def share(self, batch: Batch) -> Batch:
        """A collective: `batch` with its own payload and the reports of all learners, in the order of their ranks."""
        own = _fields(batch)
        rows = self._exchange(torch.cat([tensor.flatten().double() for tensor in own]))
        columns = torch.split(rows, [tensor.numel() for tensor in own], dim=1)
        common = [
            column.reshape(self.count * len(tensor), *tensor.shape[1:]).to(tensor.dtype)
            for column, tensor in zip(columns, own, strict=True)
        ]
        *stats, lag, fill, restarts = common
        batch = Batch(batch.payload, type(batch.stats)(*stats), lag, fill, restarts.sum(dim=0, keepdim=True))
        self._newest = batch._replace(payload=None)  # type: ignore[arg-type]
        return batch

    def newest(self, batch: Batch) -> Batch:
        """The report of `batch`, which was shared last, on the CPU: DDP moves what a step gets to the GPU."""
        return batch if self._newest is None else self._newest

    def fail(self, error: BaseException) -> NoReturn:
        """In place of `share`: end all learners, this one with `error`."""
        if self._is_alive:
            self._exchange(torch.zeros(self._length, dtype=torch.float64), error)
        raise error

    def end_update(self) -> None:
        """An update is complete: if a signal came meanwhile, do what it means, in all learners."""
        number, trainer = self._signal, self._trainer
        if number == signal.SIGTERM:
            lightning_internals.receive_sigterm(trainer)  # so that Lightning ends training after this update
        elif number == signal.SIGUSR1 and callable(handler := self._handlers.get(number)):
            self._signal, self._end_together = 0, False
            handler(number, None)  # SLURM's requeue, or `StopOnSignal`, which sends SIGTERM

    def raise_if_interrupted(self) -> None:
        """Raise what a signal means that all learners know of, between two updates."""
        if self._signal in (signal.SIGTERM, signal.SIGINT):
            raise _ended_by(self._signal)

    def check_pending(self) -> None:
        """Raise what a signal to this process means, while it waits for its collectors."""
        if self.pending:
            raise _ended_by(self.pending)

    def gather(self, own: Any) -> list[Any] | None:
        """A collective: the values of all learners, by rank; None if they cannot be reached."""
        if not self._is_alive:
            return None
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, own, group=self._group)
        return values

    def gather_rows(self, own: Tensor) -> Tensor:
        """A collective: numbers [n] of each learner, on the CPU → [learners, n]."""
        rows = torch.empty(self.count, len(own), dtype=own.dtype)
        dist.all_gather(list(rows.unbind()), own, group=self._group)
        return rows

    def mean(self, values: Tensor) -> Tensor:
        """A collective: the mean over the learners of numbers [n], those that are NaN left out."""
        if not self._is_alive:
            return values
        return self.gather_rows(values.detach().cpu().double()).nanmean(dim=0).to(values.dtype)

    def sum_in_place(self, tensor: Tensor) -> None:
        """A collective: replace `tensor` by its sum over the learners, the same bits in each."""
        dist.all_reduce(tensor)

    def leave(self) -> None:
        """An exception ends training. Unless all know of it, do without the others: Lightning's collectives do nothing.

        Call it before anything is saved; a second call does nothing. The first learner no longer ends when those that
        it has started do, but ends them when it exits.
        """
        launcher: Any = self._trainer.strategy.launcher
        started = list(getattr(launcher, "procs", ()))
        if started:
            launcher.procs.clear()  # Lightning kills this process if one of them fails
            atexit.register(_end, started, _END_SECONDS if self._end_together else 0.0)
        if not self._end_together and self._is_alive:
            dist.destroy_process_group()

    @property
    def _is_alive(self) -> bool:
        return dist.is_initialized()

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.pending == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # the second Ctrl-C ends the process at once
            signal.raise_signal(number)
        self.pending = number

    def _exchange(self, content: Tensor, error: BaseException | None = None) -> Tensor:
        """The contents float64 [n] of all learners as [learners, n]; raises if one of them failed."""
        flags = torch.tensor([self.pending, error is not None], dtype=torch.float64)
        try:
            rows = self.gather_rows(torch.cat((flags, content)))
        except RuntimeError as lost:
            if error is not None:
                raise error from None
            raise PeerError(
                "another learner ended, or did not answer within the timeout of trainer.strategy "
                f"({self._timeout}); its own messages say why: {str(lost).splitlines()[0]}"
            ) from lost
        signals, failed = rows[:, 0].int().tolist(), rows[:, 1].bool().tolist()
        if error is not None or any(failed):
            self._end_together = True
            raise error or self._failure(failed.index(True), signals)
        number = next(filter(None, signals), 0)
        if number and not self._signal:
            self._signal, self.pending, self._end_together = number, 0, True
        return rows[:, _FLAGS:]

    def _failure(self, rank: int, signals: list[int]) -> BaseException:
        if signals[rank]:
            return _ended_by(signals[rank])
        return PeerError(f"learner {rank} of 0 … {self.count - 1} failed, so all end; its own message says why")


class SharedEvaluation(IterableDataset[Episode]):
    """The episodes that the first learner plays, on every learner: one device's result, once.

    Args:
        own: the episodes; only the first learner plays them.
        peers: all learners.
    """

    def __init__(self, own: EvaluationDataset, peers: Peers) -> None:
        self._own = own
        self._watch = own.watch
        self._peers = peers

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[Episode]:
        if self._peers.rank == 0:
            yield from self._play()
            return
        for _ in range(len(self)):
            content = torch.zeros(4, dtype=torch.float64)
            while not content[0]:
                content = self._tell(0.0, 0.0, 0.0, 0.0)
            yield Episode(content[1].float(), content[2].long(), content[3].bool())

    def _play(self) -> Iterator[Episode]:
        last = time.monotonic()

        def tick(progress: EvaluationProgress) -> None:
            nonlocal last
            if time.monotonic() - last > _TICK_SECONDS:
                last = time.monotonic()
                self._tell(0.0, 0.0, 0.0, 0.0)
            if self._watch is not None:
                self._watch(progress)

        self._own.watch = tick
        for episode in self._own:
            self._tell(1.0, *(float(part) for part in episode))
            yield episode

    def _tell(self, *content: float) -> Tensor:
        first = self._peers._exchange(torch.tensor(content, dtype=torch.float64))[0]
        self._peers.raise_if_interrupted()
        return first


_joined: weakref.WeakKeyDictionary[pl.Trainer, Peers] = weakref.WeakKeyDictionary()


def peers_of(trainer: pl.Trainer) -> Peers | None:
    """The learners that `trainer` is one of, None if it is alone. The first call is a collective."""
    if trainer.world_size == 1:
        return None
    if trainer not in _joined:
        _joined[trainer] = Peers(trainer)
    return _joined[trainer]


def own_log_dir(trainer: pl.Trainer) -> str | None:
    """`trainer.log_dir` without the collective that Lightning makes of it, for what only the first learner does."""
    if not trainer.loggers:
        return trainer.default_root_dir
    first = trainer.loggers[0]
    return first.log_dir if isinstance(first, CSVLogger | TensorBoardLogger) else first.save_dir


def _fields(batch: Batch) -> list[Tensor]:
    """All tensors of a batch but its payload."""
    return [*batch.stats, batch.policy_lag, batch.queue_fill, batch.worker_restarts]


def _ended_by(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SIGTERMException()


def _end(learners: list[subprocess.Popen[bytes]], seconds: float) -> None:
    """Wait for processes that end by themselves, then kill those that do not."""
    deadline = time.monotonic() + seconds
    for learner in learners:
        try:
            learner.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            learner.kill()
            learner.wait()
