"""A stream of experience made without Lightning, for scripts of their own process: they start seconds sooner."""

from lightning_a3c.collection.config import RolloutConfig, StreamConfig
from lightning_a3c.collection.job import CollectorJob
from lightning_a3c.collection.payloads import send_transitions
from lightning_a3c.collection.stream import CollectorDataset
from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.task import describe_task
from lightning_a3c.rl.networks import MLP


def small_stream(env_id: str = "CartPole-v1", num_workers: int = 2) -> CollectorDataset:
    """Two batches of two messages an epoch, of two environments in each worker."""
    env = EnvConfig(env_id, num_envs=2)
    task = describe_task(env)
    net = MLP(task.observation_shape, task.num_actions)
    job = CollectorJob(env, task, RolloutConfig(micro_batch_size=16), net, send_transitions, seed=0)
    return CollectorDataset(job, net, StreamConfig(num_workers, messages_per_batch=2, updates_per_epoch=2))
