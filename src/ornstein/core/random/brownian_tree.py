"""Geometry of the virtual Brownian tree: the times at which cells are halved for a query.

A `BrownianPath` halves a cell until it hits the time of a query. With a tolerance the cell consists
of equal leaves, is halved between leaves, and a leaf is cut at the very time of the query. Li et
al. 2020, section 4; Jelincic et al. 2024.
"""

__all__ = ["DEPTH", "Cut", "cell_times", "cut_at", "leaf_length"]

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ornstein.core.random.legendre import Coefficients
from ornstein.errors import OrnsteinError

DEPTH = 63
"""Halvings of a cell, enough to hit any float but those next to 0; below, the path is straight."""

_ROUNDING = 1e-9  # relative: times that are a tolerance apart may be rounded


class Cut(NamedTuple):
    """A node of the tree: the time at which it is cut, and the coefficients of both parts."""

    at: float
    left: Coefficients
    right: Coefficients


def cell_times(cells: Sequence[float] | Tensor | None, t0: float, t1: float) -> tuple[float, ...]:
    """Return the ends of the cells of a path on ``[t0, t1]``, increasing, with both ends.

    Raises:
        OrnsteinError: if the times are not strictly monotone within the interval.
    """
    numbers = cells.tolist() if isinstance(cells, Tensor) else () if cells is None else cells
    try:
        times = [float(t) for t in numbers]
    except (TypeError, ValueError) as error:
        raise OrnsteinError(
            f"cells={cells!r}: pass a sequence of times, such as sde.times(40)"
        ) from error
    rising = sorted(set(times))
    if times != rising and times[::-1] != rising:
        raise OrnsteinError(
            f"cells must be strictly monotone, got {times[:4]} ...: sort them and drop the"
            " repeated ones"
        )
    if not all(t0 <= t <= t1 for t in times):
        raise OrnsteinError(
            f"cells must lie in [t0, t1] = [{t0}, {t1}], got {times[:4]} ...: move the ends of the"
            " path"
        )
    return tuple(sorted({float(t0), *times, float(t1)}))


def leaf_length(length: float, tol: float) -> float:
    """Return the length of the smallest intervals of a cell's tree, 0 without a tolerance.

    It is slightly below ``tol``, as times that are ``tol`` apart may be rounded; halves are exact.
    """
    if not tol:
        return 0.0
    ratio = length / tol
    if math.frexp(ratio)[0] == 0.5 and ratio > 1:
        return length / ratio
    return length / (math.floor(ratio * (1 + _ROUNDING)) + 1)


def cut_at(
    l: float, h: float, a: float, b: float, leaf: float, tol: float
) -> tuple[float, float, float]:
    """Return where [l, h] is cut for a query of [a, b], and the fractions of both parts.

    It is cut in its middle, between leaves, or in a leaf at the end of [a, b] that lies inside.

    Raises:
        OrnsteinError: if a and b lie in one leaf.
    """
    leaves = round((h - l) / leaf) if leaf else 2
    if leaf and leaves > 1:
        p = (leaves // 2) / leaves
        return l + (h - l) * p, p, (leaves - leaves // 2) / leaves
    if leaf and l < a and b < h:
        raise OrnsteinError(
            f"the times {a} and {b} are closer than the path's tol={tol} and share an interval that"
            " it does not resolve: make the path with a smaller tol (0 resolves everything)"
        )
    inside = a if l < a else b
    m = inside if leaf else l + (h - l) / 2
    return m, (m - l) / (h - l), (h - m) / (h - l)
