"""Increments and Levy areas of the parts of an interval, by Legendre coefficients of white noise.

`BrownianPath` splits an interval into parts, or joins parts, with these formulas.

Over an interval of length h, in the coordinate v that runs over it from 0 to 1, let ``phi_k`` be
the Legendre polynomials that are orthonormal on [0, 1]: ``1, sqrt(3) (2v - 1), sqrt(5) (6v^2 - 6v +
1)``. The coefficients

    c_k = int phi_k(v) dB                                                                        (1)

are independent, ``N(0, h)``. With W the increment of the path over the interval and beta its
bridge, which is the path minus its chord,

    W = c_0,   H = mean of beta = -c_1 / 12^(1/2),   K = mean of (1/2 - v) beta = c_2 / 720^(1/2).

H is the space-time Levy area and K the space-time-time Levy area. Cut the interval at the fractions
p and q = 1 - p. A polynomial on the whole is one on either part, so that the coefficients of the
whole are linear in those of the parts, ``c = T c' + T' c''``,

    T = [[1, 0, 0], [-sqrt(3) q, p, 0], [sqrt(5) q (q - p), -sqrt(15) p q, p^2]]                 (2)

and T' by reflection. The rows of ``[sqrt(p) T, sqrt(q) T']`` are orthonormal. Complete them to an
orthogonal matrix by rows ``[N, N']``, which are the parts of ``(p - v)_+^j`` that are orthogonal to
polynomials. Inverted, and with standard normal z,

    c' = p T^t c + sqrt(p h) N^t z,       c'' = q T'^t c + sqrt(q h) N'^t z.                     (3)

For the increment alone this is Levy's ``W' = p W + sqrt(p q h) z``, for W and H it is that of
Foster, Lyons and Oberhauser 2020 (An optimal polynomial approximation of Brownian motion) and
Jelincic et al. 2024, for any order the multiwavelets of Alpert 1993.
"""

__all__ = ["Coefficients", "join", "rotation", "split"]

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

Coefficients = tuple[Tensor, ...]
"""c_0, ..., c_{order - 1}, each of the shape of the path."""

Draw = Callable[..., Tensor]
"""``draw(k, std=...)``: new normal numbers for coefficient k."""

Rows = tuple[tuple[float, ...], ...]
_CACHED = 1 << 14  # numbers of a tensor, of which several stay in the processor's cache
_POWERS = (
    (1.0, 0.0, 0.0),
    (1 / 2, 1 / math.sqrt(12), 0.0),
    (1 / 3, 1 / math.sqrt(12), 1 / math.sqrt(180)),
)  # coefficients of v^j in phi_k


@lru_cache(maxsize=256)
def _whole(p: float, q: float, order: int) -> Rows:
    """Return the matrix [T, T'] of (2), from coefficients of both parts to those of the whole."""
    r3, r5, r15 = math.sqrt(3), math.sqrt(5), math.sqrt(15)

    def part(p: float, q: float, sign: int) -> Rows:
        return (
            (1.0, 0.0, 0.0),
            (-sign * r3 * q, p, 0.0),
            (r5 * q * (q - p), -sign * r15 * p * q, p * p),
        )  # (2)

    return tuple(
        (*x[:order], *y[:order])
        for x, y in zip(part(p, q, 1)[:order], part(q, p, -1)[:order], strict=True)
    )


def _dot(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the inner product of two rows, rounded once."""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


@lru_cache(maxsize=256)
def rotation(p: float, q: float, order: int) -> Rows:
    """Return the orthogonal matrix of a cut at the fractions p and q, of size ``2 order``.

    The first rows are ``[sqrt(p) T, sqrt(q) T']``, the others [N, N']. The latter are computed from
    the shorter part, where a cut-off power is far from a polynomial, and are continuous in p.
    """
    scale = (*(math.sqrt(p),) * order, *(math.sqrt(q),) * order)
    rows = [tuple(x * a for x, a in zip(row, scale, strict=True)) for row in _whole(p, q, order)]
    for j in reversed(range(order)):
        power, blank = _POWERS[j][:order], (0.0,) * order
        left = (*((-1.0) ** k * x for k, x in enumerate(power)), *blank)  # (1 - v)^j
        row = (
            left if p <= q else (*blank, *(-((-1.0) ** j) * x for x in power))
        )  # the same but for a polynomial
        for _ in range(2):
            for other in rows:
                overlap = _dot(row, other)
                row = tuple(x - overlap * y for x, y in zip(row, other, strict=True))
            norm = math.sqrt(_dot(row, row))
            row = tuple(x / norm if abs(x) > 1e-15 * norm else 0.0 for x in row)
        rows.append(row)
    return tuple(rows)


@lru_cache(maxsize=256)
def _weights(p: float, q: float, order: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix of (3) for h = 1, from coefficients and numbers to those of the parts."""
    scale = torch.tensor([math.sqrt(p)] * order + [math.sqrt(q)] * order, dtype=torch.float64)
    return (torch.tensor(rotation(p, q, order), dtype=torch.float64) * scale).to(dtype)


def _sum(weights: Sequence[float], numbers: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of the numbers whose weight is not 0."""
    (x, w), *others = ((x, w) for x, w in zip(numbers, weights, strict=True) if w)
    total = x * w
    for x, w in others:
        total += x * w
    return total


def _combine(weights: Tensor, numbers: Sequence[Tensor]) -> Coefficients:
    """Return the product ``numbers @ weights``, with every sum in a fixed order.

    Products and sums are separate, as fused ones would round differently at the end of a batch.
    """
    if numbers[0].numel() > _CACHED:
        # the same sums, one by one: all together they would not stay in the cache
        return tuple(_sum(column, numbers) for column in weights.T.tolist())
    columns = weights.reshape(*weights.shape, *[1] * numbers[0].ndim)
    total = columns[0] * numbers[0]
    for column, x in zip(columns[1:], numbers[1:], strict=True):
        total += column * x
    return total.unbind()


def split(
    c: Coefficients, draw: Draw, p: float, q: float, h: float
) -> tuple[Coefficients, Coefficients]:
    """Return the coefficients of both parts of an interval, from those of the whole interval.

    Args:
        c: coefficients of the whole.
        draw: returns fresh normal numbers, one draw for each coefficient.
        p, q: fractions of the parts.
        h: length of the whole.
    """
    order = len(c)
    if order == 1:
        jump = draw(0, std=math.sqrt(p * q * h))
        short = jump.add_(c[0], alpha=p) if p <= q else jump.neg_().add_(c[0], alpha=q)
        long = c[0] - short
        return ((short,), (long,)) if p <= q else ((long,), (short,))
    parts = _combine(
        _weights(p, q, order, c[0].dtype), (*c, *(draw(k, std=math.sqrt(h)) for k in range(order)))
    )  # (3)
    return parts[:order], parts[order:]


def join(c: Coefficients, d: Coefficients, p: float, q: float) -> Coefficients:
    """Return the coefficients of an interval, from those of its parts of the fractions p and q."""
    return _combine(torch.tensor(_whole(p, q, len(c)), dtype=c[0].dtype).T, (*c, *d))
