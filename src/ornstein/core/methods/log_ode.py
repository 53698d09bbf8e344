"""The log-ODE method: solve a Stratonovich equation by an ordinary equation in each step.

It is the most accurate method of this library in Stratonovich's sense, and the one for general
noise that does not commute. For ``dX = a dt + sum_j g_j o dB_j`` and a step of length h with
increments dB and Levy areas A (`ornstein.core.random.levy_area`) let

    F = h a + sum_j dB_j g_j + sum_{j<k} A_jk [g_j, g_k],                                        (1)
    [g_j, g_k] = (D g_k) g_j - (D g_j) g_k,

and follow this vector field for one unit of time, by the classical Runge-Kutta method. Since A is
antisymmetric, the last sum is

    sum_k (D g_k) u_k,        u_k = sum_j A_jk g_j,                                              (2)

one derivative for each k, by forward-mode differentiation. Where the noise commutes these brackets
vanish, and what comes next is ``h H_j [g_j, a]`` with the space-time area H, and the double
brackets with a, whose coefficients have the mean ``h^2 / 12``. All of them are those of a motion
that jumps, rises evenly by C, and jumps again,

    dB = [(dB - C) / 2 + H] + C + [(dB - C) / 2 - H],        C^2 = dB^2 + 12/5 H^2 + 4/5 |h|,    (3)

for it has the mean of the motion over the step, ``dB / 2 + H``, and the square of C is such that it
has the mean square as well, given dB and H. A jump J is the flow of ``sum_j J_j g_j`` for one unit
of time, the rise that of ``h a + sum_j C_j g_j``: no derivatives. Castell and Gaines 1995 (An
efficient approximation method for stochastic differential equations by means of the exponential Lie
series); Foster 2020 (Numerical approximations for SDEs), section 7; (3) is of Foster, dos Reis and
Strange 2024 (High order splitting methods for SDEs satisfying a commutativity condition).
"""

__all__ = ["LogODE"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import STRATONOVICH, STRONG_THREE_HALVES, SDEMethod, SolverOrders
from ornstein.core.methods.runge_kutta import RungeKutta, rk4
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import General, driving
from ornstein.core.processes.sde import SDE, Equation
from ornstein.core.random.levy_area import foster_area, stochastic_area
from ornstein.core.random.motion import PathStream
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step, require_shared_grid
from ornstein.errors import OrnsteinError

Field = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class LogODE(SDEMethod):
    """The log-ODE method for Stratonovich equations: each step follows the flow of vector fields.

    Order 4 without noise. The solution stays on any manifold that the vector fields are tangent to,
    such as a sphere. Strong order 3/2 where the noise commutes (diagonal, scalar, additive), if the
    path has space-time areas H; a path of order 1 has none, and no method is above strong order 1
    on it. With general noise the order is 1 if the Levy areas A are those of the path. They are
    drawn given dB and H, with the right mean and variance (Davie 2014; Foster 2020), which no
    function of
    increments improves on: on the path itself the strong order is then 1/2, with about half the
    error of a method without areas. On a `BrownianPath` of order 2 the areas may be composed of
    ``pieces`` pieces of a step, and the order is 1 if ``pieces`` grows like 1/h.

    Args:
        pieces: number of pieces of a step from which the area A is composed, on a `BrownianPath` of
            order 2; without effect elsewhere.

    Raises:
        OrnsteinError: if ``pieces`` is not positive.
    """

    pieces: int = 1
    order: int = 4
    solves = SolverOrders(STRATONOVICH, STRONG_THREE_HALVES | {"general": 0.5}, weak=1)

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise OrnsteinError(f"LogODE(pieces={self.pieces}): 1 or more pieces of a step")

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for multiplicative Ito noise, and for general noise on per-sample times."""
        super().start(sde, times)
        if driving(sde) == General():
            require_shared_grid(self, times, "with general noise a Levy area belongs to a step")

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step, by classical Runge-Kutta steps through the vector fields of the flow."""
        h = per_sample(s - t, x)

        def motion(increment: Tensor | None, levy_area: Tensor | None = None) -> Field:
            """Drift and noise together; the time of the coefficients runs from t to s."""

            def field(y: Tensor, u: Any) -> Tensor:
                time = t + u * (s - t)
                force = sde.drift(y, time) * h
                if increment is None:
                    return force
                force = force + driving(sde).apply(sde.diffusion(y, time), increment)
                return force if levy_area is None else force + _brackets(sde, y, time, levy_area)

            return field  # (1)

        def jump(increment: Tensor, time: Tensor) -> Field:
            return lambda y, u: driving(sde).apply(sde.diffusion(y, time), increment)

        if not self.noisy(sde):
            return Step(_flow(motion(None), x, stream), evaluations=4)
        dB = stream.increment(t, s)
        if driving(sde) == General():
            return Step(_flow(motion(dB, self._area(stream, dB, t, s)), x, stream), evaluations=4)
        area = stream.area(t, s)
        square = dB.square() + 12 / 5 * area.square() + 4 / 5 * per_sample((s - t).abs(), dB)
        rise = square.sqrt().copysign(dB)
        half = (dB - rise) / 2
        x = _flow(jump(half + area, t), x, stream)
        x = _flow(motion(rise), x, stream)
        return Step(_flow(jump(half - area, s), x, stream), evaluations=4)  # (3)

    def _area(self, stream: NoiseStream, dB: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return the Levy areas of a step, ``(b, m, m)``, taken from the path or drawn."""
        if isinstance(stream, PathStream) and stream.path.order > 1:
            return stochastic_area(stream.path, t, s, self.pieces).to(dB)
        z = torch.stack([stream.normal() for _ in range(dB.shape[1])], -1)
        return foster_area(dB, stream.area(t, s), abs(float(s - t)), z)


def _flow(field: Field, x: Tensor, stream: NoiseStream) -> Tensor:
    """Follow a vector field for one unit of time, by one classical Runge-Kutta step."""
    unit = torch.zeros((), dtype=torch.float64)
    return RungeKutta(rk4).step(SDE(field), x, unit, unit + 1, stream, None).x


def _brackets(sde: Equation, x: Tensor, t: Tensor, area: Tensor) -> Tensor:
    """Return the sum (2) of Lie brackets of the noise columns, weighted by the Levy areas."""
    g = sde.diffusion(x, t)
    directions = (g.flatten(1, -2) @ area).reshape(g.shape)  # u_k in its last dimension

    def derivative(k: int) -> Tensor:
        return torch.func.jvp(
            lambda y: sde.diffusion(y, t)[..., k], (x,), (directions[..., k].contiguous(),)
        )[1]

    total = derivative(0)
    for k in range(1, g.shape[-1]):
        total = total + derivative(k)
    return total  # (2)
