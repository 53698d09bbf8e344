"""A log-density of one point or of a batch, found out by trial, as one of a batch.

A function of a batch maps ``(n, d) -> (n,)``, one of a point ``(d,) -> ()``. The shape of one
answer does not tell them apart: a function of a point may broadcast over a batch and mix its rows.
So f passes for batched only if on trial points x_1..x_n

    f(x_1, .., x_n)_1 = f(x_1)                                                                   (1)

up to rounding; else it is tried on one point, and mapped over the batch by `torch.vmap`. In case of
need both are tried again in double precision, which is what data from NumPy are in.
"""

__all__ = ["Vectorised", "trusting", "vectorise"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from ornstein.errors import OrnsteinError

Points = Tensor | dict[str, Tensor]
"""A batch: ``(n, d)``, or named parameters ``(n, *shape)``."""


class Vectorised(NamedTuple):
    """What `vectorise` finds.

    Attributes:
        fn: a batch of points to ``(n,)`` values.
        trials: points that were spent on finding out.
    """

    fn: Callable[[Any], Tensor]
    trials: int


def vectorise(fn: Callable[[Any], Any], points: Points, name: str) -> Vectorised:
    """The function of a batch that ``fn`` is, or that it becomes by `torch.vmap`, at the price of a
    few trial points.

    Args:
        fn: of a batch or of a point; of a tensor or of named tensors, as ``points`` are.
        points: three or more trial points; their number should be no other size in the problem.
        name: of ``fn`` in error messages.

    Raises:
        OrnsteinError: if it is neither; the message says what each trial came to.
    """
    n, trials, said = _length(points), 0, []
    for cast in (_same, _double):
        for style, candidate in (("a batch", fn), ("one point", torch.vmap(fn))):

            def attempt(x: Points, candidate: Any = candidate, cast: Any = cast) -> Any:
                with trusting():
                    return candidate(cast(x))

            trials += n
            result = _try(attempt, points, n)
            if not isinstance(result, str) and style == "a batch":
                trials += 1
                alone = _try(attempt, _first(points), 1)
                if isinstance(alone, str):
                    result = f"of one row: {alone}"
                elif not torch.allclose(alone, result[:1], rtol=1e-3, atol=1e-3, equal_nan=True):
                    result = (
                        f"the value of a row depends on the others: {float(alone[0]):.6g} alone,"
                        f" {float(result[0]):.6g} among them"
                    )
            if not isinstance(result, str):
                return Vectorised(attempt, trials)
            said.append(f"as a function of {style}: {result}")
    raise OrnsteinError(
        f"{name} is neither a function of a batch, (n, d) -> (n,), nor of a point, (d,) -> (), that"
        " torch.vmap can map. "
        + f"{n} points were tried, {'; '.join(said[:2])}. "
        + "What vmap cannot map (.item(), if on values) can be looped: lambda x:"
        " torch.stack([f(row) for row in x])"
    )


@contextmanager
def trusting() -> Iterator[None]:
    """Without the checks of `torch.distributions`: they branch on values, which `torch.vmap`
    cannot, and raise where -inf is meant."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _try(fn: Callable[[Points], Any], points: Points, n: int) -> Tensor | str:
    """The values ``(n,)``, or what went wrong in words."""
    try:
        value = fn(points)
    except Exception as error:  # whatever the user's function raises is told in the message
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if not isinstance(value, Tensor):
        return f"returned {type(value).__name__}, no tensor"
    return value.detach() if value.shape == (n,) else f"returned shape {tuple(value.shape)}"


def _length(points: Points) -> int:
    return len(points if isinstance(points, Tensor) else next(iter(points.values())))


def _first(points: Points) -> Points:
    return (
        points[:1]
        if isinstance(points, Tensor)
        else {name: value[:1] for name, value in points.items()}
    )


def _same(points: Points) -> Points:
    return points


def _double(points: Points) -> Points:
    return (
        points.double()
        if isinstance(points, Tensor)
        else {name: value.double() for name, value in points.items()}
    )
