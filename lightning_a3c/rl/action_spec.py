"""Distributions over actions, by family of action space: drawing, scoring, and handing actions to the environment.

A network gives `parameters` [B, P]; a spec knows what they mean. `torch.distributions` has the same distributions and
is what `distribution` returns, but its `sample` takes no generator and its objects cost time, so specs compute by
themselves. Knows no environment and no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_LOG_STD_RANGE = (-20.0, 2.0)  # of a head; beyond it a single large gradient would make exp overflow or vanish


@contextmanager
def seeded_by(generator: torch.Generator | None) -> Iterator[None]:
    """Let `generator` decide what the block draws with functions that take none, as those of `torch.distributions` do.

    The global random state is as before afterwards. Without a generator the block draws from it.
    """
    if generator is None:
        yield
        return
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        yield


class ActionSpec(Protocol):
    """One family of action spaces, and the base of your own distributions.

    `model.action_spec` names a class that is called like the one it replaces: with `low` and `high` for Box, `n` and
    `start` for Discrete, `n` for MultiBinary, and otherwise with `parts`, a tuple of specs; then with its `init_args`.
    It has all methods up to `to_env`, and changes nothing when it is called.
    """

    @property
    def num_outputs(self) -> int:
        """Numbers per observation that the network computes for the policy."""
        return self.num_parameters

    @property
    def num_parameters(self) -> int:
        """P, numbers per observation that the distribution takes."""

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """float32 [B, P] → actions: int64 [B], int64 [B, L] or float32 [B, L].

        They depend on the generator alone, if there is one: reproducible runs need that. `seeded_by` helps.
        """

    def mode(self, parameters: Tensor) -> Tensor:
        """float32 [B, P] → the likeliest actions."""

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [B, P], actions → log π(a|o) and the entropy in nats, both float32 [B]."""

    def to_env(self, actions: Tensor) -> Tensor:
        """Actions in the environment's units; only here do clipping and squashing take place.

        int64 [B] for Discrete, otherwise rows of all numbers of an action, [B, L].
        """

    def distribution(self, parameters: Tensor) -> D.Distribution:
        """The same distribution as an object of PyTorch's, for those who want one; nothing else calls it."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution of PyTorch's")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `action_spec` makes it again; one named by class path has no need of it."""
        raise NotImplementedError(f"{type(self).__name__} has no family")


@dataclass(frozen=True)
class DiscreteSpec:
    """One of `n` actions, stored as 0 … n − 1; parameters are logits, −∞ masks an action.

    Args:
        n: number of actions.
        start: the environment's number for action 0.
    """

    n: int
    start: int = 0

    @property
    def num_outputs(self) -> int:
        return self.n

    @property
    def num_parameters(self) -> int:
        return self.n

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """float32 [B, P] → int64 [B], as `torch.multinomial` draws one a row, bit for bit, with fewer checks.

        Raises:
            RuntimeError: the logits make no distribution.
        """
        probabilities = parameters.softmax(dim=1)
        scores = probabilities / torch.empty_like(probabilities).exponential_(1, generator=generator)
        if not math.isfinite(scores.sum().item()):  # argmax would take NaN for an action
            raise RuntimeError("probabilities contain NaN or infinite numbers")
        return scores.argmax(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(dim=1)

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = parameters.log_softmax(dim=1)
        probabilities = log_probs.exp()  # first: autograd adds the two gradients in the order of their creation
        finite = log_probs.clamp_min(torch.finfo(log_probs.dtype).min)  # 0 · −∞ would be NaN
        entropy = -(probabilities * finite).sum(dim=1)
        return log_probs.gather(1, actions.unsqueeze(1)).squeeze(1), entropy

    def to_env(self, actions: Tensor) -> Tensor:
        return actions + self.start if self.start else actions

    def distribution(self, parameters: Tensor) -> D.Distribution:
        return D.Categorical(logits=parameters)

    def to_dict(self) -> dict[str, Any]:
        return {"family": "discrete"} | asdict(self)


@dataclass(frozen=True)
class BinarySpec:
    """`n` independent choices of 0 or 1, int64 [B, n]; parameters are logits of 1."""

    n: int

    @property
    def num_outputs(self) -> int:
        return self.n

    @property
    def num_parameters(self) -> int:
        return self.n

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(parameters.sigmoid(), generator=generator).long()

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters > 0).long()

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_one, log_zero = F.logsigmoid(parameters), F.logsigmoid(-parameters)
        log_prob = torch.where(actions == 1, log_one, log_zero).sum(dim=1)
        entropy = -(log_one.exp() * log_one + log_zero.exp() * log_zero).sum(dim=1)
        return log_prob, entropy

    def to_env(self, actions: Tensor) -> Tensor:
        return actions

    def distribution(self, parameters: Tensor) -> D.Distribution:
        return D.Independent(D.Bernoulli(logits=parameters), 1)

    def to_dict(self) -> dict[str, Any]:
        return {"family": "binary", "n": self.n}


@dataclass(frozen=True)
class BoxSpec:
    """Real vectors, float32 [B, d], from a Gaussian with independent components; parameters are means and log-stds.

    Where both bounds of a component are finite, −1 … 1 is mapped to them. The stored action is the Gaussian's own;
    clipping or squashing happens in `to_env` alone, so the log-probability is that of the Gaussian.

    Args:
        low: lower bound of each component; −∞ if it has none.
        high: upper bound of each component; ∞ if it has none.
        squash: map actions into the bounds by tanh instead of clipping them; needs finite bounds.
        has_std_head: whether the network computes the log-stds per observation; otherwise they are d parameters.
        initial_log_std: where the d parameters start.
        bounds_mean: bring the means into the bounds by tanh, where both are finite. A mean far beyond a bound explores
            no longer: all actions drawn around it are clipped to the bound.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    squash: bool = False
    has_std_head: bool = False
    initial_log_std: float = -0.5
    bounds_mean: bool = False

    def __post_init__(self) -> None:
        if self.squash and not all(map(math.isfinite, (*self.low, *self.high))):
            raise ValueError(f"squashing needs finite action bounds, got {self.low} … {self.high}; clip instead")
        if self.squash and self.bounds_mean:
            raise ValueError("squashed actions need means beyond ±1; squash the actions or bound their means, not both")

    @property
    def num_outputs(self) -> int:
        return len(self.low) * (2 if self.has_std_head else 1)

    @property
    def num_parameters(self) -> int:
        return 2 * len(self.low)

    def means(self, outputs: Tensor) -> Tensor:
        """The means that a network's outputs for them stand for; both float [B, d]."""
        if not self.bounds_mean:
            return outputs
        is_bounded = self._is_bounded
        if all(is_bounded):
            return outputs.tanh()
        return torch.where(torch.tensor(is_bounded, device=outputs.device), outputs.tanh(), outputs)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_std = parameters.chunk(2, dim=1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_std.exp() * noise

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.chunk(2, dim=1)[0]

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = parameters.chunk(2, dim=1)
        z = (actions - mean) * (-log_std).exp()
        log_prob = -(0.5 * z.square() + log_std + _HALF_LOG_2_PI).sum(dim=1)
        entropy = (log_std + (0.5 + _HALF_LOG_2_PI)).sum(dim=1)
        return log_prob, entropy

    @property
    def _is_bounded(self) -> list[bool]:
        return [math.isfinite(low) and math.isfinite(high) for low, high in zip(self.low, self.high, strict=True)]

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Low, high, and where 0 and the length of 1 are mapped to; each float32 [d]."""
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        is_bounded = torch.tensor(self._is_bounded)
        middle = torch.where(is_bounded, (low + high) / 2, 0.0)
        half = torch.where(is_bounded, (high - low) / 2, 1.0)
        return low, high, middle, half

    def to_env(self, actions: Tensor) -> Tensor:
        low, high, middle, half = self._bounds
        actions = actions.cpu()
        if self.squash:
            actions = actions.tanh()
        return (middle + half * actions).clamp(low, high)

    def distribution(self, parameters: Tensor) -> D.Distribution:
        mean, log_std = parameters.chunk(2, dim=1)
        return D.Independent(D.Normal(mean, log_std.exp()), 1)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"family": "box"} | values | {"low": list(self.low), "high": list(self.high)}


@dataclass(frozen=True)
class JointSpec:
    """Several independent parts at once, such as MultiDiscrete, Tuple and Dict have.

    Actions are the parts' side by side: int64 [B, L] if all parts are integers, otherwise float32 [B, L].
    """

    parts: tuple[ActionSpec, ...]

    @property
    def num_outputs(self) -> int:
        return sum(part.num_outputs for part in self.parts)

    @property
    def num_parameters(self) -> int:
        return sum(part.num_parameters for part in self.parts)

    @property
    def is_integer(self) -> bool:
        """Whether all parts are."""
        return all(isinstance(part, DiscreteSpec | BinarySpec) for part in self.parts)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pieces = self._split_parameters(parameters)
        return self._join([part.sample(piece, generator) for part, piece in zip(self.parts, pieces, strict=True)])

    def mode(self, parameters: Tensor) -> Tensor:
        pieces = self._split_parameters(parameters)
        return self._join([part.mode(piece) for part, piece in zip(self.parts, pieces, strict=True)])

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        scored = [
            part.log_prob_and_entropy(piece, action)
            for part, piece, action in zip(
                self.parts, self._split_parameters(parameters), self.split_actions(actions), strict=True
            )
        ]
        log_probs, entropies = zip(*scored, strict=True)
        return torch.stack(log_probs).sum(dim=0), torch.stack(entropies).sum(dim=0)

    def to_env(self, actions: Tensor) -> Tensor:
        parts = zip(self.parts, self.split_actions(actions), strict=True)
        return self._join([part.to_env(action) for part, action in parts])

    def distribution(self, parameters: Tensor) -> D.Distribution:
        """Not available: PyTorch has no joint distribution of unlike parts. Use those of `parts`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a joint action space has no single torch distribution; use those of its parts")

    def split_actions(self, actions: Tensor) -> list[Tensor]:
        """The actions of each part, in the form that the part knows."""
        pieces = torch.split(actions, [action_size(part) for part in self.parts], dim=1)
        return [
            piece.long().squeeze(1)
            if isinstance(part, DiscreteSpec)
            else piece.long()
            if isinstance(part, BinarySpec)
            else piece
            for part, piece in zip(self.parts, pieces, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"family": "joint", "parts": [part.to_dict() for part in self.parts]}

    def _split_parameters(self, parameters: Tensor) -> Sequence[Tensor]:
        return torch.split(parameters, [part.num_parameters for part in self.parts], dim=1)

    def _join(self, actions: list[Tensor]) -> Tensor:
        columns = [action.unsqueeze(1) if action.ndim == 1 else action for action in actions]
        return torch.cat(columns if self.is_integer else [column.float() for column in columns], dim=1)


def action_size(spec: ActionSpec) -> int:
    """L, numbers per stored action."""
    return math.prod(stored_shape(spec))


def stored_shape(spec: ActionSpec) -> tuple[int, ...]:
    """Shape of one stored action: () or (L,)."""
    if isinstance(spec, DiscreteSpec):
        return ()
    if isinstance(spec, JointSpec):
        return (sum(map(action_size, spec.parts)),)
    if isinstance(spec, BinarySpec):
        return (spec.n,)
    if isinstance(spec, BoxSpec):
        return (len(spec.low),)
    return tuple(spec.mode(torch.zeros(1, spec.num_parameters)).shape[1:])


def is_continuous(spec: ActionSpec) -> bool:
    """Whether actions, or parts of them, are real numbers."""
    return spec.mode(torch.zeros(1, spec.num_parameters)).is_floating_point()


def action_spec(values: dict[str, Any]) -> ActionSpec:
    """The spec that `to_dict` described.

    Raises:
        ValueError: the family is unknown, or a value is out of range.
    """
    family, fields = values.get("family"), {name: value for name, value in values.items() if name != "family"}
    if family == "discrete":
        return DiscreteSpec(**fields)
    if family == "binary":
        return BinarySpec(**fields)
    if family == "box":
        return BoxSpec(**fields | {"low": tuple(fields["low"]), "high": tuple(fields["high"])})
    if family == "joint":
        return JointSpec(tuple(map(action_spec, fields["parts"])))
    raise ValueError(f"action family must be discrete, binary, box or joint, got {family!r}")


def clamp_log_std(log_std: Tensor) -> Tensor:
    """Log-stds within what exp can take."""
    return log_std.clamp(*_LOG_STD_RANGE)
