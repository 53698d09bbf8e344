"""Draws that are functions of a path alone, so that a step taken twice sees the same numbers, and
of some samples of it.

A run on a `BrownianPath` may draw other numbers beside it, in the order of its steps:
`ornstein.core.random.PathStream`. Where steps are refused, or recomputed for a gradient, there is
no such order, and only what the path itself answers is of use.
"""

__all__ = ["ReplayableStream"]

from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from ornstein.core.random.motion import Motion, PathStream
from ornstein.core.random.noise import NoiseStream
from ornstein.errors import OrnsteinError


class ReplayableStream(NamedTuple):
    """A `PathStream` without its other numbers.

    Attributes:
        path: the motion.
        like: an empty tensor with the dtype and device of the increments.
        user: who asks, for the error.
        rows: indices of the samples; all by default.
    """

    path: Motion
    like: Tensor
    user: Any
    rows: Tensor | None = None

    @classmethod
    def of(cls, stream: NoiseStream, user: Any) -> "ReplayableStream":
        """The path of a stream.

        Raises:
            OrnsteinError: if it has none.
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
        """``B(s) - B(t)``."""
        return self._pick(self.path.increment(t, s))

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        """``(B(s) - B(t)) / sqrt|s - t|``."""
        return self._pick(self.path.between(t, s))

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        """The path's space-time Levy area H.

        Raises:
            OrnsteinError: if it has none.
        """
        if self.path.order < 2:
            raise OrnsteinError(
                f"{self.user} on a path of order {self.path.order}: this method needs areas too,"
                " make it with order=2"
            )
        return self._pick(self.path.levy_area(t, s))

    def normal(self) -> NoReturn:
        """Nothing: it raises an `OrnsteinError`."""
        raise OrnsteinError(
            f"{self.user} works with methods that draw nothing beside a Brownian path, such as SRK"
            " or Milstein"
        )

    def uniform(self) -> NoReturn:
        """Nothing: it raises an `OrnsteinError`."""
        self.normal()

    def _pick(self, x: Tensor) -> Tensor:
        return (x if self.rows is None else x[self.rows]).to(self.like)
