"""Checks that a network fits the spaces and works in worker processes. Knows no particular network.

The checks run on copies: the network itself keeps its weights, statistics, modes and gradients.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from lightning_a3c.rl.memory import is_recurrent

Shape = Sequence[int] | Mapping[str, Sequence[int]]
Dtype = torch.dtype | Mapping[str, torch.dtype]

_MODULE_FIELDS = ("_parameters", "_buffers", "_modules")  # of every module


class TrainingDifferences(NamedTuple):
    """What a network does in training mode but not in evaluation mode."""

    statistics: list[str]  # names of the buffers that a forward pass changes
    is_random: bool  # whether outputs are random, as with Dropout

    def warnings(self, in_gradient_mode: bool) -> list[str]:
        """What the user should know of them, in either mode of training."""
        warnings = []
        if self.statistics and in_gradient_mode:
            warnings.append(
                "in gradient mode workers differentiate in evaluation mode, so its statistics "
                f'({", ".join(self.statistics[:3])}) never change; use mode="data", or layers without statistics'
            )
        if self.is_random and in_gradient_mode:
            warnings.append("in gradient mode workers differentiate in evaluation mode, so Dropout is never applied")
        elif self.is_random:
            warnings.append(
                "workers act in evaluation mode, without Dropout, while the loss is computed with it: the policy that "
                "acts is not the one that learns"
            )
        return warnings


def device_of(net: nn.Module) -> torch.device:
    """Where its parameters lie; the CPU if it has none."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Run the block with `net` in evaluation mode, then restore the mode of each of its modules."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def copy_network(net: nn.Module) -> nn.Module:
    """A deep copy, even of a network that caches tensors with a gradient, as `nn.utils.weight_norm` does.

    Raises:
        ValueError: the network holds something that cannot be copied.
    """
    cached = [
        value
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    try:
        return copy.deepcopy(net, {id(result): result.detach().clone() for result in cached})
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"network {type(net).__name__} cannot be copied for the workers: {error}; keep such objects out of the "
            "network"
        ) from error


def check_network(
    net: nn.Module,
    observation_shape: Shape,
    num_actions: int,
    dtype: Dtype = torch.float32,
    bounds: tuple[float, float] | None = None,
) -> None:
    """Refuse a network that does not fit the spaces or that worker processes cannot compute with.

    Args:
        net: unchanged, except that lazy layers (`nn.LazyLinear`) get their weights.
        observation_shape: shape of one observation.
        num_actions: size of the discrete action space.
        dtype: dtype of the observations.
        bounds: lowest and highest value of every element, if known. The trial observations consist of 0 and 1 where
            the bounds allow it.

    Raises:
        ValueError: the network does not map observations to logits [B, A] and values [B], cannot be copied, or keeps
            state between calls in evaluation mode. One with memory does not do what `rl.memory` asks for.
    """
    observations = _examples(observation_shape, dtype, bounds, device_of(net))
    with torch.no_grad(), _eager():
        if any(isinstance(module, LazyModuleMixin) and module.has_uninitialized_params() for module in net.modules()):
            with evaluating(net):
                _outputs(net, observations[0])
        tried = copy_network(net).eval()
        with _preserved_random_state():
            before = _snapshot(tried, observations[0])
            _check_shapes(before, net, num_actions)
            _snapshot(tried, observations[1])
            _check_memory(net, observations[0], before, after=_snapshot(tried, observations[0]))
            if is_recurrent(net):
                _check_sequences(tried, observations)


def training_differences(
    net: nn.Module,
    observation_shape: Shape,
    dtype: Dtype = torch.float32,
    bounds: tuple[float, float] | None = None,
) -> TrainingDifferences:
    """What `net`, in the mode that each of its modules is in, does that it does not in evaluation mode."""
    observations = _examples(observation_shape, dtype, bounds, device_of(net))[0]

    def is_random(*copies: nn.Module) -> bool:
        first, second = (_snapshot(tried, observations, seed) for seed, tried in enumerate(copies))
        return not all(_is_same(first[name], second[name]) for name in ("logits", "values"))

    with torch.no_grad(), _eager(), _preserved_random_state():
        one, other, evaluated = copy_network(net), copy_network(net), copy_network(net).eval()
        before = {name: buffer.clone() for name, buffer in one.named_buffers()}
        try:
            # some networks are random by design, in evaluation mode too
            is_random_in_training = is_random(one, other) and not is_random(evaluated, evaluated)
        except ValueError:  # two observations may be too few to train on; the training step reports real errors
            return TrainingDifferences([], False)
        changed = [name for name, buffer in one.named_buffers() if not _is_same(before.get(name), buffer)]
    return TrainingDifferences(changed, is_random_in_training)


def unused_parameters(
    net: nn.Module,
    observation_shape: Shape,
    dtype: Dtype = torch.float32,
    bounds: tuple[float, float] | None = None,
) -> list[str]:
    """The names of the parameters that are trained and that neither logits nor values depend on."""
    observations = _examples(observation_shape, dtype, bounds, device_of(net))[0]
    with _eager(), _preserved_random_state():
        tried = copy_network(net).eval()
        logits, values = _outputs(tried, observations)
        trained = {name: parameter for name, parameter in tried.named_parameters() if parameter.requires_grad}
        if not trained or not (logits.requires_grad or values.requires_grad):
            return [*trained]
        outputs = [output.sum() for output in (logits, values) if output.requires_grad]
        found = torch.autograd.grad(outputs, list(trained.values()), allow_unused=True)
    return [name for name, gradient in zip(trained, found, strict=True) if gradient is None]


def _examples(shape: Shape, dtype: Dtype, bounds: tuple[float, float] | None, device: torch.device) -> list[Any]:
    """Two batches of two observations; where the first has 0 the second has 1, if the bounds allow both."""
    if isinstance(shape, Mapping):
        parts = {name: _examples(shape[name], _part(dtype, name), bounds, device) for name in shape}
        return [{name: examples[index] for name, examples in parts.items()} for index in range(2)]
    assert isinstance(dtype, torch.dtype)
    low, high = bounds or (0.0, 1.0)
    zero = min(max(low, 0.0), high)
    one = next((value for value in (zero + 1, zero - 1) if low <= value <= high), high)
    is_one = torch.arange(2).view(2, 1, 1) + torch.arange(2).view(2, 1) + torch.arange(torch.Size(shape).numel())
    return [*torch.where(is_one % 2 == 1, one, zero).view(2, 2, *shape).to(device, dtype)]


def _part(dtype: Dtype, name: str) -> torch.dtype:
    return dtype[name] if isinstance(dtype, Mapping) else dtype


def _outputs(net: nn.Module, observations: Any) -> tuple[Tensor, Tensor]:
    try:
        outputs = _first_step(net, observations) if is_recurrent(net) else net(observations)
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise TypeError(f"it returns {type(outputs).__name__}, not a pair")
        if not all(output.shape is not None and isinstance(output, Tensor) for output in outputs):
            raise TypeError("it returns a pair of " + " and ".join(type(output).__name__ for output in outputs))
        return outputs
    except Exception as error:  # whatever a user's network raises
        if isinstance(observations, Mapping):
            kinds = ", ".join(f"{name} {_kind(part)}" for name, part in observations.items())
            raise ValueError(
                f"network {type(net).__name__} does not turn a dict of observations ({kinds}) into (logits, values): "
                f"{error}"
            ) from error
        way_out = "" if observations.is_floating_point() else "; convert them with observations.float()"
        if isinstance(error, TypeError) and "'state'" in str(error) and not is_recurrent(net):
            way_out = "; a network with memory needs a method initial_state(batch), as lightning_a3c.rl.memory says"
        raise ValueError(
            f"network {type(net).__name__} does not turn {_kind(observations, ' observations')} into (logits, values): "
            f"{error}{way_out}"
        ) from error


def _first_step(net: Any, observations: Any) -> tuple[Tensor, Tensor]:
    outputs, values, _ = _steps(net, [observations], _initial_state(net, observations))
    return outputs[:, 0], values[:, 0]


def _initial_state(net: Any, observations: Any) -> Tensor:
    batch = len(next(iter(observations.values())) if isinstance(observations, Mapping) else observations)
    if isinstance(size := getattr(net, "state_size", None), int):  # an `AgentNetwork`, around one that was checked
        return torch.zeros(batch, size, device=device_of(net))
    state = net.initial_state(batch)
    if not isinstance(state, Tensor) or state.ndim != 2 or len(state) != batch or not state.is_floating_point():
        is_tensor = isinstance(state, Tensor)
        found = f"{state.dtype} {tuple(state.shape)}" if is_tensor else type(state).__name__
        raise TypeError(f"initial_state({batch}) gives {found}, not a float tensor ({batch}, H)")
    return state


def _steps(net: Any, steps: Sequence[Any], state: Tensor, begins: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What `net` gives for a sequence of `steps` in which an episode begins at step `begins`."""
    first = steps[0]
    if isinstance(first, Mapping):
        observations: Any = {name: torch.stack([step[name] for step in steps], dim=1) for name in first}
    else:
        observations = torch.stack(list(steps), dim=1)
    starts = torch.zeros(len(state), len(steps), dtype=torch.bool, device=state.device)
    if 0 <= begins < len(steps):
        starts[:, begins] = True
    result = net(observations, state, starts)
    if not isinstance(result, tuple) or len(result) != 3 or not all(isinstance(part, Tensor) for part in result):
        raise TypeError("it does not return outputs, values and a state")
    outputs, values, after = result
    if outputs.ndim != 3 or outputs.shape[:2] != starts.shape or values.shape != starts.shape:
        raise TypeError(
            f"for {starts.shape[0]} sequences of {starts.shape[1]} steps it returns outputs {tuple(outputs.shape)} and "
            f"values {tuple(values.shape)}, not ({starts.shape[0]}, {starts.shape[1]}, P) and {tuple(starts.shape)}"
        )
    if after.shape != state.shape:
        raise TypeError(f"its state changes from {tuple(state.shape)} to {tuple(after.shape)}")
    return outputs, values, after


def _check_sequences(net: nn.Module, observations: Sequence[Any]) -> None:
    """Refuse a network with memory for which a sequence is not the same as its steps one by one."""
    steps = [observations[0], observations[1], observations[0]]
    state = _initial_state(net, observations[0])
    whole = _steps(net, steps, state, begins=1)
    pieces = []
    for number, step in enumerate(steps):
        outputs, values, state = _steps(net, [step], state, begins=0 if number == 1 else -1)
        pieces.append((outputs, values))
    one_by_one = (*(torch.cat(part, dim=1) for part in zip(*pieces, strict=True)), state)
    for name, together, apart in zip(("outputs", "values", "state"), whole, one_by_one, strict=True):
        if not _is_same(together, apart):
            raise ValueError(
                f"network {type(net).__name__} gives other {name} for a sequence than for its steps one by one; axes "
                "are [B, T, …], and the state must be initial before each step whose `starts` is true"
            )


def _kind(tensor: Tensor, of: str = "") -> str:
    shape = ", ".join(map(str, ("B", *tensor.shape[1:])))
    return f"{str(tensor.dtype).removeprefix('torch.')}{of} [{shape}]"


def _check_shapes(seen: dict[str, Tensor], net: nn.Module, num_actions: int) -> None:
    logits, values = tuple(seen["logits"].shape), tuple(seen["values"].shape)
    if logits != (2, num_actions) or values != (2,):
        raise ValueError(
            f"network {type(net).__name__} gives logits {logits} and values {values} "
            f"for 2 observations; the action space needs (2, {num_actions}) and (2,)"
        )


def _check_memory(net: nn.Module, observations: Any, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Refuse a network that answers `observations` differently `before` and `after` a call with others."""
    changed = [name for name in before | after if not _is_same(before.get(name), after.get(name))]
    if changed:  # generators other than PyTorch's also cause differences, but in a fresh copy too
        fresh = _snapshot(copy_network(net).eval(), observations)
        changed = [name for name in changed if _is_same(before.get(name), fresh.get(name))]
    if changed:
        raise ValueError(
            f"network {type(net).__name__} keeps state between calls in evaluation mode: given the same observations "
            f"again after others, it differed in {', '.join(changed[:5])}; workers share its weights and may repeat a "
            "call, so its outputs must depend on the observations alone; a network with memory takes and returns its "
            "state, as lightning_a3c.rl.memory says"
        )


def _snapshot(net: nn.Module, observations: Any, seed: int = 0) -> dict[str, Tensor]:
    """What `net` answers, and what it then holds besides its parameters."""
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would also decide for a GPU not in use yet
    if _uses_cuda():
        torch.cuda.manual_seed_all(seed)
    logits, values = _outputs(net, observations)
    tensors = {"logits": logits, "values": values}
    for path, module in net.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        attributes = {name: value for name, value in vars(module).items() if name not in _MODULE_FIELDS}
        for name, value in (buffers | attributes).items():
            for index, tensor in enumerate(_tensors_in(value)):
                label = f"{path}.{name}" if path else name
                tensors[label if index == 0 else f"{label}[{index}]"] = tensor
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | deque | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(part)


def _is_same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal up to rounding."""
    if a is None or b is None or a.shape != b.shape:
        return a is b
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-6, equal_nan=True)


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    devices = range(torch.cuda.device_count() if _uses_cuda() else 0)
    with torch.random.fork_rng(devices=devices):
        yield


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _eager() -> Any:
    """Run networks of `torch.compile` uncompiled, which saves some twenty seconds."""
    may_be_compiled = "torch._dynamo" in sys.modules  # `torch.compile` imports it; importing it here takes a second
    return torch.compiler.set_stance("force_eager") if may_be_compiled else nullcontext()
