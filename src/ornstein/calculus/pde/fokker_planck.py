"""The Fokker-Planck equation on a grid: how the density of a diffusion changes in time.

    d_t p = -sum_i d_i (A_i p) + sum_i d_ii (D_i p),    D = g^2 / 2,                             (1)

of ``dX = A(X, t) dt + g(X, t) dB`` in the sense of Ito. On the cells of a grid it is the master
equation ``p' = p Q`` of the Markov chain of `generator`.
"""

__all__ = ["FokkerPlanck"]

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.pde.generator import Generator, generator, scipy_part
from ornstein.calculus.pde.grid import Grid
from ornstein.calculus.pde.uniformisation import UNIFORMISATION, Stepping
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.processes.linear import Time
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError

_LONG_STEP = 1e13  # implicit Euler step over the fastest jump: longer than every relaxation
_MAX_STEPS = 30


def intervals(times: Tensor) -> tuple[list[tuple[float, float]], int]:
    """Return the middle and the length of each interval of a time grid, and its direction.

    Raises:
        OrnsteinError: unless the times are one-dimensional, at least two, and strictly increase or
            decrease.
    """
    numbers = times.double().tolist() if times.ndim == 1 else []
    steps = np.diff(numbers)
    if len(numbers) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise OrnsteinError(
            f"times of shape {tuple(times.shape)}: a grid of at least 2 times is needed that"
            " increases, or decreases"
        )
    middles = [((t + s) / 2, abs(s - t)) for t, s in pairwise(numbers)]
    return middles, 1 if steps[0] > 0 else -1


@dataclass(frozen=True)
class FokkerPlanck:
    """The Fokker-Planck equation on a grid, ``d_t p = -div(A p) + sum_i d_ii (D_i p)``.

    Args:
        sde: an `SDE`, a `LinearSDE`, `Langevin`, `Reverse` ...: anything with drift and diffusion
            ``(b, d), t``.
        grid: the cells, with the boundary conditions.
        stepping: the method in time; every method conserves positivity and, without absorbing ends,
            mass.

    Example:
        >>> grid = orn.Grid(orn.Axis(-6, 6, 200))
        >>> p0 = grid.density(lambda x: (-x[:, 0].square()).exp() / torch.pi**0.5)
        >>> p = orn.FokkerPlanck(orn.OU(), grid).solve(p0, torch.tensor([0.0, 1.0]))
        >>> p.shape, bool((grid.integrate(p) - 1).abs().max() < 1e-12)
        (torch.Size([2, 200]), True)
    """

    sde: Equation
    grid: Grid
    stepping: Stepping = UNIFORMISATION

    def generator(self, t: Time, direction: int = 1) -> Generator:
        """Return the generator matrix Q at time t.

        Args:
            t: the time at which the coefficients are frozen.
            direction: 1, or -1 for a process that runs down in time.
        """
        return generator(self.sde, self.grid, t, direction)

    @renamed_arguments(ts="times")
    def solve(
        self, p0: Float[Tensor, "*cells"], times: Float[Tensor, " k"]
    ) -> Float[Tensor, "k *cells"]:
        """Return the density at each of the times, ``(k, *cells)``, the first being the start.

        Each interval is one step, with the coefficients at its middle: exact in time, up to the
        stepping, where they do not depend on time, whatever the intervals; otherwise of second
        order in their length. The times of a process that runs down in time, such as `Reverse`,
        decrease.

        Args:
            p0: densities at the centres, as `Grid.density` makes them.
            times: times that increase, or decrease.

        Raises:
            OrnsteinError: if the density is negative or of another shape than the cells, or the
                times are no grid.
        """
        p = check_values(p0, self.grid, "the density")
        if bool((p < 0).any()):
            raise OrnsteinError(
                f"the density has negative values, the smallest is {float(p.min()):g}"
            )
        steps, direction = intervals(times)
        solution = [p]
        values = p.numpy()
        q = None
        for middle, dt in steps:
            new = self.generator(middle, direction)
            q = q if q is not None and q.same(new) else new
            values = self.stepping.forward(q, values, dt)
            solution.append(torch.from_numpy(values))
        return torch.stack(solution)

    def stationary(self, t: Time = 0.0) -> Float[Tensor, "*cells"]:
        """Return the stationary density under the coefficients at time t: ``p Q = 0``, mass 1.

        On a line that is not periodic by detailed balance, ``p_{i+1} / p_i = Q_{i,i+1} /
        Q_{i+1,i}``, however high the barriers. Otherwise by implicit Euler steps longer than every
        relaxation, ``p (1 - h Q) = p_before``, from two starts that must meet.

        Raises:
            OrnsteinError: if an end absorbs (nothing is left in the long run), or the starts do not
                meet: cells are not reached from others, or so rarely that it is lost in rounding.
        """
        q = self.generator(t)
        if not q.conserves_mass:
            raise OrnsteinError(
                "nothing is left in the long run where an end absorbs: make the ends Reflecting()"
                " or Periodic()"
            )
        line = self.grid.dim == 1 and not self.grid.axes[0].periodic
        up, down = q.up[0][:-1], q.down[0][1:]
        if line and (up > 0).all() and (down > 0).all():
            log = np.append(0.0, np.cumsum(np.log(up / down)))
            p = np.exp(log - log.max())
            return torch.from_numpy(p / (p.sum() * self.grid.volume))
        n = q.out.size
        matrix = scipy_part("sparse").eye_array(n) - _LONG_STEP / float(q.out.max()) * q.forward
        solve = scipy_part("sparse.linalg").splu(matrix.tocsc()).solve
        both = np.stack((np.ones(n), np.arange(1.0, n + 1)), 1)
        both /= both.sum(0)
        distance = np.inf
        for _ in range(_MAX_STEPS):
            new = np.abs(solve(both))  # negative by rounding only
            new /= new.sum(0)
            change = np.abs(new - both).sum()
            distance = np.abs(new[:, 0] - new[:, 1]).sum()
            both = new
            if change < 1e-12 and distance < 1e-9:
                return torch.from_numpy(both[:, 0].reshape(self.grid.shape) / self.grid.volume)
        raise OrnsteinError(
            f"two starts end {distance:.1e} apart: cells do not reach each other, or too rarely to"
            " tell in float64: lower the barriers, or put the ends of the axes around one well"
        )


def check_values(values: Tensor, grid: Grid, name: str) -> Tensor:
    """Return values on a grid in float64, or raise unless they are finite and fit the grid."""
    if tuple(values.shape) != grid.shape or not bool(torch.isfinite(values).all()):
        raise OrnsteinError(
            f"{name} must be finite and of the shape of the cells, {grid.shape}, got"
            f" {tuple(values.shape)}: use grid.evaluate(fn) or grid.density(fn)"
        )
    return values.detach().double()
