"""The generator matrix of a diffusion on a grid.

For ``dX = A(X, t) dt + g(X, t) dB`` (Ito, diagonal noise) and ``D = g^2 / 2`` the density obeys

    d_t p = -div J,    J = A p - (D p)' = (A / D) q - q',    q = D p.                                         (1)

Between two centres, a distance l apart, let J and A / D be constant; then (1) is a linear ODE for q with the solution

    J = [B(-P) q_i - B(P) q_{i+1}] / l,    P = int A / D dx,    B(z) = z / (e^z - 1),                         (2)

so that paths jump from cell i up and down at the rates

    Q_{i,i+1} = D_i B(-P) / (l h),    Q_{i+1,i} = D_{i+1} B(P) / (l h).                                       (3)

They are never negative and each row of Q sums to what leaves through absorbing ends: Q is the generator of a Markov chain on
the cells, ``p' = p Q`` its master equation and ``phi' = -Q phi`` its Kolmogorov equation. Where J = 0, ``q_{i+1} = q_i e^P``: the
stationary density of a drift in detailed balance is exact at the centres, up to the quadrature of P (three Gauss points, exact
for polynomials of degree 5). The rest is second order in h. A factor on both rates of an edge changes no such balance;

    1 - (C / 6) / (1 + C^2 + P^2),    C = h^2 (A / D)',                                                       (4)

makes the mean displacement of the chain A up to O(h^4) where D is constant, and fades where the cells are too wide for it to
mean something. An absorbing end is half a cell from the centre, ``l = h / 2`` and q = 0. A coordinate without noise is the limit
D -> 0, upwind and of first order. Scharfetter and Gummel 1969; Chang and Cooper
1970; the master equation view: Wang, Peskin and Elston 2003.
"""

__all__ = ["Generator", "generator", "scipy_part"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core.linear import Time
from ornstein.core.sde import SDE, Equation
from ornstein.errors import OrnsteinError
from ornstein.exact.grid.axes import Absorbing, Axis, Grid

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_MOMENTS = np.stack((_WEIGHTS / 2, 3 * _WEIGHTS * _NODES))
Array = np.ndarray[Any, np.dtype[np.float64]]


def scipy_part(name: str) -> Any:
    """``scipy.<name>``, imported when it is first needed; an `ImportError` that says what to install where there is none."""
    try:
        return import_module(f"scipy.{name}")
    except ImportError as error:
        raise ImportError("equations on a grid need SciPy: pip install 'ornstein[calculus]'") from error


@dataclass(frozen=True, eq=False)
class Generator:
    """Q, frozen at one time: jump rates per unit of time, each an array of the shape of the cells.

    Args:
        grid: the cells.
        up, down: per axis, the rate to the next and to the previous cell; at a periodic end, to the first and to the last.
        exit_up, exit_down: per axis, the rate of absorption at either end; 0 in all other cells.
        potential: a rate of killing ``q`` in each cell, of any sign: ``phi' = -(Q - q) phi``.
    """

    grid: Grid
    up: tuple[Array, ...]
    down: tuple[Array, ...]
    exit_up: tuple[Array, ...]
    exit_down: tuple[Array, ...]
    potential: Array | None = None
    out: Array = field(init=False)

    def __post_init__(self) -> None:
        rates = [*self.up, *self.down, *self.exit_up, *self.exit_down]
        total = sum(rates) if self.potential is None else sum(rates) + self.potential
        object.__setattr__(self, "out", total)

    @property
    def conserves_mass(self) -> bool:
        """Whether nothing is absorbed or killed: the rows of Q sum to 0."""
        return self.potential is None and not any(rate.any() for rate in (*self.exit_up, *self.exit_down))

    @property
    def forward(self) -> Any:
        """The transpose of Q, sparse by diagonals, which moves densities: ``p' = forward @ p`` with p flattened."""
        n = math.prod(self.grid.shape)
        diagonals: dict[int, Array] = {0: -self.out.reshape(-1)}
        for axis, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            stride, cells = math.prod(self.grid.shape[axis + 1 :]), self.grid.shape[axis]
            for rate, step, last in ((up, -stride, -1), (down, stride, 0)):
                diagonals[step] = rate.reshape(-1)
                if self.grid.axes[axis].periodic:
                    at_end = np.zeros_like(rate)
                    end = (slice(None),) * axis + (last,)
                    at_end[end] = rate[end]
                    diagonals[step] = (rate - at_end).reshape(-1)
                    diagonals[-step * (cells - 1)] = at_end.reshape(-1)
        return scipy_part("sparse").dia_array((np.stack(list(diagonals.values())), list(diagonals)), shape=(n, n))

    @property
    def backward(self) -> Any:
        """Q, sparse by diagonals, which moves functions: ``phi' = -backward @ phi`` with phi flattened."""
        return self.forward.T

    def same(self, other: "Generator") -> bool:
        """Whether all rates are equal."""
        mine, theirs = (*self.up, *self.down, self.out), (*other.up, *other.down, other.out)
        return all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def generator(
    sde: Equation, grid: Grid, t: Time, direction: int = 1, potential: Callable[[Tensor, Time], Tensor] | None = None
) -> Generator:
    """Q of an equation at time t, by (3).

    Args:
        sde: drift and diffusion ``(b, d), t``; the noise diagonal. Both are called in float64.
        grid: of as many axes as the state has dimensions.
        t: where the coefficients are frozen.
        direction: 1 where the process runs up in time, -1 where it runs down, as `Reverse` does.
        potential: ``(b, d), t -> (b,)``, a rate of killing.

    Raises:
        OrnsteinError: for an equation of Stratonovich or noise that is not diagonal, and if a coefficient is not finite on the grid, or
            has the wrong shape.
    """
    _require_ito_and_diagonal(sde, grid)
    edges, x, edges_of_x = _edges(grid)
    drift = _coefficient(sde.drift, x[:edges_of_x], t, "drift")
    noise = _coefficient(sde.diffusion, x, t, "diffusion")
    rates, first = [], 0
    for k, (edge, axis) in enumerate(zip(edges, grid.axes, strict=True)):
        here = slice(first, first + math.prod(edge.shape))
        first = here.stop
        a, g = (c[here, k].numpy().reshape(edge.shape) for c in (drift, noise))
        centre = noise[edges_of_x:, k].numpy().reshape(grid.shape)
        centre = centre * centre / 2
        found = _rates(edge, axis, direction * a, g * g / 2, centre.T if k else centre)  # this axis first
        rates.append([rate.T if k else rate for rate in found])
    up, down, exit_up, exit_down = (tuple(rate[k] for rate in rates) for k in range(4))
    killing = None
    if potential is not None:
        killing = grid.evaluate(lambda x: _finite(potential(x, t), "potential", t)).numpy()
    return Generator(grid, up, down, exit_up, exit_down, killing)


@dataclass(frozen=True, eq=False)
class _Edges:
    """The segments of one axis over which J is constant: between centres, and from the outer centres to absorbing ends."""

    start: Array
    length: Array
    shape: tuple[int, ...]  # (segments, Gauss points, cells of the other axis)


@lru_cache(maxsize=8)
def _edges(grid: Grid) -> tuple[list[_Edges], Tensor, int]:
    """The segments of each axis; all their Gauss points and then the centres, as one batch of states; how many are the former."""
    edges, batches = [], []
    for k, axis in enumerate(grid.axes):
        start, h = axis.centres.numpy(), axis.width
        length = np.full(axis.cells, h)
        if not axis.periodic:
            length[-1] = h / 2
            start, length = np.append(axis.low, start), np.append(h / 2, length)
        points = start[:, None] + length[:, None] * (1 + _NODES) / 2
        if axis.periodic:
            points = np.where(points > axis.high, points - (axis.high - axis.low), points)
        other = [a.centres.numpy() for i, a in enumerate(grid.axes) if i != k]
        mesh = np.meshgrid(points.reshape(-1), *other, indexing="ij")
        edges.append(_Edges(start, length, (*points.shape, *(len(c) for c in other))))
        batches.append(np.stack([c.reshape(-1) for c in (mesh if k == 0 else mesh[::-1])], -1))
    x = torch.from_numpy(np.concatenate((*batches, grid.centres.numpy())))
    return edges, x, len(x) - len(grid.centres)


def _rates(edge: _Edges, axis: Axis, a: Array, d: Array, centre: Array) -> tuple[Array, Array, Array, Array]:
    """(3), cells of this axis first: up, down, and out at both ends."""
    h = axis.width
    least = 1e-12 * h * np.abs(a).max() + 1e-300  # the limit D -> 0: upwind
    d, centre = np.maximum(d, least), np.maximum(centre, least)
    length = edge.length.reshape(-1, *[1] * (centre.ndim - 1))
    moments = _MOMENTS @ (a / d).reshape(*a.shape[:2], -1)
    peclet, change = (length * moments[:, i].reshape(len(a), *centre.shape[1:]) for i in (0, 1))
    both = (1 - change / 6 / (1 + change**2 + peclet**2)) / (length * h)  # (4)
    with_it, against = _bernoulli(np.abs(peclet))
    rise = both * np.where(peclet > 0, with_it, against)  # (3), but for D
    fall = both * np.where(peclet > 0, against, with_it)
    up, down, exit_up, exit_down = (np.zeros_like(centre) for _ in range(4))
    if axis.periodic:
        up, down = centre * rise, np.roll(centre, -1, 0) * fall
        return up, np.roll(down, 1, 0), exit_up, exit_down
    up[:-1], down[1:] = centre[:-1] * rise[1:-1], centre[1:] * fall[1:-1]
    if isinstance(axis.upper, Absorbing):
        exit_up[-1] = centre[-1] * rise[-1]
    if isinstance(axis.lower, Absorbing):
        exit_down[0] = centre[0] * fall[0]
    return up, down, exit_up, exit_down


def _bernoulli(z: Array) -> tuple[Array, Array]:
    """``B(-z) = B(z) + z`` and ``B(z) = z / (e^z - 1)`` for z >= 0; nothing is subtracted."""
    with np.errstate(over="ignore"):
        against = np.where(z < 1e-9, 1.0, z / np.maximum(np.expm1(z), 1e-300))
    return against + z, against


def _require_ito_and_diagonal(sde: Equation, grid: Grid) -> None:
    if not isinstance(sde, SDE):
        return
    if sde.calculus != "ito":
        raise OrnsteinError("a grid reads coefficients in the sense of Ito: convert this equation of Stratonovich with to_ito(sde)")
    if sde.noise == "general" or (sde.noise == "scalar" and grid.dim > 1):
        raise OrnsteinError(f"a grid needs noise that is diagonal, not {sde.noise}: one Brownian motion for each coordinate")


def _coefficient(fn: Callable[[Tensor, Time], Tensor], x: Tensor, t: Time, name: str) -> Tensor:
    """A coefficient as ``(b, d)`` float64."""
    value = _finite(fn(x, t).detach().double(), name, t)
    try:
        return value.expand(x.shape)
    except RuntimeError as error:
        raise OrnsteinError(
            f"the {name} maps {tuple(x.shape)} to {tuple(value.shape)}: on a grid it must broadcast to the state, "
            "which has as many dimensions as the grid has axes, and diagonal noise"
        ) from error


def _finite(value: Tensor, name: str, t: Time) -> Tensor:
    if not math.isfinite(float(value.sum())):
        raise OrnsteinError(f"the {name} is not finite everywhere on the grid at t={float(t):g}: move the ends of the axes or of time")
    return value
