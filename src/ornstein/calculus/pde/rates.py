"""What the rates of a grid are made of: coefficients, and (2) to (4) of
`ornstein.calculus.pde.generator` for a segment."""

__all__ = ["NODES", "Array", "coefficient", "finite", "segment_rates"]

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.errors import OrnsteinError

Array = np.ndarray[Any, np.dtype[np.float64]]
"""Numbers in float64."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
NODES: Array = _NODES
"""Three Gauss points on [-1, 1]."""
_MOMENTS = np.stack((_WEIGHTS / 2, 3 * _WEIGHTS * NODES))


def segment_rates(w: Array, length: Array) -> tuple[Array, Array]:
    """``B(-P) / l`` and ``B(P) / l`` with the factor (4): how fast paths go up and down a segment,
    but for D and a length.

    Args:
        w: ``A / D`` at the Gauss points, ``(segments, 3, *rest)``.
        length: of the segments.
    """
    moments = _MOMENTS @ w.reshape(*w.shape[:2], -1)
    shape = (len(w), *w.shape[2:])
    length = length.reshape(-1, *[1] * (len(shape) - 1))
    peclet, change = (length * moments[:, i].reshape(shape) for i in (0, 1))
    both = (1 - change / 6 / (1 + change**2 + peclet**2)) / length  # (4)
    with_it, against = _bernoulli(np.abs(peclet))
    return both * np.where(peclet > 0, with_it, against), both * np.where(
        peclet > 0, against, with_it
    )


def _bernoulli(z: Array) -> tuple[Array, Array]:
    """``B(-z) = B(z) + z`` and ``B(z) = z / (e^z - 1)`` for z >= 0; nothing is subtracted."""
    with np.errstate(over="ignore"):
        against = np.where(z < 1e-9, 1.0, z / np.maximum(np.expm1(z), 1e-300))
    return against + z, against


def coefficient(
    fn: Callable[[Tensor, Time], Tensor], x: Tensor, t: Time, name: str, shape: tuple[int, ...]
) -> Tensor:
    """A coefficient in float64, of this shape; -1 stands for any number.

    Raises:
        OrnsteinError: if it is not finite, or of another shape.
    """
    value = finite(fn(x, t).detach().double(), name, t)
    try:
        return value.expand(*shape[:-1], value.shape[-1]) if shape[-1] < 0 else value.expand(shape)
    except RuntimeError as error:
        raise OrnsteinError(
            f"the {name} maps {tuple(x.shape)} to {tuple(value.shape)}: on a grid it must broadcast"
            " to the state, which has as many dimensions as the grid has axes, for diagonal noise,"
            " and have one dimension more for general noise"
        ) from error


def finite(value: Tensor, name: str, t: Time) -> Tensor:
    """The value, or `OrnsteinError` if a number in it is not finite."""
    if not math.isfinite(float(value.sum())):
        raise OrnsteinError(
            f"the {name} is not finite everywhere on the grid at t={float(t):g}: move the ends of"
            " the axes or of time"
        )
    return value
