"""The Fokker-Planck equation: how a density moves.

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
from ornstein.core.processes.linear import Time
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError


def intervals(ts: Tensor) -> tuple[list[tuple[float, float]], int]:
    """Middle and length of each interval of a time grid, and its direction.

    Raises:
        OrnsteinError: unless the times are one-dimensional, at least two, and strictly increase or
            decrease.
    """
    times = ts.double().tolist() if ts.ndim == 1 else []
    steps = np.diff(times)
    if len(times) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise OrnsteinError(
            f"times of shape {tuple(ts.shape)}: a grid of at least 2 times is needed that"
            " increases, or decreases"
        )
    return [((t + s) / 2, abs(s - t)) for t, s in pairwise(times)], 1 if steps[0] > 0 else -1


@dataclass(frozen=True)
class FokkerPlanck:
    """The density (1) of an equation on a grid.

    Args:
        sde: an `SDE`, a `LinearSDE`, `Langevin`, `Reverse` ...: anything with drift and diffusion
            ``(b, d), t``.
        grid: the cells, with what happens at the ends.
        stepping: how it moves in time; every member keeps the density positive and, without
            absorbing ends, its mass.
    """

    sde: Equation
    grid: Grid
    stepping: Stepping = UNIFORMISATION

    def generator(self, t: Time, direction: int = 1) -> Generator:
        """The matrix Q at time t; direction -1 for a process that runs down in time."""
        return generator(self.sde, self.grid, t, direction)

    def solve(
        self, p0: Float[Tensor, "*cells"], ts: Float[Tensor, " k"]
    ) -> Float[Tensor, "k *cells"]:
        """The density at each of the times, the first being the start.

        Each interval is one step, with the coefficients at its middle: exact in time, up to the
        stepping, where they do not depend on time, whatever the intervals; otherwise of second
        order in their length. The times of a process that runs down in time, such as `Reverse`,
        decrease.

        Args:
            p0: densities at the centres, as `Grid.density` makes them.
            ts: times that increase, or decrease.
        """
        p = check_values(p0, self.grid, "the density")
        if bool((p < 0).any()):
            raise OrnsteinError(
                f"the density has negative values, the smallest is {float(p.min()):g}"
            )
        steps, direction = intervals(ts)
        found, q, values = [p], None, p.numpy()
        for middle, dt in steps:
            new = self.generator(middle, direction)
            q = q if q is not None and q.same(new) else new
            values = self.stepping.forward(q, values, dt)
            found.append(torch.from_numpy(values))
        return torch.stack(found)

    def stationary(self, t: Time = 0.0) -> Float[Tensor, "*cells"]:
        """The density that no longer moves under the coefficients at time t: ``p Q = 0``, mass 1.

        On a line that is not periodic by detailed balance, ``p_{i+1} / p_i = Q_{i,i+1} /
        Q_{i+1,i}``, however high the barriers. Otherwise by implicit Euler steps longer than every
        relaxation, ``p (1 - h Q) = p_before``, from two starts that must meet.

        Raises:
            OrnsteinError: if an end absorbs (nothing is left in the long run), or the starts do not
                meet: some cells are not reached from others, or so rarely that it is lost in
                    rounding.
        """
        q = self.generator(t)
        if not q.conserves_mass:
            raise OrnsteinError(
                "nothing is left in the long run where an end absorbs: make the ends Reflecting()"
                " or Periodic()"
            )
        up, down = q.up[0][:-1], q.down[0][1:]
        if (
            self.grid.dim == 1
            and not self.grid.axes[0].periodic
            and (up > 0).all()
            and (down > 0).all()
        ):
            log = np.append(0.0, np.cumsum(np.log(up / down)))
            p = np.exp(log - log.max())
            return torch.from_numpy(p / (p.sum() * self.grid.volume))
        n = q.out.size
        matrix = scipy_part("sparse").eye_array(n) - 1e13 / float(q.out.max()) * q.forward
        solve = scipy_part("sparse.linalg").splu(matrix.tocsc()).solve
        both, change, apart = np.stack((np.ones(n), np.arange(1.0, n + 1)), 1), np.inf, np.inf
        both /= both.sum(0)
        for _ in range(30):
            new = np.abs(solve(both))  # negative by rounding only
            new /= new.sum(0)
            change, apart, both = np.abs(new - both).sum(), np.abs(new[:, 0] - new[:, 1]).sum(), new
            if change < 1e-12 and apart < 1e-9:
                return torch.from_numpy(both[:, 0].reshape(self.grid.shape) / self.grid.volume)
        raise OrnsteinError(
            f"two starts end {apart:.1e} apart: cells do not reach each other, or too rarely to"
            " tell in float64: lower the barriers, or put the ends of the axes around one well"
        )


def check_values(values: Tensor, grid: Grid, name: str) -> Tensor:
    """``values`` as float64 on the CPU's side of the border, or `OrnsteinError` unless it is finite
    and of the shape of the cells."""
    if tuple(values.shape) != grid.shape or not bool(torch.isfinite(values).all()):
        raise OrnsteinError(
            f"{name} must be finite and of the shape of the cells, {grid.shape}, got"
            f" {tuple(values.shape)}: use grid.evaluate(fn) or grid.density(fn)"
        )
    return values.detach().double()
