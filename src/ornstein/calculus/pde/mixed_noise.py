"""Jump rates along the diagonals of a grid, for noise that moves both coordinates at once.

With ``D = g g' / 2`` and cells of widths h_1 and h_2 let e be the step to the cell that is next
along both axes, (h_1, h_2) where D_12 >= 0 and (h_1, -h_2) where it is negative. Then

    D = d_1 n_1 n_1' + d_2 n_2 n_2' + c e e',    c = |D_12| / (h_1 h_2),
    d_1 = D_11 - c h_1^2,    d_2 = D_22 - c h_2^2,                                               (1)

n_i being the unit vectors of the axes: seven cells in all. The drift is split among the three with
``w = D^-1 A``, since ``A = D w``, so that in each direction the density obeys (1) of
`ornstein.calculus.pde.generator`, with ``w . e`` in the place of A / D and c, d_1 or d_2 in the
place of D. Drifts in detailed balance, ``w = -grad U``, have an exact stationary density; otherwise
the error is second order in the widths inside, first order in the row of cells at an end, which has
no diagonals out. The rates are not negative if

    |D_12| / D_22  <=  h_1 / h_2  <=  D_11 / |D_12|                                              (2)

in every cell, for which there is always a ratio of widths if D is constant. Kushner and Dupuis
2001, section 5.3.
"""

__all__ = ["Mixed", "add_diagonals", "is_mixed"]

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.calculus.pde.grid import Absorbing, Grid
from ornstein.calculus.pde.rates import NODES, Array, coefficient, segment_rates
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import General, Scalar, driving
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError


def is_mixed(sde: Equation, grid: Grid) -> bool:
    """Return whether one Brownian motion may drive both coordinates of the plane."""
    return isinstance(driving(sde), General | Scalar) and grid.dim == 2


class Mixed(NamedTuple):
    """The drift and covariance of an equation in the plane at one time."""

    sde: Equation
    grid: Grid
    t: Time
    direction: int

    def covariance(self, x: Tensor) -> Tensor:
        """Return ``D = g g' / 2`` at x, ``(b, 2, 2)``."""
        if isinstance(driving(self.sde), Scalar):
            g = coefficient(self.sde.diffusion, x, self.t, "diffusion", (len(x), 2))[..., None]
        else:
            g = coefficient(self.sde.diffusion, x, self.t, "diffusion", (len(x), 2, -1))
        return g @ g.mT / 2

    def pull(self, x: Tensor) -> Tensor:
        """Return ``w = D^-1 A`` at x, ``(b, 2)``."""
        a = self.direction * coefficient(self.sde.drift, x, self.t, "drift", (len(x), 2))
        d = self.covariance(x)
        floor = 1e-12 * max(axis.width for axis in self.grid.axes) * float(a.abs().max()) + 1e-300
        return torch.linalg.solve(d + floor * torch.eye(2, dtype=d.dtype), a)

    def parts(self) -> tuple[Array, Array, Array]:
        """Split D in each cell into axes and a diagonal: d_1, d_2, and c with the sign of D_12.

        Raises:
            OrnsteinError: where a rate would be negative, with the ratios of widths that are
                possible.
        """
        d = self.covariance(self.grid.centres).reshape(*self.grid.shape, 2, 2).numpy()
        first, second, cross = d[..., 0, 0], d[..., 1, 1], d[..., 0, 1]
        h1, h2 = (axis.width for axis in self.grid.axes)
        low = float(np.max(np.abs(cross) / np.maximum(second, 1e-300)))
        high = float(np.min(first / np.maximum(np.abs(cross), 1e-300)))
        if not low * (1 - 1e-9) <= h1 / h2 <= high * (1 + 1e-9):
            fix = (
                f"choose one from {low:.3g} to {high:.3g}"
                if low < high
                else "no cells have it, so turn the coordinates"
            )
            raise OrnsteinError(
                f"noise that mixes coordinates, at t={float(self.t):g}, on cells with h_1 / h_2 ="
                f" {h1 / h2:.3g}: for rates that are not negative this ratio must be from |D_12| /"
                f" D_22 to D_11 / |D_12| everywhere; {fix}"
            )
        c = np.abs(cross) / (h1 * h2)
        d1 = np.maximum(first - c * h1**2, 0)
        d2 = np.maximum(second - c * h2**2, 0)
        return d1, d2, np.copysign(c, cross)  # (1)


def add_diagonals(parts: dict[str, list[Any]], mixed: Mixed, c: Array) -> None:
    """Add the rates along diagonals to those along axes, and the absorption at the ends.

    Args:
        parts: ``steps``, ``up`` and ``down`` for each direction, ``exit_up`` and ``exit_down`` for
            each axis, as `Generator` has them.
        mixed: the coefficients.
        c: with its sign, as `Mixed.parts` gives it.
    """
    for sign in (1, -1):
        weight = np.maximum(sign * c, 0.0)
        if weight.any():
            up, down = _diagonal(parts, mixed, weight, sign)
            for name, value in (("steps", (1, sign)), ("up", up), ("down", down)):
                parts[name].append(value)


class _Segments(NamedTuple):
    """The segments along a diagonal that have one or both ends in a cell.

    Attributes:
        start: indices of the lower cell, ``(2, segments)``; -1 or the number of cells outside.
        begins, ends: whether the lower and the upper end are cells.
        low, high: the part of the segment inside the grid, a fraction of the step.
    """

    start: "np.ndarray[Any, np.dtype[np.int_]]"
    begins: "np.ndarray[Any, np.dtype[np.bool_]]"
    ends: "np.ndarray[Any, np.dtype[np.bool_]]"
    low: Array
    high: Array


def _segments(mixed: Mixed, sign: int) -> _Segments:
    """Return the segments in the direction (1, sign) that have an end in a cell."""
    axes = mixed.grid.axes
    cells = np.array([[axis.cells] for axis in axes])
    periodic = np.array([[axis.periodic] for axis in axes])
    ranges = [
        np.arange(axis.cells) if axis.periodic else np.arange(-1, axis.cells + 1) for axis in axes
    ]
    start = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(2, -1)
    begins, ends = (
        np.all(periodic | ((cell >= 0) & (cell < cells)), axis=0)
        for cell in (start, start + np.array([[1], [sign]]))
    )
    inside = np.logical_or(begins, ends)
    start = start[:, inside]
    begins = begins[inside]
    ends = ends[inside]
    # an end of the grid is half a step away
    low, high = np.where(begins, 0.0, 0.5), np.where(ends, 1.0, 0.5)
    return _Segments(start, begins, ends, low, high)


def _segment_points(mixed: Mixed, segments: _Segments, sign: int) -> Tensor:
    """Return the Gauss points of all segments as states, ``(segments * points, 2)``."""
    part = segments.low + (segments.high - segments.low) * (1 + NODES[:, None]) / 2
    columns: list[Array] = []
    for axis, k, s in zip(mixed.grid.axes, segments.start, (1, sign), strict=True):
        x = axis.low + axis.width * (k + 0.5 + s * part)
        if axis.periodic:
            x = axis.low + np.mod(x - axis.low, axis.high - axis.low)
        columns.append(x.T.reshape(-1))
    return torch.from_numpy(np.stack(columns, -1))


def _diagonal(
    parts: dict[str, list[Any]], mixed: Mixed, weight: Array, sign: int
) -> tuple[Array, Array]:
    """Return the jump rates along (1, sign), up and down the first axis, with D = ``weight``."""
    axes = mixed.grid.axes
    segments = _segments(mixed, sign)
    w = mixed.pull(_segment_points(mixed, segments, sign)).numpy()
    slope = w @ np.array([axes[0].width, sign * axes[1].width])
    length = segments.high - segments.low
    rise, fall = segment_rates(slope.reshape(-1, len(NODES)), length)
    start, begins, ends = segments.start, segments.begins, segments.ends
    cells = np.array([[axis.cells] for axis in axes])
    periodic = np.array([[axis.periodic] for axis in axes])
    end = start + np.array([[1], [sign]])
    end = np.where(periodic, end % cells, end)
    up, down = np.zeros_like(weight), np.zeros_like(weight)
    for rates, source, target, is_cell, continues, rate in (
        (up, start, end, begins, ends, rise),
        (down, end, start, ends, begins, fall),
    ):
        indices = tuple(source[:, is_cell & continues])
        rates[indices] = weight[indices] * rate[is_cell & continues]
        leaving = is_cell & ~continues
        for k, axis in enumerate(axes):
            for name, side, beyond in (
                ("exit_up", axis.upper, target[k] >= axis.cells),
                ("exit_down", axis.lower, target[k] < 0),
            ):
                if isinstance(side, Absorbing):
                    absorbed, leaving = leaving & beyond, leaving & ~beyond
                    indices = tuple(source[:, absorbed])
                    np.add.at(parts[name][k], indices, weight[indices] * rate[absorbed])
    return up, down
