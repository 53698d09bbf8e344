"""What every Brownian motion offers, how a run draws from it, and motions made of others:
correlated, and pinned.

For a factor L with ``L L' = C`` the motion ``L B`` has covariance ``C t``. A motion pinned at y is

    X_t = x + B_t - (t - t0) / (t1 - t0) (B_{t1} - (y - x)),                                     (1)

which is independent of B_{t1}: the law of x + B given that it ends in y. Over any interval it
differs from B by a straight line, so that its Levy areas, which belong to what is left when the
chord is taken off, are those of B.
"""

__all__ = ["BrownianBridgePath", "Correlated", "Motion", "PathStream"]

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.errors import OrnsteinError

_REST = 0x72657374  # key that keeps what a method draws beside its path apart


class Motion(ABC):
    """A path on ``[t0, t1]`` that answers for increments and areas: ``B(t)`` is a value, ``B(s, t)
    = B(t) - B(s)`` an increment."""

    shape: Sequence[int]
    t0: float
    t1: float
    dtype: torch.dtype
    order: int

    @abstractmethod
    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``B(t) - B(s)`` for scalar times in either order."""

    @abstractmethod
    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """The space-time Levy area H over an interval, or with ``moment=2`` the space-time-time
        Levy area K."""

    @abstractmethod
    def beside(self) -> Noise:
        """A source that is independent of the path."""

    def __call__(self, s: Time, t: Time | None = None) -> Float[Tensor, "b *event"]:
        """``B(s)``, or with two times the increment ``B(s, t) = B(t) - B(s)``."""
        return self.increment(self.t0, s) if t is None else self.increment(s, t)

    def between(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``(B(t) - B(s)) / sqrt|t - s|``: of a Brownian motion, a standard normal number in every
        entry.

        Raises:
            OrnsteinError: if ``s == t``.
        """
        a, b = float(s), float(t)
        if a == b:
            raise OrnsteinError(
                f"the increment from {a} to itself cannot be normalised: use increment(s, t), which"
                " is 0"
            )
        return self.increment(a, b).div_(math.sqrt(abs(b - a)))

    def fold(self, *keys: int) -> "Motion":
        """This very path. Users of a `Noise` fold it to get numbers that are theirs alone; a path
        is what it is."""
        return self

    def stream_like(self, x: Tensor) -> "PathStream":
        """The path as the randomness of one run, in place of `Noise.stream_like`.

        Raises:
            OrnsteinError: if the shape of ``x`` is not that of the path.
        """
        if tuple(x.shape) != tuple(self.shape):
            raise OrnsteinError(
                f"a state of shape {tuple(x.shape)} on a path of shape {self.shape}: make the path"
                " with shape=x.shape"
            )
        return PathStream(self, self.beside().fold(_REST).stream_like(x), x[:0].detach())


class PathStream(NamedTuple):
    """A `BrownianPath` in the place of a `NormalStream`, so that runs on different grids follow one
    Brownian motion.

    Steps go ``t -> s``, as everywhere in the library. What a method draws beside its increments
    comes from an independent source, in the order of the draws.
    """

    path: Motion
    rest: NormalStream
    like: Tensor

    def normal(self) -> Float[Tensor, "b *event"]:
        """The next standard normal numbers: independent of the path."""
        return self.rest.normal()

    def uniform(self) -> Float[Tensor, "b *event"]:
        """The next uniform numbers on ``[0, 1)``: independent of the path."""
        return self.rest.uniform()

    def increment(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """``B(s) - B(t)``, ``N(0, |s - t|)`` in every entry, for scalar times."""
        return self.path.increment(t, s).to(self.like)

    def between(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """``(B(s) - B(t)) / sqrt|s - t|``: the standard normal numbers of a step, in place of
        `normal`."""
        return self.path.between(t, s).to(self.like)

    def area(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """The space-time Levy area H of the step: the mean of the path over it is ``B(t) +
        increment / 2 + H``.

        That of the path where it has one (``order=2``); otherwise a number of the same law, ``N(0,
        |s - t| / 12)``, that is independent of the path, so that runs on different grids do not share it.
        """
        if self.path.order > 1:
            return self.path.levy_area(t, s).to(self.like)
        return self.rest.normal().mul_(math.sqrt(abs(float(s) - float(t)) / 12))


class Derived(Motion):
    """A motion made of another: where that is, in its dtype, known as well, with the same numbers
    beside it."""

    path: Motion

    @property
    def t0(self) -> float:  # type: ignore[override]
        """Start of the path."""
        return self.path.t0

    @property
    def t1(self) -> float:  # type: ignore[override]
        """End of the path."""
        return self.path.t1

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Of the values."""
        return self.path.dtype

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the path."""
        return self.path.order

    def beside(self) -> Noise:
        """That of the path."""
        return self.path.beside()


@dataclass(frozen=True)
class Correlated(Derived):
    """``L B``: a motion of d coordinates with covariance ``L L' t``, from one of m independent
    ones.

    Args:
        path: of shape ``(b, *event, m)``.
        factor: L, ``(d, m)``; see `of` for a correlation matrix.

    Raises:
        OrnsteinError: if the shapes do not meet.
    """

    path: Motion
    factor: Float[Tensor, "d m"]
    shape: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        size = tuple(self.path.shape)
        if len(size) < 2 or size[-1] != self.factor.shape[1]:
            raise OrnsteinError(
                f"a factor of shape {tuple(self.factor.shape)} on a path of shape {size}: (d, m)"
                " needs a path of shape (b, ..., m)"
            )
        object.__setattr__(self, "shape", (*size[:-1], self.factor.shape[0]))

    @classmethod
    def of(cls, path: Motion, correlation: Float[Tensor, "d d"]) -> "Correlated":
        """The motion with this correlation matrix, which may be singular.

        Raises:
            OrnsteinError: if it is not symmetric with a unit diagonal and no negative eigenvalue.
        """
        c = correlation.double()
        values, vectors = torch.linalg.eigh((c + c.T) / 2)
        if not (
            torch.allclose(c, c.T)
            and torch.allclose(c.diagonal(), torch.ones(len(c)).double())
            and float(values[0]) > -1e-9
        ):
            raise OrnsteinError(
                f"not a correlation matrix: {correlation.tolist()}; it is symmetric with ones on"
                " its diagonal and no eigenvalue below 0 (here the least is"
                f" {float(values[0]):.3g}). For a covariance, give a factor of it: Correlated(path,"
                " factor)"
            )
        return cls(path, vectors * values.clamp(min=0).sqrt() @ vectors.T)

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``L (B(t) - B(s))``."""
        return self._mix(self.path.increment(s, t))

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """``L H``, or ``L K``."""
        return self._mix(self.path.levy_area(s, t, moment))

    def _mix(self, x: Tensor) -> Tensor:
        columns = self.factor.to(x).unbind(
            1
        )  # one by one: a matrix product may round a sample differently in another batch
        total = x[..., :1] * columns[0]
        for j in range(1, len(columns)):
            total += x[..., j : j + 1] * columns[j]
        return total


@dataclass(frozen=True)
class BrownianBridgePath(Derived):
    """A Brownian bridge (1): ``path``, moved to start at ``start`` and to end at ``end``.

    ``X(t)`` is the value, start included; increments and areas are those of the bridge. Asking for
    a value or an increment needs B(t1), which is kept. For the process as a `LinearSDE`, with its
    exact kernels, see `Bridge`.

    Args:
        path: a Brownian motion.
        end: value at t1, broadcastable to the shape of the path.
        start: value at t0, the same.
    """

    path: Motion
    end: Tensor | float
    start: Tensor | float = 0.0

    @property
    def shape(self) -> Sequence[int]:  # type: ignore[override]
        """That of the path."""
        return self.path.shape

    @cached_property
    def _excess(self) -> Tensor:
        """``(B(t1) - (end - start)) / (t1 - t0)``: the slope that is taken off."""
        return (self.path.increment(self.t0, self.t1) - (self.end - self.start)) / (
            self.t1 - self.t0
        )

    def __call__(self, s: Time, t: Time | None = None) -> Float[Tensor, "b *event"]:
        """``X(s)``, or with two times the increment ``X(t) - X(s)``."""
        return self.increment(self.t0, s) + self.start if t is None else self.increment(s, t)

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``B(t) - B(s) - (t - s) (B(t1) - (end - start)) / (t1 - t0)``."""
        return self.path.increment(s, t) - self._excess * (float(t) - float(s))  # (1)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """That of the path."""
        return self.path.levy_area(s, t, moment)
