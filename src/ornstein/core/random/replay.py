"""Streams of random numbers that can be drawn again, for steps that are refused or recomputed.

The stream of a run on a `BrownianPath` (`ornstein.core.random.PathStream`) also draws numbers that
are independent of the path, in the order of the steps. An adaptive method that refuses steps and a
gradient that recomputes them have no such order: they may use increments and areas of the path
only, which are the same whenever they are asked for.
"""

__all__ = ["ReplayableStream"]

from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from ornstein.core.random.motion import Motion, PathStream
from ornstein.core.random.noise import NoiseStream
from ornstein.errors import OrnsteinError


class ReplayableStream(NamedTuple):
    """The increments and areas of a Brownian path, for steps that may be taken twice.

    Attributes:
        path: the Brownian motion.
        like: an empty tensor with the dtype and device of the increments.
        user: the method that draws, for the error.
        rows: indices of the samples to draw for; None for all.
    """

    path: Motion
    like: Tensor
    user: Any
    rows: Tensor | None = None

    @classmethod
    def of(cls, stream: NoiseStream, user: Any) -> "ReplayableStream":
        """Return the part of a stream that can be drawn again: the path it follows.

        Raises:
            OrnsteinError: if the stream has no path.
        """
        if isinstance(stream, ReplayableStream):
            return stream._replace(user=user)
        if not isinstance(stream, PathStream):
            raise OrnsteinError(
                f"{user} takes steps that it may have to take again, and numbers drawn afresh would"
                " be chosen by what they did: give it a path, seed=orn.BrownianPath(shape, t1=T,"
                " order=2)"
            )
        return cls(stream.path, stream.like, user)

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the increment ``B(s) - B(t)`` of the path."""
        return self._pick(self.path.increment(t, s))

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the standard normal numbers ``(B(s) - B(t)) / sqrt|s - t|``."""
        return self._pick(self.path.between(t, s))

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the space-time Levy area H of the path.

        Raises:
            OrnsteinError: if the path has no areas, for its order is 1.
        """
        if self.path.order < 2:
            raise OrnsteinError(
                f"{self.user} on a path of order {self.path.order}: this method needs areas too,"
                " make it with order=2"
            )
        return self._pick(self.path.levy_area(t, s))

    def normal(self) -> NoReturn:
        """Raise an `OrnsteinError`, for such numbers could not be drawn again."""
        raise OrnsteinError(
            f"{self.user} works with methods that draw nothing but a Brownian path, such as SRK"
            " or Milstein"
        )

    def uniform(self) -> NoReturn:
        """Raise an `OrnsteinError`, for such numbers could not be drawn again."""
        self.normal()

    def _pick(self, x: Tensor) -> Tensor:
        """Return the rows of the samples that are still being refined."""
        return (x if self.rows is None else x[self.rows]).to(self.like)
