"""Kolmogorov's backward equation on a grid: expectations (Feynman-Kac), committors, passage times.

With the generator ``L = sum_i A_i d_i + D_i d_ii`` of ``dX = A dt + g dB``, ``D = g^2 / 2``,

    phi(x, t) = E[exp(-int_t^T q(X_s, s) ds) f(X_T) | X_t = x]
    solves    d_t phi = -L phi + q phi,    phi(., T) = f                                         (1)

(Feynman and Kac). Functionals of the time of hitting a set need no time: the probability h of
hitting B before A, the committor, and the mean time m to hit B are

    L h = 0,   h = 0 in A, 1 in B;        L m = -1,   m = 0 in B.                                (2)

On a grid L is the matrix Q of `generator`, the transpose of what moves densities, so that the sum
of ``p phi`` over the cells does not depend on time, exactly. Paths that reach an absorbing end stop
there and count with f = 0. Kolmogorov 1931; Kac 1949; E and Vanden-Eijnden 2010 (transition paths).
"""

__all__ = ["KolmogorovBackward", "committor", "mean_first_passage"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.pde.fokker_planck import check_values, intervals
from ornstein.calculus.pde.generator import Array, Generator, generator, scipy_part
from ornstein.calculus.pde.grid import Grid
from ornstein.calculus.pde.uniformisation import UNIFORMISATION, Uniformisation
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.processes.linear import Time
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError

Inside = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class KolmogorovBackward:
    """The expectation ``E[exp(-int_t^T q ds) f(X_T) | X_t = x]`` on a grid, at all times.

    It solves Kolmogorov's backward equation ``d_t phi = -L phi + q phi``.

    Args:
        sde: anything with drift and diffusion ``(b, d), t``.
        grid: the cells, with the boundary conditions.
        potential: ``q(x, t)``, ``(b, d), t -> (b,)``, per unit of time: a rate of killing, or of
            growth where negative.
        stepping: the method in time; positive functions stay positive, and without a potential
            between their bounds.

    Example:
        >>> grid = orn.Grid(orn.Axis(-4, 4, 100))
        >>> f = grid.evaluate(lambda x: x[:, 0].cos())
        >>> phi = orn.KolmogorovBackward(orn.OU(), grid).solve(f, torch.tensor([0.0, 1.0]))
        >>> phi.shape, torch.equal(phi[-1], f)
        (torch.Size([2, 100]), True)
    """

    sde: Equation
    grid: Grid
    potential: Callable[[Tensor, Time], Tensor] | None = None
    stepping: Uniformisation = UNIFORMISATION

    def generator(self, t: Time, direction: int = 1) -> Generator:
        """Return the generator with killing, the matrix ``Q - q`` at time t.

        Args:
            t: the time at which the coefficients are frozen.
            direction: 1, or -1 for a process that runs down in time.
        """
        return generator(self.sde, self.grid, t, direction, self.potential)

    @renamed_arguments(ts="times")
    def solve(
        self, terminal: Float[Tensor, "*cells"], times: Float[Tensor, " k"]
    ) -> Float[Tensor, "k *cells"]:
        """Return ``phi`` at each of the times, ``(k, *cells)``, the last being ``terminal``.

        Each interval is one step, with the coefficients at its middle: exact in time where they do
        not depend on time, otherwise of second order.

        Args:
            terminal: values f at the centres, as `Grid.evaluate` makes them.
            times: times in the order in which the process runs: increasing, or decreasing for one
                such as `Reverse`.
        """
        phi = check_values(terminal, self.grid, "the terminal function")
        steps, direction = intervals(times)
        solution = [phi]
        values = phi.numpy()
        q = None
        for middle, dt in reversed(steps):
            new = self.generator(middle, direction)
            q = q if q is not None and q.same(new) else new
            values = self.stepping.backward(q, values, dt)
            solution.append(torch.from_numpy(values))
        return torch.stack(solution[::-1])


def committor(
    sde: Equation, grid: Grid, a: Inside, b: Inside, t: Time = 0.0
) -> Float[Tensor, "*cells"]:
    """Return the probability of hitting the set B before the set A, from each cell.

    Args:
        sde: anything with drift and diffusion ``(b, d), t``.
        grid: the cells. An absorbing end belongs to the set that holds its face, so that ends are
            met exactly, not to a cell.
        a, b: ``(b, d) -> (b,)``, whether points are in A, in B; asked at the centres and on
            absorbing faces.
        t: the time at which the coefficients are frozen.

    Raises:
        OrnsteinError: if the sets overlap, or one holds no centre and no absorbing face.
    """
    q = generator(sde, grid, t)
    set_a, set_b = _Set(grid, a), _Set(grid, b)
    for name, region in (("A", set_a), ("B", set_b)):
        if not (region.cells.any() or region.arrivals(q).any()):
            raise OrnsteinError(
                f"set {name} holds no centre of a cell and no absorbing face: widen it or take more"
                " cells"
            )
    if (set_a.cells & set_b.cells).any():
        raise OrnsteinError("sets A and B overlap: a path cannot hit one before the other")
    return _solve(q, set_a.cells | set_b.cells, set_b.cells.astype(float), set_b.arrivals(q))  # (2)


def mean_first_passage(
    sde: Equation, grid: Grid, target: Inside | None = None, t: Time = 0.0
) -> Float[Tensor, "*cells"]:
    """Return the mean time to hit the target, or any absorbing end, from each cell.

    Args:
        sde: anything with drift and diffusion ``(b, d), t``.
        grid: the cells.
        target: ``(b, d) -> (b,)``, whether points are in the target; may be left out where an end
            absorbs.
        t: the time at which the coefficients are frozen.

    Raises:
        OrnsteinError: if there is nothing to hit.
    """
    q = generator(sde, grid, t)
    cells = np.zeros(grid.shape, dtype=bool) if target is None else _Set(grid, target).cells
    if q.conserves_mass and not cells.any():
        raise OrnsteinError(
            "there is nothing to hit: give a target that holds centres of cells, or make an end"
            " Absorbing()"
        )
    return _solve(q, cells, np.zeros(grid.shape), np.ones(grid.shape))  # (2)


class _Set:
    """The cells of a grid whose centres lie in a set of states."""

    def __init__(self, grid: Grid, inside: Inside) -> None:
        self.grid = grid
        self.inside = inside
        self.cells = self._contains(grid.centres)

    def _contains(self, x: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """Return for each cell whether the point x of the cell is in the set."""
        return self.grid.evaluate(lambda _: self.inside(x)).numpy() > 0

    def arrivals(self, q: Generator) -> Array:
        """Return the rate at which paths leave each cell through absorbing faces of the set."""
        rate = np.zeros(self.grid.shape)
        for k, axis in enumerate(self.grid.axes):
            for end, leaving in ((axis.low, q.exit_down[k]), (axis.high, q.exit_up[k])):
                if leaving.any():
                    face = self.grid.centres.clone()
                    face[:, k] = end
                    rate = rate + leaving * self._contains(face)
        return rate


def _solve(
    q: Generator,
    given: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]",
    values: Array,
    source: Array,
) -> Tensor:
    """Solve ``-Q u = source`` in the cells that are not given, with ``u = values`` in others."""
    inner = ~given.reshape(-1)
    matrix = q.backward.tocsr()[inner]
    flat = values.reshape(-1).copy()
    right = source.reshape(-1)[inner] + matrix[:, ~inner] @ flat[~inner]
    flat[inner] = scipy_part("sparse.linalg").spsolve(-matrix[:, inner].tocsc(), right)
    return torch.from_numpy(flat.reshape(values.shape))
