"""Grids for equations in one or two dimensions: axes, cells, and boundary conditions.

An axis of n cells from low to high has the width ``h = (high - low) / n`` and the centres ``low +
(i + 1/2) h``; its ends are faces, not centres. A density is a tensor of the shape of the cells,
``(n,)`` or ``(n, m)``, whose entry is the value at the centre; up to O(h^2) it is the mean over the
cell, and

    integral of p  =  sum_i p_i h                                                                (1)

is the mass of the master equation, exactly, whatever the width.
"""

__all__ = ["Absorbing", "Axis", "Boundary", "Grid", "Periodic", "Reflecting"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Reflecting:
    """A reflecting end: no flux through it, so mass is conserved, ``A p - (D p)' = 0``."""


@dataclass(frozen=True)
class Absorbing:
    """An absorbing end: paths that reach it are removed, ``p = 0``.

    In a backward equation it is the end where functionals stop.
    """


@dataclass(frozen=True)
class Periodic:
    """A periodic end: paths that leave return at the other end, which must be periodic too."""


Boundary = Reflecting | Absorbing | Periodic
"""What happens at an end."""


@dataclass(frozen=True)
class Axis:
    """An axis of equal cells from ``low`` to ``high``, with a boundary condition at each end.

    Args:
        low, high: the ends, in the units of the state.
        cells: number of cells, at least 3.
        lower, upper: the boundary conditions, `Reflecting`, `Absorbing` or `Periodic`.

    Raises:
        OrnsteinError: for ends out of order, too few cells, or one periodic end without the other.

    Example:
        >>> axis = orn.Axis(-1.0, 1.0, 200, upper=orn.pde.Absorbing())
        >>> axis.width, axis.centres.shape
        (0.01, torch.Size([200]))
    """

    low: float
    high: float
    cells: int
    lower: Boundary = Reflecting()
    upper: Boundary = Reflecting()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise OrnsteinError(
                f"Axis({self.low}, {self.high}): the low end must be below the high end, both"
                " finite"
            )
        if self.cells < 3:
            raise OrnsteinError(
                f"Axis(cells={self.cells}): at least 3 cells are needed, usually 100 to 400"
            )
        if isinstance(self.lower, Periodic) != isinstance(self.upper, Periodic):
            raise OrnsteinError(
                f"Axis(lower={self.lower}, upper={self.upper}): a periodic axis is periodic at both"
                " ends"
            )

    @property
    def periodic(self) -> bool:
        """Whether both ends of the axis are periodic."""
        return isinstance(self.lower, Periodic)

    @property
    def width(self) -> float:
        """The width ``h = (high - low) / cells`` of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def centres(self) -> Float[Tensor, " n"]:
        """The middle of each cell, ``(n,)``, float64."""
        return self.low + self.width * (torch.arange(self.cells, dtype=torch.float64) + 0.5)


@dataclass(frozen=True, init=False)
class Grid:
    """The cells of one or two axes, on which densities and functions are tensors.

    Args:
        axes: one `Axis` for a state ``(b, 1)``, two for ``(b, 2)``.

    Raises:
        OrnsteinError: for another number of axes.

    Example:
        >>> grid = orn.Grid(orn.Axis(-3, 3, 60), orn.Axis(0, 1, 20))
        >>> grid.shape, grid.centres.shape
        ((60, 20), torch.Size([1200, 2]))
    """

    axes: tuple[Axis, ...]

    def __init__(self, *axes: Axis) -> None:
        if len(axes) not in (1, 2):
            raise OrnsteinError(
                f"a grid of {len(axes)} axes: grids have 1 or 2, simulate in more dimensions"
            )
        object.__setattr__(self, "axes", axes)

    @property
    def dim(self) -> int:
        """The dimension of the state, 1 or 2."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of cells of each axis."""
        return tuple(axis.cells for axis in self.axes)

    @property
    def volume(self) -> float:
        """The length or area of one cell."""
        return math.prod(axis.width for axis in self.axes)

    @cached_property
    def centres(self) -> Float[Tensor, "cells d"]:
        """The centres of all cells as a batch of states, float64, the last axis fastest.

        A function is evaluated by ``fn(centres).reshape(grid.shape)``.
        """
        if self.dim == 1:
            return self.axes[0].centres[:, None]
        return torch.stack(
            torch.meshgrid(*(axis.centres for axis in self.axes), indexing="ij"), -1
        ).flatten(0, -2)

    def evaluate(self, fn: Callable[[Tensor], Tensor]) -> Float[Tensor, "*cells"]:
        """Return a function ``(b, d) -> (b,)`` at the centres of the cells, float64.

        Raises:
            OrnsteinError: if the function returns another shape.
        """
        values = fn(self.centres)
        if values.shape != (math.prod(self.shape),):
            raise OrnsteinError(
                f"a function on this grid must map ({math.prod(self.shape)}, {self.dim}) to"
                f" ({math.prod(self.shape)},), got {tuple(values.shape)}: drop the last dimension,"
                " as in x[:, 0]"
            )
        return values.detach().double().reshape(self.shape)

    def density(self, fn: Callable[[Tensor], Tensor]) -> Float[Tensor, "*cells"]:
        """Return a density ``(b, d) -> (b,)`` at the centres, scaled to the mass 1.

        Raises:
            OrnsteinError: if the mass on the cells is below 0.99 or above 1.01: the grid is too
                small or too coarse.
        """
        values = self.evaluate(fn)
        mass = float(self.integrate(values))
        if not 0.99 < mass < 1.01:
            raise OrnsteinError(
                f"this density has mass {mass:.4g} on the grid, not 1: widen the axes or take more"
                " cells"
            )
        return values / mass

    def integrate(self, values: Float[Tensor, "*batch_and_cells"]) -> Float[Tensor, "*batch"]:
        """Return the integral ``sum_i p_i h`` over the last one or two dimensions."""
        return values.sum(tuple(range(-self.dim, 0))) * self.volume  # (1)

    def mean(self, density: Float[Tensor, "*cells"]) -> Float[Tensor, " d"]:
        """Return the mean ``E[x]``, ``(d,)``, under a density of mass 1."""
        return self.volume * density.reshape(-1) @ self.centres

    def covariance(self, density: Float[Tensor, "*cells"]) -> Float[Tensor, "d d"]:
        """Return the covariance ``Cov[x]``, ``(d, d)``, under a density of mass 1."""
        centred = self.centres - self.mean(density)
        return self.volume * (density.reshape(-1, 1) * centred).mT @ centred
