"""Turn a user's log-density of one point, or of a batch, into a function of a batch.

A function of a batch maps ``(n, d) -> (n,)``, one of a point ``(d,) -> ()``. The shape of one
answer does not tell them apart: a function of a point may broadcast over a batch and mix its rows.
So f counts as a function of a batch only if on trial points x_1..x_n

    f(x_1, .., x_n)_1 = f(x_1)                                                                   (1)

up to rounding; else it is tried on one point, and mapped over the batch by `torch.vmap`. If both
fail, both are tried again in double precision, which is the precision of data from NumPy.
"""

__all__ = ["Vectorised", "vectorise", "without_validation"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from ornstein.errors import OrnsteinError

Points = Tensor | dict[str, Tensor]
"""A batch: ``(n, d)``, or named parameters ``(n, *shape)``."""
_TOLERANCE = 1e-3  # relative and absolute, of (1): values may be in single precision
_MESSAGE_LENGTH = 300  # characters of the user's own error that are repeated


class Vectorised(NamedTuple):
    """A function of a batch of points, with the number of evaluations that its test took.

    Attributes:
        fn: maps a batch of points to ``(n,)`` values.
        trials: points at which the user's function was evaluated.
    """

    fn: Callable[[Any], Tensor]
    trials: int


def vectorise(fn: Callable[[Any], Any], points: Points, name: str) -> Vectorised:
    """Return ``fn`` as a function of a batch, by `torch.vmap` if it is a function of one point.

    Args:
        fn: a function of a batch or of a point; of a tensor or of named tensors, as ``points`` are.
        points: three or more trial points; their number should be no other size in the problem.
        name: name of ``fn`` in error messages.

    Raises:
        OrnsteinError: if it is neither; the message tells the result of each trial.
    """
    n = _length(points)
    trials = 0
    failures = []
    for cast in (_same, _double):
        for style, candidate in (("a batch", fn), ("one point", torch.vmap(fn))):

            def attempt(x: Points, candidate: Any = candidate, cast: Any = cast) -> Any:
                with without_validation():
                    return candidate(cast(x))

            trials += n
            result = _try(attempt, points, n)
            if not isinstance(result, str) and style == "a batch":
                trials += 1
                alone = _try(attempt, _first(points), 1)
                if isinstance(alone, str):
                    result = f"of one row: {alone}"
                elif not torch.allclose(
                    alone, result[:1], rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
                ):
                    result = (
                        f"the value of a row depends on the others: {float(alone[0]):.6g} alone,"
                        f" {float(result[0]):.6g} among them"
                    )
            if not isinstance(result, str):
                return Vectorised(attempt, trials)
            failures.append(f"as a function of {style}: {result}")
    raise OrnsteinError(
        f"{name} is neither a function of a batch, (n, d) -> (n,), nor of a point, (d,) -> (), that"
        " torch.vmap can map. "
        + f"{n} points were tried, {'; '.join(failures[:2])}. "
        + "What vmap cannot map (.item(), if on values) can be looped: lambda x:"
        " torch.stack([f(row) for row in x]). A function of NumPy arrays needs its gradient:"
        " orn.from_numpy(fn, dim) with fn(x) -> (value, gradient)"
    )


class _Validation:
    """A counter of threads that need the argument checks of `torch.distributions` off."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.before = True

    def off(self) -> None:
        """Switch the checks off; the first user stores the previous setting."""
        with self.lock:
            if self.users == 0:
                self.before = Distribution._validate_args
                Distribution.set_default_validate_args(False)
            self.users += 1

    def restore(self) -> None:
        """Count one user less; after the last one, restore the previous setting."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                Distribution.set_default_validate_args(self.before)


_VALIDATION = _Validation()


@contextmanager
def without_validation() -> Iterator[None]:
    """Switch off the checks of `torch.distributions` within a ``with`` block, in any thread.

    The checks branch on values, which `torch.vmap` cannot do, and raise where -inf is meant. They
    are on again once no thread is inside such a block.
    """
    _VALIDATION.off()
    try:
        yield
    finally:
        _VALIDATION.restore()


def _try(fn: Callable[[Points], Any], points: Points, n: int) -> Tensor | str:
    """Return the values ``(n,)`` of a function, or in words what is wrong with them."""
    try:
        value = fn(points)
    except Exception as error:  # the message repeats whatever the user's function raises
        return f"{type(error).__name__}: {' '.join(str(error).split())[:_MESSAGE_LENGTH]}"
    if not isinstance(value, Tensor):
        return f"returned {type(value).__name__}, no tensor"
    return value.detach() if value.shape == (n,) else f"returned shape {tuple(value.shape)}"


def _length(points: Points) -> int:
    """Return the number of points in a batch."""
    return len(points if isinstance(points, Tensor) else next(iter(points.values())))


def _first(points: Points) -> Points:
    """Return a batch that consists of the first point."""
    return (
        points[:1]
        if isinstance(points, Tensor)
        else {name: value[:1] for name, value in points.items()}
    )


def _same(points: Points) -> Points:
    """Return the points unchanged, in the precision that they have."""
    return points


def _double(points: Points) -> Points:
    """Return the points in double precision."""
    return (
        points.double()
        if isinstance(points, Tensor)
        else {name: value.double() for name, value in points.items()}
    )
