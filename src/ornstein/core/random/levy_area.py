"""Levy areas of pairs of Brownian coordinates, which methods need where noises do not commute.

For steps of length h, with W the increment, H the space-time Levy area and b the area that the
bridge beta encloses,

    A_ij = 1/2 int (W_i dW_j - W_j dW_i) = H_i W_j - W_i H_j + b_ij,                             (1)

since beta is the path less its chord, and of the four products chord with chord encloses nothing.
Of independent coordinates b has mean 0 and, given H, variance

    Var(b_ij | W, H) = h^2 / 20 + h / 5 (H_i^2 + H_j^2),                                         (2)

h^2 / 12 on average (Davie 2014; Foster 2020, theorem 7.1.2). Of two neighbouring intervals areas
add up to

    A_ij = A'_ij + A''_ij + 1/2 (W'_i W''_j - W'_j W''_i).                                       (3)
"""

__all__ = ["foster_area", "stochastic_area"]

import struct
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.random.motion import Correlated, Motion
from ornstein.errors import OrnsteinError


def _wedge(x: Tensor, y: Tensor) -> Tensor:
    """Return the antisymmetric product ``x_i y_j - x_j y_i``."""
    product = x[..., :, None] * y[..., None, :]
    return product - product.mT


def foster_area(
    w: Float[Tensor, "b m"], area: Float[Tensor, "b m"], h: float, z: Float[Tensor, "b m m"]
) -> Float[Tensor, "b m m"]:
    """Return approximate Levy areas of a step, ``A_ij = 1/2 int (W_i dW_j - W_j dW_i)``.

    The area of the bridge is replaced by a Gaussian with its mean and variance given W and H.
    Foster 2020, theorem 7.1.2.

    Args:
        w: increments W of independent Brownian motions.
        area: space-time Levy areas H.
        h: length of the step.
        z: standard normal numbers, of which those above the diagonal count.
    """
    squares = area.square()
    std = (h * h / 20 + h / 5 * (squares[..., :, None] + squares[..., None, :])).sqrt()  # (2)
    upper = (std * z).triu(1)
    return _wedge(area, w) + upper - upper.mT  # (1)


def stochastic_area(path: Motion, s: Time, t: Time, pieces: int = 1) -> Float[Tensor, "b m m"]:
    """Return the Levy areas ``A_ij`` of a path of shape ``(b, m)`` over the interval [s, t].

    For t < s they are the negatives. The path has ``order`` 2 or more. The interval is cut into
    equal pieces, each with the area of `foster_area`: exact in mean and variance for any number of
    them, and the area of this very path within ``h / sqrt(20 pieces)`` or so. The same at every
    call.

    Raises:
        OrnsteinError: if the path is of another shape or has no space-time areas.
    """
    if len(path.shape) != 2:
        raise OrnsteinError(
            f"Levy areas of a path of shape {tuple(path.shape)}: they are areas of coordinates, in"
            " shape (b, m)"
        )
    if isinstance(path, Correlated):  # (2) is of independent coordinates
        factor = path.factor.to(path.dtype)
        return factor @ stochastic_area(path.path, s, t, pieces) @ factor.T
    a, b = min(float(s), float(t)), max(float(s), float(t))
    n, m = path.shape
    total = torch.zeros(n, m, m, dtype=path.dtype)
    so_far = torch.zeros(n, m, dtype=path.dtype)
    ends = [a + (b - a) * (k / pieces) for k in range(pieces)] + [b]
    for l, h in pairwise(ends):
        w, area = path.increment(l, h), path.levy_area(l, h)
        z = (
            path.independent_noise()
            .fold(*(int.from_bytes(struct.pack("<d", x), "little") for x in (l, h)))
            .normal((n, m, m), path.dtype)
        )
        total = total + foster_area(w, area, h - l, z) + _wedge(so_far, w) / 2  # (3)
        so_far = so_far + w
    return total if float(s) <= float(t) else -total
