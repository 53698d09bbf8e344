"""Jump rates of a segment of a grid, and the coefficients of an equation on a grid.

The rates are (2) to (4) of `ornstein.calculus.pde.generator`.
"""

__all__ = ["NODES", "Array", "coefficient", "finite", "segment_rates"]

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.processes.linear import Time
from ornstein.errors import OrnsteinError

Array = np.ndarray[Any, np.dtype[np.float64]]
"""Numbers in float64."""
_NODES, _WEIGHTS = (part.numpy() for part in gauss_legendre(3))
NODES: Array = _NODES
"""Three Gauss points on [-1, 1]."""
_MOMENTS = np.stack((_WEIGHTS / 2, 3 * _WEIGHTS * NODES))


def segment_rates(w: Array, length: Array) -> tuple[Array, Array]:
    """Return the jump rates up and down a segment, without the factor D / h of a cell.

    They are ``B(-P) / l`` and ``B(P) / l``, with the correction factor of the mean displacement.

    Args:
        w: ``A / D`` at the Gauss points, ``(segments, 3, *rest)``.
        length: of the segments.
    """
    moments = _MOMENTS @ w.reshape(*w.shape[:2], -1)
    shape = (len(w), *w.shape[2:])
    length = length.reshape(-1, *[1] * (len(shape) - 1))
    peclet, change = (length * moments[:, i].reshape(shape) for i in (0, 1))
    factor = (1 - change / 6 / (1 + change**2 + peclet**2)) / length  # (4)
    downstream, upstream = _bernoulli(np.abs(peclet))
    up = factor * np.where(peclet > 0, downstream, upstream)
    down = factor * np.where(peclet > 0, upstream, downstream)
    return up, down


def _bernoulli(z: Array) -> tuple[Array, Array]:
    """Return ``B(-z) = B(z) + z`` and ``B(z) = z / (e^z - 1)`` for z >= 0, without subtraction."""
    with np.errstate(over="ignore"):
        upstream = np.where(z < 1e-9, 1.0, z / np.maximum(np.expm1(z), 1e-300))
    return upstream + z, upstream


def coefficient(
    fn: Callable[[Tensor, Time], Tensor], x: Tensor, t: Time, name: str, shape: tuple[int, ...]
) -> Tensor:
    """Return a coefficient of an equation in float64, expanded to a shape.

    Args:
        fn: the coefficient, ``(b, d), t``.
        x: states.
        t: the time.
        name: for errors.
        shape: the shape of the result; a last entry of -1 stands for any number.

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
    """Return a value unchanged, or raise `OrnsteinError` if a number in the value is not finite."""
    if not math.isfinite(float(value.sum())):
        raise OrnsteinError(
            f"the {name} is not finite everywhere on the grid at t={float(t):g}: move the ends of"
            " the axes or of time"
        )
    return value
