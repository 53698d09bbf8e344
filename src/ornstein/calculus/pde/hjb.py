"""The Hamilton-Jacobi-Bellman equation on a grid: stochastic optimal control by Hopf-Cole.

A control u is added to ``dX = A dt + g dB`` through the noise, ``dX = (A + g u) dt + g dB``, at the
cost

    J(u; x, t) = E[int_t^T (q(X, s) + |u|^2 / 2) ds + G(X_T) | X_t = x].                         (1)

Its least value V and the control that reaches it solve

    d_t V = -L V - q + |g grad V|^2 / 2,    V(., T) = G,    u* = -g grad V.                      (2)

With ``V = -log phi`` (Hopf and Cole) the square is gone: (2) is ``d_t phi = -L phi + q phi``,
``phi(., T) = e^-G``, Kolmogorov's equation, which `KolmogorovBackward` solves without subtracting,
so that V is accurate also where phi is tiny. Fleming 1978; Kappen 2005; Fleming and Soner,
Controlled Markov Processes, chapter VI.
"""

__all__ = ["HJB", "Control"]

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.pde.fokker_planck import check_values
from ornstein.calculus.pde.grid import Grid
from ornstein.calculus.pde.kolmogorov_backward import KolmogorovBackward
from ornstein.calculus.pde.uniformisation import Uniformisation
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.tables import cell
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import General, driving
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError

_MAX_VARIATION = 700  # largest range of the terminal cost: exp(-700) is nearly the smallest double
_TOLERANCE = 1e-60  # tolerance of the time steps: V = -log phi also needs the digits of tiny phi


@dataclass(frozen=True, eq=False)
class Control:
    """The value function V and optimal control u*, on the grid and interpolated in between.

    Args:
        grid: the cells.
        times: ``(k,)``, in the order in which the process runs.
        value: V at the centres, ``(k, *cells)``.
        u: u* at the centres, ``(k, *cells, m)``, in units of the Brownian motion per unit of time;
            m is d, but for general noise.
    """

    grid: Grid
    times: Float[Tensor, " k"]
    value: Float[Tensor, "k *cells"]
    u: Float[Tensor, "k *cells m"]

    def __call__(self, x: Float[Tensor, "b d"], t: Time) -> Float[Tensor, "b m"]:
        """Return ``u*(x, t)``, linear between centres and times, constant beyond the outermost.

        It makes a drift ``A + g u`` for `simulate`.

        Args:
            x: states.
            t: one time for all, within those of the solution.
        """
        time = torch.as_tensor(t, dtype=torch.float64)
        sign = 1.0 if self.times[-1] > self.times[0] else -1.0
        k = cell(sign * self.times, sign * time)
        part = ((time - self.times[k]) / (self.times[k + 1] - self.times[k])).clamp(0, 1)
        before, after = (self._interpolate(self.u[i], x) for i in (k, k + 1))
        return torch.lerp(before, after, part).to(x)

    def _interpolate(self, field: Tensor, x: Tensor) -> Tensor:
        """Interpolate ``field (*cells, d)`` at states x, linearly in each coordinate."""
        low: list[Tensor] = []
        part: list[Tensor] = []
        for k, axis in enumerate(self.grid.axes):
            position = (x[:, k].double() - axis.low) / axis.width - 0.5
            if not axis.periodic:
                position = position.clamp(0, axis.cells - 1)
            low.append(position.floor().long())
            part.append(position - low[-1])
        total = torch.zeros(len(x), field.shape[-1], dtype=torch.float64)
        for corner in product((0, 1), repeat=self.grid.dim):
            factors = [p if c else 1 - p for c, p in zip(corner, part, strict=True)]
            indices = zip(corner, low, self.grid.axes, strict=True)
            index = tuple((i + c) % axis.cells for c, i, axis in indices)
            total = total + torch.stack(factors).prod(0)[:, None] * field[index]
        return total


@dataclass(frozen=True)
class HJB:
    """Optimal control on a grid: the drift ``g u`` of least expected cost, by Hopf-Cole.

    The cost is ``E[int_t^T (q + |u|^2 / 2) ds + G(X_T)]``; the value function V solves the
    Hamilton-Jacobi-Bellman equation ``d_t V = -L V - q + |g grad V|^2 / 2``, by the Hopf-Cole
    transformation.

    Args:
        sde: the uncontrolled process, with drift and diffusion ``(b, d), t``.
        grid: the cells. At a reflecting end V is flat, so its control there is 0: put the ends
            where paths do not come.
        running: the running cost ``q(x, t)``, ``(b, d), t -> (b,)``, per unit of time; 0 if left
            out.

    Example:
        >>> grid = orn.Grid(orn.Axis(-4, 4, 100))
        >>> brownian = orn.SDE(lambda x, t: 0 * x, lambda x, t: torch.ones(()))
        >>> target = grid.evaluate(lambda x: x[:, 0].square())
        >>> control = orn.HJB(brownian, grid).solve(target, torch.tensor([0.0, 0.5, 1.0]))
        >>> control.value.shape, control(torch.ones(5, 1), 0.2).shape
        (torch.Size([3, 100]), torch.Size([5, 1]))
    """

    sde: Equation
    grid: Grid
    running: Callable[[Tensor, Time], Tensor] | None = None

    @renamed_arguments(ts="times")
    def solve(self, terminal: Float[Tensor, "*cells"], times: Float[Tensor, " k"]) -> Control:
        """Return the value function V and the optimal control u* at each of the times.

        Args:
            terminal: G at the centres, as `Grid.evaluate` makes it.
            times: times in the order in which the process runs; each interval is one step, with the
                coefficients at its middle.

        Raises:
            OrnsteinError: if G varies by more than 700 over the grid, where e^-G is no longer a
                number.
        """
        cost = check_values(terminal, self.grid, "the terminal cost")
        lowest = cost.min()
        if float(cost.max() - lowest) > _MAX_VARIATION:
            raise OrnsteinError(
                f"the terminal cost varies by {float(cost.max() - lowest):.0f} over the grid, at"
                f" most {_MAX_VARIATION} fits into float64: narrow the axes, or cap the cost"
            )
        stepping = Uniformisation(_TOLERANCE)
        equation = KolmogorovBackward(self.sde, self.grid, self.running, stepping)
        value = lowest - equation.solve((lowest - cost).exp(), times).log()
        u = torch.stack([self._control(v, t) for v, t in zip(value, times, strict=True)])
        return Control(self.grid, times.double(), value, u)

    def _control(self, value: Tensor, t: Tensor) -> Tensor:
        """Return ``u* = -g grad V``, by differences across two cells; one-sided at the ends."""
        gradient = []
        for k, axis in enumerate(self.grid.axes):
            v = value.movedim(k, 0)
            if axis.periodic:
                slope = (v.roll(-1, 0) - v.roll(1, 0)) / (2 * axis.width)
            else:
                slope = torch.gradient(v, spacing=axis.width, dim=0, edge_order=2)[0]
            gradient.append(slope.movedim(0, k))
        slope = torch.stack(gradient, -1).flatten(0, -2)
        g = self.sde.diffusion(self.grid.centres, t).detach().double()
        if isinstance(driving(self.sde), General):
            return -(g * slope[..., None]).sum(1).reshape(*self.grid.shape, -1)  # (2)
        return -(g * slope).reshape(*self.grid.shape, self.grid.dim)  # (2)
