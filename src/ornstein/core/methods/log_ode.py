"""The log-ODE method: over a step, an equation in Stratonovich's sense is the flow of one vector
field, or of a few.

For ``dX = a dt + sum_j g_j o dB_j`` and a step of length h with increments dB and Levy areas A
(`ornstein.core.random.levy_area`) let

    F = h a + sum_j dB_j g_j + sum_{j<k} A_jk [g_j, g_k],        [g_j, g_k] = (D g_k) g_j - (D g_j) g_k,  (1)

and go along it for one unit of time, by the classical Runge-Kutta method. Since A is antisymmetric,
the last sum is

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

from ornstein.core.methods.base import SDEMethod
from ornstein.core.methods.runge_kutta import RungeKutta, rk4
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import General, driving
from ornstein.core.processes.sde import SDE, Equation
from ornstein.core.random.levy_area import foster_area, stochastic_area
from ornstein.core.random.motion import PathStream
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError

Field = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class LogODE(SDEMethod):
    """(3), and (1) for general noise: order 4 without noise; it stays where the vector fields keep
    it, such as on a sphere.

    Strong order 3/2 where the noise commutes (diagonal, scalar, additive), with the areas H of the
    path; one of order 1 has none, so that with respect to it no method is above 1. With general
    noise it has order 1 as far as the areas A are right. They are drawn given dB and H, with the
    right mean and variance (Davie 2014; Foster 2020), which no number of increments can better: of
    the path itself the strong order is 1/2, with an error of about half that of a method without
    areas. On a `BrownianPath` of order 2 they may be composed of so many pieces of a step, and the
    order is 1 if ``pieces`` grows like 1/h.

    Args:
        pieces: in which each step's area A is cut on a path that knows its own; elsewhere it has no
            effect.

    Raises:
        OrnsteinError: if ``pieces`` is not positive.
    """

    pieces: int = 1
    order: int = 4

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise OrnsteinError(f"LogODE(pieces={self.pieces}): 1 or more pieces of a step")

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses equations in Ito's sense, unless their noise is additive, and general noise with
        times of its own for each sample."""
        super().start(sde, times)
        if times.ndim > 1 and driving(sde) == General():
            raise OrnsteinError(
                "LogODE with general noise needs one grid (n,) for all samples: a Levy area belongs"
                " to a step"
            )

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1) or (3); in a rise the time of the coefficients runs from t to s."""
        h = per_sample(s - t, x)

        def rise(jump: Tensor | None, area: Tensor | None = None) -> Field:
            def field(y: Tensor, u: Any) -> Tensor:
                at = t + u * (s - t)
                force = sde.drift(y, at) * h
                if jump is None:
                    return force
                force = force + driving(sde).apply(sde.diffusion(y, at), jump)
                return force if area is None else force + _brackets(sde, y, at, area)  # (1)

            return field

        if not self.noisy(sde):
            return Step(_flow(rise(None), x, stream), evaluations=4)
        jump = stream.increment(t, s)
        if driving(sde) == General():
            return Step(_flow(rise(jump, self._area(stream, jump, t, s)), x, stream), evaluations=4)
        area = stream.area(t, s)
        even = (
            (jump.square() + 12 / 5 * area.square() + 4 / 5 * per_sample((s - t).abs(), jump))
            .sqrt()
            .copysign(jump)
        )
        rest = (jump - even) / 2
        x = _flow(lambda y, u: driving(sde).apply(sde.diffusion(y, t), rest + area), x, stream)
        x = _flow(rise(even), x, stream)
        return Step(
            _flow(lambda y, u: driving(sde).apply(sde.diffusion(y, s), rest - area), x, stream),
            evaluations=4,
        )  # (3)

    def _area(self, stream: NoiseStream, jump: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``(b, m, m)``."""
        if isinstance(stream, PathStream) and stream.path.order > 1:
            return stochastic_area(stream.path, t, s, self.pieces).to(jump)
        z = torch.stack([stream.normal() for _ in range(jump.shape[1])], -1)
        return foster_area(jump, stream.area(t, s), abs(float(s - t)), z)


def _flow(field: Field, x: Tensor, stream: NoiseStream) -> Tensor:
    """Along a vector field for one unit of time."""
    unit = torch.zeros((), dtype=torch.float64)
    return RungeKutta(rk4).step(SDE(field), x, unit, unit + 1, stream, None).x


def _brackets(sde: Equation, x: Tensor, t: Tensor, area: Tensor) -> Tensor:
    """The sum (2)."""
    g = sde.diffusion(x, t)
    directions = (g.flatten(1, -2) @ area).reshape(g.shape)  # u_k in its last dimension

    def along(k: int) -> Tensor:
        return torch.func.jvp(
            lambda y: sde.diffusion(y, t)[..., k], (x,), (directions[..., k].contiguous(),)
        )[1]

    total = along(0)
    for k in range(1, g.shape[-1]):
        total = total + along(k)
    return total  # (2)
