"""An implicit time step for densities, of second order, that conserves positivity and mass.

For one axis M is tridiagonal, the transpose of Q. With ``gamma = 1 - 1 / sqrt 2`` a step of length
h solves

    (1 - gamma h M) y = p,    (1 - gamma h M) w = p + (1 - gamma) h M y,                         (1)

which is of second order and L-stable (Alexander 1977). No linear method of order above 1 conserves
positivity at every step (Bolley and Crouzeix 1978), this one neither, so it is compared with the
two steps of implicit Euler

    (1 - gamma h M) y = p,    (1 - (1 - gamma) h M) z = y,                                       (2)

which do. Both move mass through the faces between cells; the difference of what they move is
limited, face by face, so that no cell gives more than it has under (2):

    p_new = z - limited[h (1 - gamma) F(y) + h gamma F(w) - h gamma F(y) - h (1 - gamma) F(z)].  (3)

This is w itself where nothing is limited, which happens only where p is as small as the error of
the step (Zalesak 1979; Kuzmin 2012). Two axes take turns, ``x y x`` with half steps in x (Strang
1968): of second order, and exact for the stationary density where drift and noise are in detailed
balance, since then it is stationary for each axis.
"""

__all__ = ["FluxLimited"]

import math
from dataclasses import dataclass

import numpy as np

from ornstein.calculus.pde.generator import Array, Generator, scipy_part
from ornstein.errors import OrnsteinError

_GAMMA = 1 - math.sqrt(0.5)


@dataclass(frozen=True)
class FluxLimited:
    """Implicit time steps of second order with a flux limiter: positive, mass-conserving.

    Each step costs four tridiagonal solves per line of cells. It is meant for a time that is long
    compared with ``h^2 / D``, where `Uniformisation` takes many jumps. Forward only: a limited step
    is not linear in p.
    """

    def forward(self, q: Generator, density: Array, dt: float) -> Array:
        """Return the density after one step of length dt.

        Raises:
            OrnsteinError: for a generator with killing, or with jumps on diagonals.
        """
        if q.potential is not None:
            raise OrnsteinError(
                "FluxLimited() moves densities without killing: use Uniformisation()"
            )
        if len(q.up) > q.grid.dim:
            raise OrnsteinError(
                "FluxLimited() takes one axis at a time, and this noise mixes the coordinates: use"
                " Uniformisation()"
            )
        if q.grid.dim == 1:
            return _step(q, 0, density, dt)
        half = _step(q, 0, density, dt / 2)
        return _step(q, 0, _step(q, 1, half, dt), dt / 2)


def _step(q: Generator, axis: int, p: Array, dt: float) -> Array:
    """Return the density after one step (3) in one coordinate, all lines of cells at once."""
    rates = [
        np.ascontiguousarray(np.moveaxis(a[axis], axis, -1))
        for a in (q.up, q.down, q.exit_up, q.exit_down)
    ]
    before = np.ascontiguousarray(np.moveaxis(p, axis, -1))
    short = _Line(rates, _GAMMA * dt)
    long = _Line(rates, (1 - _GAMMA) * dt)
    y = short.solve(before)
    w = short.solve(before + (1 - _GAMMA) / _GAMMA * (y - before))  # (1)
    z = long.solve(y)  # (2)
    if not (rates[2].any() or rates[3].any()):  # return the mass that the solves rounded off
        z *= before.sum(-1, keepdims=True) / np.maximum(z.sum(-1, keepdims=True), 1e-300)
    moved = long.flux(y) + short.flux(w) - short.flux(y) - long.flux(z)
    outflow = np.maximum(moved[..., 1:], 0) - np.minimum(moved[..., :-1], 0)
    fraction = np.minimum(1.0, z / np.maximum(outflow, 1e-300)) * (1 - 1e-15)
    low, high = fraction[..., -1:], fraction[..., :1]
    if not short.periodic:
        low = high = np.ones_like(high)
    fraction = np.concatenate((low, fraction, high), -1)
    limited = moved * np.where(moved > 0, fraction[..., :-1], fraction[..., 1:])
    after = z - np.diff(limited, axis=-1)  # (3)
    return np.moveaxis(after, -1, axis)


class _Line:
    """The factorised tridiagonal matrix ``1 - h M`` along the last axis, with the fluxes of M."""

    def __init__(self, rates: list[Array], h: float) -> None:
        self.lapack = scipy_part("linalg.lapack")
        self.up, self.down, self.exit_up, self.exit_down = (h * rate for rate in rates)
        self.periodic = bool(self.up[..., -1].any() or self.down[..., 0].any())
        diagonal = 1 + self.up + self.down + self.exit_up + self.exit_down
        above, below = self.down.copy(), self.up.copy()
        above[..., 0] = 0.0
        below[..., -1] = 0.0
        # the corners are a rank-one matrix, (c, 0 .. 0, b)^T (1, 0 .. 0, a): Sherman-Morrison
        if self.periodic:
            self.corner = self.down[..., 0], self.up[..., -1]
            diagonal[..., 0] += self.corner[1]
            diagonal[..., -1] += self.corner[0]
        self.factors = self.lapack.dgttrf(
            -below.reshape(-1)[:-1], diagonal.reshape(-1), -above.reshape(-1)[1:]
        )[:5]
        if self.periodic:
            ends = np.zeros_like(above)
            ends[..., 0], ends[..., -1] = self.corner[1], self.corner[0]
            self.response = self._tridiagonal(ends)
            self.gain = 1 - self.response[..., 0] - self.response[..., -1]

    def _tridiagonal(self, right: Array) -> Array:
        """Return the solution of the tridiagonal system of each line."""
        solution: Array = self.lapack.dgttrs(*self.factors, right.reshape(-1))[0]
        return solution.reshape(right.shape)

    def solve(self, right: Array) -> Array:
        """Return ``(1 - h M)^-1`` applied to each line."""
        solution = self._tridiagonal(right)
        if self.periodic:
            part = (solution[..., 0] + solution[..., -1]) / self.gain
            solution = solution + part[..., None] * self.response
        return solution

    def flux(self, p: Array) -> Array:
        """Return the mass that M moves up through each face of a line in the time h."""
        flux = np.empty((*p.shape[:-1], p.shape[-1] + 1))
        rise, fall = self.up * p, self.down * p
        flux[..., 1:-1] = rise[..., :-1] - fall[..., 1:]
        flux[..., -1] = self.exit_up[..., -1] * p[..., -1]
        flux[..., 0] = -self.exit_down[..., 0] * p[..., 0]
        if self.periodic:
            flux[..., 0] = flux[..., -1] = rise[..., -1] - fall[..., 0]
        return flux
