"""Acting with an exported policy, and what its folder holds. Knows no Lightning and no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from lightning_a3c.collection.rollout import to_tensor
from lightning_a3c.environments.atari import is_atari, make_preprocessed
from lightning_a3c.environments.encoding import TaskEncoding
from lightning_a3c.environments.making import make_env, wrapped
from lightning_a3c.environments.registry import spec_of
from lightning_a3c.environments.task import env_config_of
from lightning_a3c.learning.agents import AgentOptions, build_agent
from lightning_a3c.rl.action_spec import ActionSpec
from lightning_a3c.rl.memory import Memory
from lightning_a3c.rl.networks import class_path_of
from lightning_a3c.rl.policies import NetworkPolicy

WEIGHTS, DESCRIPTION = "model.safetensors", "policy.yaml"
FORMAT = 1

_PACKAGE = "lightning_a3c"


class LoadedPolicy:
    """A policy that acts in its environment, made by `load_policy`.

    Args:
        net: the agent's network.
        task: what it plays, as `Task.to_dict` gives it.
        seed: of the sampling; the global random state is neither read nor changed.
    """

    def __init__(self, net: nn.Module, task: dict[str, Any], seed: int = 0) -> None:
        self.net = net.eval()
        self.task = task
        self._encoding = TaskEncoding(task)
        self._policy = NetworkPolicy(self.net, seed)
        self._memory = self._policy.memory(1)

    def reset(self) -> None:
        """An episode begins: a policy with memory forgets. Others need not be told."""
        self._memory = self._policy.memory(1)

    def act(self, observation: Any, info: dict[str, Any] | None = None, greedy: bool = False) -> Any:
        """One action of the environment's action space.

        Args:
            observation: as the environment's `reset` and `step` return it.
            info: likewise; needed where the action mask is in it. If the mask comes from a method of the environment,
                pass `{"action_mask": env.unwrapped.that_method()}`.
            greedy: take the likeliest action instead of sampling.

        Raises:
            ValueError: the observation does not fit its space, the mask is missing, or the network gives NaN.
        """
        encoded = self._encoding.encode(observation, info)
        if len(encoded) != 1:
            raise ValueError(f"act takes one observation, got {len(encoded)}")
        self._policy.greedy = greedy
        decision = self._policy(to_tensor(encoded), self._memory)
        self._memory = Memory(decision.state, torch.tensor([False]))
        action = self._policy.to_env(decision.actions)[0].numpy()
        return self._encoding.decode(action.reshape(self.task.get("action_shape") or action.shape))

    def make_env(self, render_mode: str | None = None, trust: bool = False) -> gymnasium.Env[Any, Any]:
        """The environment that the policy was trained in, with its preprocessing and wrappers.

        Args:
            render_mode: Gymnasium's.
            trust: also import modules and wrappers that the policy names and that are not Gymnasium's.

        Raises:
            ValueError: the policy names such code, or the environment cannot be made.
        """
        foreign = [] if trust else list(foreign_code(self.task))
        if foreign:
            raise ValueError(
                f"the environment {self.task['env_id']} needs code that this policy only names ({', '.join(foreign)}); "
                "if you trust it: make_env(trust=True)"
            )
        config = env_config_of(self.task)
        spec = spec_of(config.id)
        env = make_preprocessed(spec, config.atari, render_mode) if is_atari(spec) else make_env(config, render_mode)
        return wrapped(env, config)


def load_policy(
    folder: str | Path,
    network: nn.Module | Callable[..., nn.Module] | None = None,
    seed: int = 0,
    action_spec: type[ActionSpec] | None = None,
) -> LoadedPolicy:
    """Load the policy in a folder that `lightning-a3c export` wrote. Loads no Lightning and runs no code of others.

    Args:
        folder: of the policy.
        network: class, function or module of a network that is not this package's own; required for such a network.
        seed: of the sampling.
        action_spec: class of a distribution that is not this package's own; required for such a one.

    Raises:
        ValueError: the folder holds no policy, a file in it is damaged, or it needs code that is not this package's.
    """
    folder = Path(folder)
    values = read_description(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"policy {folder} lacks {WEIGHTS}")
    try:
        spec = _with_network(values["network"], network)
        options = _with_distribution(AgentOptions(**values["options"]), action_spec)
        net = build_agent(values["observation_shape"], values["num_actions"], values["task"], spec, options)
        policy = LoadedPolicy(net, values["task"], seed)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / DESCRIPTION} is damaged: {error!r}") from error
    try:
        load_model(net, folder / WEIGHTS)
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / WEIGHTS} does not hold the weights of this policy's network: {reason}") from error
    return policy


def read_description(folder: Path) -> dict[str, Any]:
    """What `policy.yaml` says.

    Raises:
        ValueError: there is none, it is damaged, or a newer release wrote it.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"{folder} holds no exported policy (no {DESCRIPTION}); lightning-a3c export writes one")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise ValueError(f"{path} is damaged: it does not say its format")
    if values["format"] > FORMAT:
        release = values.get("version")
        raise ValueError(f"{path} was written by lightning-a3c {release}; install that release or a newer one")
    return values


def _with_network(spec: dict[str, Any] | None, network: nn.Module | Callable[..., nn.Module] | None) -> Any:
    """What `build_agent` takes as network: only classes of this package, or what the caller gave."""
    if isinstance(network, nn.Module):
        return network
    init_args = (spec or {}).get("init_args") or {}
    if network is not None:
        return partial(network, **init_args)
    foreign = foreign_network(spec)
    if foreign is not None:
        raise ValueError(
            f"this policy's network is {foreign}, whose code is not part of this package and is not run; import it "
            f"yourself and pass it: load_policy(folder, network={foreign.rpartition('.')[2]})"
        )
    return spec


def _with_distribution(options: AgentOptions, action_spec: type[ActionSpec] | None) -> AgentOptions:
    """`options` with a distribution of this package, or with the class that the caller gave."""
    if action_spec is not None:
        spec = (options.action_spec or {}) | {"class_path": class_path_of(action_spec)}
        if spec["class_path"] is None:
            raise ValueError(f"action_spec {action_spec.__qualname__} cannot be imported; define it in a module")
        return options._replace(action_spec=spec)
    foreign = foreign_distribution(options.action_spec)
    if foreign is not None:
        raise ValueError(
            f"this policy's distribution is {foreign}, whose code is not part of this package and is not run; import "
            f"it yourself and pass it: load_policy(folder, action_spec={foreign.rpartition('.')[2]})"
        )
    return options


def foreign_distribution(spec: dict[str, Any] | None) -> str | None:
    """The first class path in an action spec that is not a class of this package."""
    return next((path for path in _class_paths(spec) if not _is_known(path, object, _PACKAGE)), None)


def foreign_network(spec: dict[str, Any] | None) -> str | None:
    """The first class path in a network's specification that is not a network of this package."""
    return next((path for path in _class_paths(spec) if not _is_known(path, nn.Module, _PACKAGE)), None)


def foreign_code(task: dict[str, Any]) -> Iterator[str]:
    """What making the environment would import because the task names it."""
    module, separator, _ = str(task["env_id"]).partition(":")
    if separator:
        yield f"module {module}"
    for class_path in _class_paths(task.get("wrappers")):
        if not any(_is_known(class_path, gymnasium.Wrapper, package) for package in ("gymnasium", _PACKAGE)):
            yield class_path


def _class_paths(value: Any) -> Iterator[str]:
    """Every class path in nested dicts and lists."""
    if isinstance(value, dict):
        if "class_path" in value:
            yield str(value["class_path"])
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _class_paths(item)


def _is_known(class_path: str, base: type, package: str) -> bool:
    """Whether `class_path` names a subclass of `base` that `package` itself defines."""
    module, _, name = class_path.rpartition(".")
    if module != package and not module.startswith(f"{package}."):
        return False
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    is_subclass = isinstance(found, type) and issubclass(found, base)
    return is_subclass and found.__module__.startswith(f"{package}.")  # modules also hold what they import
