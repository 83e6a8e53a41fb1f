"""What a collector process runs, from its start to its end. Knows nothing of Lightning."""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import closing, suppress

import torch

from lightning_a3c.collection.collector import Collector
from lightning_a3c.collection.job import CollectorState
from lightning_a3c.collection.processes.channel import ChannelClosed, ChannelWriter
from lightning_a3c.collection.processes.fork_server import STOP_SIGNALS
from lightning_a3c.collection.processes.job_sharing import load_job
from lightning_a3c.collection.processes.process_settings import ProcessSettings, seed_generators
from lightning_a3c.collection.shared_tensors import SharedTensors
from lightning_a3c.collection.shared_weights import SharedWeights
from lightning_a3c.environments.checks import CallTracker
from lightning_a3c.environments.making import starts_faster_unseeded
from lightning_a3c.system.malloc import keep_freed_memory
from lightning_a3c.system.processor import prefer_onednn

_NICENESS = 10  # below the learner, which every worker waits for; workers take the cores it leaves


def run_worker(
    rank: int,
    attempt: int,
    shared_job: SharedTensors,
    weights: SharedWeights,
    writer: ChannelWriter,
    state: CollectorState | None,
    settings: ProcessSettings,
) -> None:
    """Collect whenever a slot is free, until the learner closes its end of the channel."""
    for number in STOP_SIGNALS:  # they reach the whole process group; the learner decides
        signal.signal(number, _do_nothing)  # programs that an environment starts would inherit SIG_IGN
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    torch.set_num_threads(1)
    keep_freed_memory()
    os.nice(_NICENESS)
    try:
        settings.apply()
        job = load_job(shared_job)
        seed_generators(job.seed, job.first_collector + rank, attempt, job.first_update)
        with prefer_onednn(weights.shapes, job.device):
            # asynchronous runs are not reproducible anyway: timing decides which weights act
            is_seeded = job.rollout.synchronous or not starts_faster_unseeded(job.env)
            call_tracker = CallTracker(writer.status.numpy())
            with closing(Collector(job, rank, weights, attempt, call_tracker, is_seeded)) as collector:
                if state is not None:
                    collector.load_state_dict(state)
                while True:
                    out = writer.wait_for_slot(collector.state_dict)  # before acting, so that queued data is fresh
                    writer.send(collector.collect(out))
    except ChannelClosed:
        return
    except Exception as error:
        exception = "".join(traceback.format_exception_only(error))
        with suppress(ChannelClosed):
            writer.send_failure(traceback.format_exc().removesuffix(exception), exception.rstrip())


def _do_nothing(number: int, frame: object) -> None:
    pass
