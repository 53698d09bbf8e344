"""The log-ODE method: over a step, an equation in Stratonovich's sense is the flow of one vector field.

For ``dX = a dt + sum_j g_j o dB_j`` and a step of length h with increments dB and Levy areas A (`ornstein.core.brownian.area`) let

    F = h a + sum_j dB_j g_j + sum_{j<k} A_jk [g_j, g_k],        [g_j, g_k] = (D g_k) g_j - (D g_j) g_k,        (1)

and go along it for one unit of time, by the classical Runge-Kutta method. Since A is antisymmetric, the last sum is

    sum_k (D g_k) u_k,        u_k = sum_j A_jk g_j,                                                           (2)

one derivative for each k, by forward-mode differentiation. Castell and Gaines 1995 (An efficient approximation method for stochastic
differential equations by means of the exponential Lie series); Foster 2020 (Numerical approximations for SDEs), section 7.
"""

__all__ = ["LogODE"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.brownian.area import foster_area, stochastic_area
from ornstein.core.brownian.motion import PathStream
from ornstein.core.driving import General, driving
from ornstein.core.fits import require_fit
from ornstein.core.gaussian import per_sample
from ornstein.core.methods.runge_kutta import RungeKutta, rk4
from ornstein.core.noise import Draws
from ornstein.core.sde import SDE, Equation
from ornstein.core.solve import Method, Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class LogODE(Method):
    """(1): order 4 without noise; it stays where the vector fields keep it, such as on a sphere, up to the error of Runge-Kutta.

    Strong order 1 where the noise commutes, for the brackets vanish and no area is needed. With general noise it has order 1 as far as
    the areas are right. They are drawn given dB and H, with the right mean and variance (Davie 2014; Foster 2020), which no number of
    increments can better: of the path itself the strong order is 1/2, with an error of about half that of a method without areas.
    On a `BrownianPath` of order 2 they may be composed of so many pieces of a step, and the order is 1 if ``pieces`` grows like 1/h.

    Args:
        pieces: in which each step's area is cut on a path that knows its own; elsewhere it has no effect.

    Raises:
        OrnsteinError: if ``pieces`` is not positive.
    """

    pieces: int = 1
    order: int = 4

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise OrnsteinError(f"LogODE(pieces={self.pieces}): 1 or more pieces of a step")

    def noisy(self, sde: Any) -> bool:
        """Unless the equation is an ODE."""
        return not getattr(sde, "deterministic", False)

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses equations in Ito's sense, unless their noise is additive, and general noise with times of its own for each sample."""
        require_fit(self, sde)
        if times.ndim > 1 and driving(sde) == General():
            raise OrnsteinError("LogODE with general noise needs one grid (n,) for all samples: a Levy area belongs to a step")

    def step(self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """One step (1); the time of the coefficients runs from t to s with it."""
        h, jump = per_sample(s - t, x), stream.increment(t, s) if self.noisy(sde) else None
        area = self._area(stream, jump, t, s) if jump is not None and driving(sde) == General() else None

        def field(y: Tensor, u: Tensor | float) -> Tensor:
            at = t + u * (s - t)
            force = sde.drift(y, at) * h
            if jump is None:
                return force
            force = force + driving(sde).apply(sde.diffusion(y, at), jump)
            return force if area is None else force + _brackets(sde, y, at, area)  # (1)

        unit = torch.zeros((), dtype=torch.float64)
        return RungeKutta(rk4).step(SDE(field), x, unit, unit + 1, stream, None)

    def _area(self, stream: Draws, jump: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``(b, m, m)``."""
        if isinstance(stream, PathStream) and stream.path.order > 1:
            return stochastic_area(stream.path, t, s, self.pieces).to(jump)
        z = torch.stack([stream.normal() for _ in range(jump.shape[1])], -1)
        return foster_area(jump, stream.area(t, s), abs(float(s - t)), z)


def _brackets(sde: Equation, x: Tensor, t: Tensor, area: Tensor) -> Tensor:
    """The sum (2)."""
    g = sde.diffusion(x, t)
    directions = (g.flatten(1, -2) @ area).reshape(g.shape)  # u_k in its last dimension

    def along(k: int) -> Tensor:
        return torch.func.jvp(lambda y: sde.diffusion(y, t)[..., k], (x,), (directions[..., k].contiguous(),))[1]

    total = along(0)
    for k in range(1, g.shape[-1]):
        total = total + along(k)
    return total  # (2)
