"""The generator matrix of a diffusion on a grid (Scharfetter-Gummel, Chang-Cooper).

For ``dX = A(X, t) dt + g(X, t) dB`` (Ito) and ``D = g^2 / 2`` the density obeys, along each axis,

    d_t p = -div J,    J = A p - (D p)' = (A / D) q - q',    q = D p.                            (1)

Between two centres, a distance l apart, let J and A / D be constant; then (1) is a linear ODE for q
with the solution

    J = [B(-P) q_i - B(P) q_{i+1}] / l,    P = int A / D dx,    B(z) = z / (e^z - 1),            (2)

so that paths jump from cell i up and down at the rates

    Q_{i,i+1} = D_i B(-P) / (l h),    Q_{i+1,i} = D_{i+1} B(P) / (l h).                          (3)

They are never negative and each row of Q sums to what leaves through absorbing ends: Q is the
generator of a Markov chain on the cells, ``p' = p Q`` its master equation and ``phi' = -Q phi`` its
Kolmogorov equation. Where J = 0, ``q_{i+1} = q_i e^P``: the stationary density of a drift in
detailed balance is exact at the centres, up to the quadrature of P (three Gauss points, exact for
polynomials of degree 5). Otherwise the error is second order in h. A factor on both rates of an
edge changes no such balance;

    1 - (C / 6) / (1 + C^2 + P^2),    C = h^2 (A / D)',                                          (4)

makes the mean displacement of the chain A up to O(h^4) where D is constant, and tends to 1 where
the cells are too wide for this expansion. An absorbing end is half a cell from the centre, ``l = h
/ 2`` and q = 0. A coordinate without noise is the limit D -> 0, upwind and of first order.
Scharfetter and Gummel 1969; Chang and Cooper 1970; the master equation view: Wang, Peskin and
Elston 2003. Noise that moves both coordinates of a plane at once makes paths jump on diagonals as
well: `ornstein.calculus.pde.mixed_noise`.
"""

__all__ = ["Array", "Generator", "generator", "scipy_part"]

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.calculus.pde.grid import Absorbing, Axis, Grid
from ornstein.calculus.pde.mixed_noise import Mixed, add_diagonals, is_mixed
from ornstein.calculus.pde.rates import NODES, Array, coefficient, finite, segment_rates
from ornstein.core.methods.base import calculus_of
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import ADDITIVE, General, driving
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError


def scipy_part(name: str) -> Any:
    """Return the module ``scipy.<name>``, imported when it is first needed.

    Raises:
        ImportError: with the package to install, where there is no SciPy.
    """
    try:
        return import_module(f"scipy.{name}")
    except ImportError as error:
        raise ImportError(
            "equations on a grid need SciPy: pip install 'ornstein[calculus]'"
        ) from error


@dataclass(frozen=True, eq=False)
class Generator:
    """The generator matrix Q, frozen at one time: jump rates per unit of time.

    Each rate is an array of the shape of the cells.

    Args:
        grid: the cells.
        up, down: per step, the rate to the next and to the previous cell; at a periodic end, to the
            first and to the last.
        exit_up, exit_down: per axis, the rate of absorption at either end; 0 in all other cells.
        potential: a rate of killing ``q`` in each cell, of any sign: ``phi' = -(Q - q) phi``.
        steps: to the next cell, in the direction of each axis and, where noise mixes coordinates,
            of diagonals.
    """

    grid: Grid
    up: tuple[Array, ...]
    down: tuple[Array, ...]
    exit_up: tuple[Array, ...]
    exit_down: tuple[Array, ...]
    potential: Array | None = None
    steps: tuple[tuple[int, ...], ...] = ((1, 0), (0, 1))
    out: Array = field(init=False)

    def __post_init__(self) -> None:
        rates = [*self.up, *self.down, *self.exit_up, *self.exit_down]
        total = sum(rates) if self.potential is None else sum(rates) + self.potential
        object.__setattr__(self, "out", total)

    @property
    def conserves_mass(self) -> bool:
        """Whether nothing is absorbed or killed, so that the rows of Q sum to 0."""
        return self.potential is None and not any(
            rate.any() for rate in (*self.exit_up, *self.exit_down)
        )

    @property
    def forward(self) -> Any:
        """The sparse transpose of Q, which moves densities: ``p' = forward @ p``, p flat."""
        n = math.prod(self.grid.shape)
        diagonals: dict[int, Array] = {0: -self.out.reshape(-1)}
        for step, up, down in zip(self.steps, self.up, self.down, strict=False):
            for rate, sign in ((up, 1), (down, -1)):
                for offset, cells in _moves(self.grid, step, sign):
                    part = rate.reshape(-1) * cells
                    diagonals[offset] = diagonals[offset] + part if offset in diagonals else part
        return scipy_part("sparse").dia_array(
            (np.stack(list(diagonals.values())), list(diagonals)), shape=(n, n)
        )

    @property
    def backward(self) -> Any:
        """The sparse matrix Q, which moves functions: ``phi' = -backward @ phi``, phi flat."""
        return self.forward.T

    def same(self, other: "Generator") -> bool:
        """Return whether all rates equal those of another generator."""
        rates, other_rates = (*self.up, *self.down, self.out), (*other.up, *other.down, other.out)
        return self.steps == other.steps and all(
            np.array_equal(a, b) for a, b in zip(rates, other_rates, strict=True)
        )


@lru_cache(maxsize=32)
def _moves(grid: Grid, step: tuple[int, ...], sign: int) -> list[tuple[int, Array]]:
    """Return each offset of the flat index in a step, with a mask of the cells that move by it.

    There is more than one such pair where ends are periodic.
    """
    index = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    target = [k + sign * s for k, s in zip(index, step, strict=False)]
    stays = np.ones(grid.shape, dtype=bool)
    for k, axis in enumerate(grid.axes):
        if axis.periodic:
            target[k] = target[k] % axis.cells
        stays &= (target[k] >= 0) & (target[k] < axis.cells)
    fall = np.zeros(grid.shape, dtype=int)
    for k, axis in enumerate(grid.axes):
        fall = fall * axis.cells + index[k] - target[k]
    return [
        (int(offset), ((fall == offset) & stays).reshape(-1).astype(float))
        for offset in np.unique(fall[stays])
    ]


def generator(
    sde: Equation,
    grid: Grid,
    t: Time,
    direction: int = 1,
    potential: Callable[[Tensor, Time], Tensor] | None = None,
) -> Generator:
    """Return the generator matrix Q of an equation at time t.

    Args:
        sde: drift and diffusion ``(b, d), t``, in float64; any noise, in a plane with the limits of
            `ornstein.calculus.pde.mixed_noise`.
        grid: of as many axes as the state has dimensions.
        t: the time at which the coefficients are frozen.
        direction: 1 where the process runs up in time, -1 where it runs down, as `Reverse` does.
        potential: ``(b, d), t -> (b,)``, a rate of killing.

    Raises:
        OrnsteinError: for an equation of Stratonovich, for noise that correlates coordinates more
            than the cells allow, and if a coefficient is not finite on the grid, or has the wrong
            shape.
    """
    if calculus_of(sde) != "ito" and driving(sde) != ADDITIVE:
        raise OrnsteinError(
            "a grid reads coefficients in the sense of Ito: convert this equation of Stratonovich"
            " with to_ito(sde)"
        )
    parts: dict[str, list[Any]] = {
        name: [] for name in ("up", "down", "exit_up", "exit_down", "steps")
    }
    mixed = Mixed(sde, grid, t, direction) if is_mixed(sde, grid) else None
    cross = None
    if mixed is None:
        axes = _coefficients(sde, grid, t, direction)
    else:
        *own, cross = mixed.parts()
        axes = _mixed_coefficients(mixed, own)
    for k, (w, edge, centre) in enumerate(axes):
        rates = _rates(edge, grid.axes[k], w, centre.T if k else centre)  # this axis first
        for name, rate in zip(("up", "down", "exit_up", "exit_down"), rates, strict=True):
            parts[name].append(rate.T if k else rate)
        parts["steps"].append((1, 0) if k == 0 else (0, 1))
    if mixed is not None and cross is not None:
        add_diagonals(parts, mixed, cross)
    killing = None
    if potential is not None:
        killing = grid.evaluate(lambda x: finite(potential(x, t), "potential", t)).numpy()
    return Generator(
        grid, potential=killing, **{name: tuple(rates) for name, rates in parts.items()}
    )


@dataclass(frozen=True, eq=False)
class _Edges:
    """The segments of one axis over which J is constant.

    They lie between centres, and from the outer centres to absorbing ends.
    """

    start: Array
    length: Array
    shape: tuple[int, ...]  # (segments, Gauss points, cells of the other axis)


@lru_cache(maxsize=8)
def _edges(grid: Grid) -> tuple[list[tuple[_Edges, slice]], Tensor, int]:
    """Return the segments of each axis, and their Gauss points as one batch of states.

    The centres follow in the batch; the third result is the number of Gauss points.
    """
    edges: list[tuple[_Edges, slice]] = []
    batches: list[Array] = []
    first = 0
    for k, axis in enumerate(grid.axes):
        start = axis.centres.numpy()
        h = axis.width
        length = np.full(axis.cells, h)
        if not axis.periodic:
            length[-1] = h / 2
            start, length = np.append(axis.low, start), np.append(h / 2, length)
        points = start[:, None] + length[:, None] * (1 + NODES) / 2
        if axis.periodic:
            points = np.where(points > axis.high, points - (axis.high - axis.low), points)
        other = [a.centres.numpy() for i, a in enumerate(grid.axes) if i != k]
        mesh = np.meshgrid(points.reshape(-1), *other, indexing="ij")
        edge = _Edges(start, length, (*points.shape, *(len(c) for c in other)))
        edges.append((edge, slice(first, first + math.prod(edge.shape))))
        first += math.prod(edge.shape)
        batches.append(np.stack([c.reshape(-1) for c in (mesh if k == 0 else mesh[::-1])], -1))
    x = torch.from_numpy(np.concatenate((*batches, grid.centres.numpy())))
    return edges, x, first


def _coefficients(
    sde: Equation, grid: Grid, t: Time, direction: int
) -> Iterator[tuple[Array, _Edges, Array]]:
    """Yield for each axis A / D at the Gauss points, the edges, and D at the centres.

    This is for noise that mixes no coordinates.
    """
    edges, x, edges_of_x = _edges(grid)
    drift = coefficient(sde.drift, x[:edges_of_x], t, "drift", (edges_of_x, grid.dim))
    if isinstance(driving(sde), General):
        noise = coefficient(sde.diffusion, x, t, "diffusion", (*x.shape, -1)).norm(dim=-1)
    else:
        noise = coefficient(sde.diffusion, x, t, "diffusion", tuple(x.shape))
    for k, (edge, rows) in enumerate(edges):
        a = (direction * drift[rows, k]).numpy()
        g = noise[rows, k].numpy()
        centre = noise[edges_of_x:, k].numpy()
        floor = 1e-12 * grid.axes[k].width * np.abs(a).max() + 1e-300  # the limit D -> 0: upwind
        w = a / np.maximum(g * g / 2, floor)
        d = np.maximum(centre * centre / 2, floor)
        yield w.reshape(edge.shape), edge, d.reshape(grid.shape)


def _mixed_coefficients(mixed: Mixed, own: list[Array]) -> Iterator[tuple[Array, _Edges, Array]]:
    """Yield for each axis A / D, the edges and D, for noise that mixes coordinates."""
    edges, x, edges_of_x = _edges(mixed.grid)
    w = mixed.pull(x[:edges_of_x]).numpy()
    for k, (edge, rows) in enumerate(edges):
        yield w[rows, k].reshape(edge.shape), edge, own[k]


def _rates(edge: _Edges, axis: Axis, w: Array, centre: Array) -> tuple[Array, Array, Array, Array]:
    """Return the jump rates (3) of an axis: up, down, and out at both ends; own axis first."""
    rise, fall = (rate / axis.width for rate in segment_rates(w, edge.length))  # (3), but for D
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
