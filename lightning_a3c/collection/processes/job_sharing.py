"""Sending a job to any number of worker processes. Knows no particular environment or network."""

from __future__ import annotations

import pickle
from contextlib import suppress
from multiprocessing.context import BaseContext

import cloudpickle
import torch

from lightning_a3c.collection.job import CollectorJob
from lightning_a3c.collection.processes.pickling import dumps, unpicklable
from lightning_a3c.collection.shared_tensors import SharedTensors
from lightning_a3c.collection.shared_weights import strip_weights
from lightning_a3c.environments.registry import portable_registry, register_specs, spec_of


def share_job(job: CollectorJob, context: BaseContext) -> SharedTensors:
    """Put the job where any number of processes can `load_job` it.

    Includes the classes and environments that a notebook or script defines, which workers do not import, and
    everything that the script changed in Gymnasium's registry. The network goes without its weights.

    Returns:
        One tensor, uint8 [bytes of the pickled job].

    Raises:
        ValueError: part of the job cannot be pickled.
        NoFreeSharedMemory: there is too little shared memory.
    """
    job = job.with_own_network()
    strip_weights(job.net)
    job_bytes = torch.frombuffer(bytearray(pickle_job(job)), dtype=torch.uint8)
    shared = SharedTensors([job_bytes], context)
    shared.tensors[0].copy_(job_bytes)
    return shared


def load_job(shared: SharedTensors) -> CollectorJob:
    """The caller's own copy of a job that `share_job` shared."""
    return unpickle_job(shared.tensors[0].numpy().data)


def pickle_job(job: CollectorJob) -> bytes:
    """The job with all that another process needs to know for `unpickle_job`, its network with its weights.

    Raises:
        ValueError: part of the job cannot be pickled.
    """
    try:
        return dumps((portable_registry(), spec_of(job.env.id), job))
    except (TypeError, RuntimeError, pickle.PicklingError) as error:
        layer = unpicklable(job.net)
        if layer is not None:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"workers cannot be sent the network's {layer}: {reason}; keep what cannot be pickled out of it, or "
                "collect in this process, with data.num_workers 0"
            ) from error
        raise ValueError(
            f"workers cannot be sent {job.env.id} or {type(job.net).__name__}: {error}; what a script or notebook "
            "defines is sent with everything it refers to, so define it in a module, which workers import"
        ) from error


def unpickle_job(pickled: bytes | memoryview) -> CollectorJob:
    """The job, in a process that knows its environment from now on."""
    job: CollectorJob
    registry, spec, job = cloudpickle.loads(pickled)
    with suppress(ValueError):
        spec_of(job.env.id)  # imports the module that the id may name
    register_specs(registry, spec)
    return job
