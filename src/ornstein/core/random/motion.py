"""Brownian motions as objects: interface, random numbers, correlated and pinned motions.

A run that is given a motion instead of a `Noise` takes all its increments from it, so that runs on
different time grids follow the same path. For a factor L with ``L L' = C`` the motion ``L B`` has
covariance ``C t``. A motion pinned at y is

    X_t = x + B_t - (t - t0) / (t1 - t0) (B_{t1} - (y - x)),                                     (1)

which is independent of B_{t1}: the law of x + B given that it ends in y. Over any interval it
differs from B by a straight line. Levy areas belong to the path minus its chord, so those of X are
those of B.
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

from ornstein.core.numerics.deprecated import warn_renamed
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.errors import OrnsteinError

_OTHER_NUMBERS = 0x72657374  # key of what a method draws besides its path


class Motion(ABC):
    """Base class of paths on ``[t0, t1]`` that can be queried for increments and Levy areas.

    ``B(t)`` is a value, ``B(s, t) = B(t) - B(s)`` an increment.

    Attributes:
        shape: ``(b, *event)``; the first dimension counts samples.
        t0, t1: start and end of the path.
        dtype: of the values.
        order: 1 with increments, 2 also with the space-time Levy area H, 3 also with K.
    """

    shape: Sequence[int]
    t0: float
    t1: float
    dtype: torch.dtype
    order: int

    @abstractmethod
    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the increment ``B(t) - B(s)`` for scalar times in either order."""

    @abstractmethod
    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """Return the space-time Levy area H over an interval, or with ``moment=2`` the area K."""

    @abstractmethod
    def independent_noise(self) -> Noise:
        """Return a source of random numbers that is independent of the path."""

    def beside(self) -> Noise:
        """Return `independent_noise`, by the name that it had in the previous release."""
        warn_renamed("Motion.beside()", "Motion.independent_noise()")
        return self.independent_noise()

    def __call__(self, s: Time, t: Time | None = None) -> Float[Tensor, "b *event"]:
        """Return ``B(s)``, or with two times the increment ``B(s, t) = B(t) - B(s)``."""
        return self.increment(self.t0, s) if t is None else self.increment(s, t)

    def between(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the standard normal numbers ``(B(t) - B(s)) / sqrt|t - s|`` of an interval.

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
        """Return the path itself, since all users of one path see the same motion.

        A `Noise` returns an independent source in its place.
        """
        return self

    def stream_like(self, x: Tensor) -> "PathStream":
        """Return a stream of random numbers that follows the path, as `Noise.stream_like` does.

        Raises:
            OrnsteinError: if the shape of ``x`` is not that of the path.
        """
        if tuple(x.shape) != tuple(self.shape):
            raise OrnsteinError(
                f"a state of shape {tuple(x.shape)} on a path of shape {self.shape}: make the path"
                " with shape=x.shape"
            )
        return PathStream(
            self, self.independent_noise().fold(_OTHER_NUMBERS).stream_like(x), x[:0].detach()
        )


class PathStream(NamedTuple):
    """The random numbers of a run that follows a Brownian path, in place of a `NormalStream`.

    Steps go ``t -> s``, as everywhere in the library. Numbers other than increments and areas come
    from an independent source, in the order of the draws.

    Attributes:
        path: the motion.
        other: the source of the other numbers.
        like: an empty tensor with the dtype and device of the increments.
    """

    path: Motion
    other: NormalStream
    like: Tensor

    def normal(self) -> Float[Tensor, "b *event"]:
        """Return the next standard normal numbers, which are independent of the path."""
        return self.other.normal()

    def uniform(self) -> Float[Tensor, "b *event"]:
        """Return the next uniform numbers on ``[0, 1)``, independent of the path."""
        return self.other.uniform()

    def increment(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """Return the increment ``B(s) - B(t)``, ``N(0, |s - t|)`` in every entry."""
        return self.path.increment(t, s).to(self.like)

    def between(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """Return the standard normal numbers ``(B(s) - B(t)) / sqrt|s - t|`` of a step."""
        return self.path.between(t, s).to(self.like)

    def area(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """Return the space-time Levy area H of the step from t to s.

        The mean of the path over the step is ``B(t) + increment / 2 + H``. A path of order 2 or
        more has such areas. For a path of order 1 it is a number of the same law, ``N(0, |s - t| /
        12)``, that is independent of the path, so runs on different grids have different areas.
        """
        if self.path.order > 1:
            return self.path.levy_area(t, s).to(self.like)
        return self.other.normal().mul_(math.sqrt(abs(float(s) - float(t)) / 12))


class Derived(Motion):
    """Base class of motions that are computed from another motion, on the same interval."""

    path: Motion

    @property
    def t0(self) -> float:  # type: ignore[override]
        """The start of the path, in units of time."""
        return self.path.t0

    @property
    def t1(self) -> float:  # type: ignore[override]
        """The end of the path, in units of time."""
        return self.path.t1

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The dtype of the values of the path."""
        return self.path.dtype

    @property
    def order(self) -> int:  # type: ignore[override]
        """The order of the path, which says what areas it has."""
        return self.path.order

    def independent_noise(self) -> Noise:
        """Return the source of randomness of the underlying path, independent of both paths."""
        return self.path.independent_noise()


@dataclass(frozen=True)
class Correlated(Derived):
    """A motion ``L B`` of d coordinates with covariance ``L L' t``, from m independent ones.

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
        """Return the motion with this correlation matrix, which may be singular.

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
                " its diagonal and no eigenvalue below 0 (here the smallest is"
                f" {float(values[0]):.3g}). For a covariance, give a factor of it: Correlated(path,"
                " factor)"
            )
        return cls(path, vectors * values.clamp(min=0).sqrt() @ vectors.T)

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the increment ``L (B(t) - B(s))`` of the correlated motion."""
        return self._mix(self.path.increment(s, t))

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """Return the Levy area ``L H`` of the motion, or ``L K`` with ``moment=2``."""
        return self._mix(self.path.levy_area(s, t, moment))

    def _mix(self, x: Tensor) -> Tensor:
        """Return ``L x`` summed column by column, so that rounding does not depend on the batch."""
        columns = self.factor.to(x).unbind(1)
        total = x[..., :1] * columns[0]
        for j in range(1, len(columns)):
            total += x[..., j : j + 1] * columns[j]
        return total


@dataclass(frozen=True)
class BrownianBridgePath(Derived):
    """A Brownian bridge: a path that is moved to start at ``start`` and to end at ``end``.

    ``X(t)`` is the value, start included; increments and areas are those of the bridge. A value or
    an increment needs B(t1), which is stored. For the process as a `LinearSDE`, with its
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
        """The shape ``(b, *event)`` of the values of the path."""
        return self.path.shape

    @cached_property
    def _excess(self) -> Tensor:
        """The slope that is subtracted, ``(B(t1) - (end - start)) / (t1 - t0)``."""
        return (self.path.increment(self.t0, self.t1) - (self.end - self.start)) / (
            self.t1 - self.t0
        )

    def __call__(self, s: Time, t: Time | None = None) -> Float[Tensor, "b *event"]:
        """Return ``X(s)``, or with two times the increment ``X(t) - X(s)``."""
        return self.increment(self.t0, s) + self.start if t is None else self.increment(s, t)

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the increment ``B(t) - B(s) - (t - s) (B(t1) - (end - start)) / (t1 - t0)``."""
        return self.path.increment(s, t) - self._excess * (float(t) - float(s))  # (1)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """Return the Levy area of the path, which the bridge has too."""
        return self.path.levy_area(s, t, moment)
