"""Euler's method for stochastic differential equations, and its variants for stiff or steep drifts.

The Euler-Maruyama method freezes drift and diffusion over a step. With h = s - t,

    x_s ~ N(x_t + drift(x_t, t) h, diffusion(x_t, t)^2 |h|).                                     (1)

It is the default method of this library for general noise. Where the drift grows faster than x, (1)
explodes with positive probability whatever the step. Two variants do not: the tamed method bounds
the increment of the drift, the implicit method takes the drift at the end of the step,

    drift h / (1 + |h| |drift|),                                                                 (2)
    x_s = x_t + drift(x_s, s) h + g dB.                                                          (3)

Maruyama 1955; Hutzenthaler, Jentzen and Kloeden 2012, eq. 4 (2); Kloeden and Platen 1992, section
12.2 (3).
"""

__all__ = ["EulerMaruyama", "ImplicitEuler", "TamedEuler"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import ITO, STRONG_HALF, SDEMethod, SolverOrders
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.noise_type import Diagonal, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class _Euler(SDEMethod):
    """Base class of the three Euler methods: their declared orders and their noise term."""

    order: int = 1
    solves = SolverOrders(ITO, STRONG_HALF, weak=1)

    def _noise(self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream) -> Tensor:
        """Return the noise term ``g dB`` of a step, zeros for an ODE."""
        return (
            driving(sde).apply(sde.diffusion(x, t), stream.increment(t, s))
            if self.noisy(sde)
            else torch.zeros_like(x)
        )


@dataclass(frozen=True)
class EulerMaruyama(_Euler):
    """The Euler-Maruyama method ``x_s = x_t + drift(x_t, t) h + diffusion(x_t, t) dB``.

    Order 1 without noise, strong order 1/2 (1 for additive noise), weak order 1. It solves every
    equation in Ito's sense. On the probability-flow ODE it is Euler's method in t, "euler" in other
    libraries.

    Example:
        >>> sde = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x))
        >>> x = torch.zeros(4, 2)
        >>> orn.solve(sde, x, [0.0, 0.5, 1.0], orn.EulerMaruyama(), dt=0.1).shape
        torch.Size([3, 4, 2])
    """

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one Euler-Maruyama step; with diagonal noise it returns the step's Gaussian too."""
        gap = s - t
        drift = sde.drift(x, t)
        h: float | Tensor = per_sample(gap, x) if gap.ndim or gap.requires_grad else gap.item()
        mean = x + drift * h if isinstance(h, Tensor) else torch.add(x, drift, alpha=h)
        if not self.noisy(sde):
            return Step(mean)
        g = sde.diffusion(x, t)
        noise = driving(sde)
        if not isinstance(noise, Diagonal):
            return Step(mean + noise.apply(g, stream.increment(t, s)))
        z = stream.between(t, s)
        root = h.abs().sqrt() if isinstance(h, Tensor) else math.sqrt(abs(h))
        y = mean + g * root * z if isinstance(root, Tensor) else mean.addcmul_(g, z, value=root)
        return Step(y, lambda: Gaussian(x + drift * h, g * root))  # (1)


@dataclass(frozen=True)
class TamedEuler(_Euler):
    """The tamed Euler method for drifts that grow faster than x, such as ``x - x^3``.

    The increment of the drift is ``drift h / (1 + |h| |drift|)``, bounded by 1 in norm; where the
    drift is small the method is Euler-Maruyama, whose orders it has. Hutzenthaler, Jentzen and
    Kloeden 2012, eq. 4.
    """

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one tamed step, the norm of the drift taken over the event."""
        h = per_sample(s - t, x)
        drift = sde.drift(x, t)
        size = per_sample(drift.flatten(1).norm(dim=1) if x.ndim > 1 else drift.abs(), x)
        return Step(x + drift * h / (1 + h.abs() * size) + self._noise(sde, x, t, s, stream))  # (2)


@renamed_arguments(most="max_iterations")
@dataclass(frozen=True)
class ImplicitEuler(_Euler):
    """The drift-implicit (backward) Euler method ``x_s = x_t + drift(x_s, s) h + g dB``.

    For stiff drifts. The equation for x_s is solved by Newton's method with the exact Jacobian of
    every sample. Kloeden and Platen 1992, section 12.2.

    Args:
        tol: tolerance on the last step of Newton's method, relative to ``1 + |x|``.
        max_iterations: largest number of steps of Newton's method.
    """

    tol: float = 1e-6
    max_iterations: int = 20

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one implicit step by Newton's method.

        Raises:
            OrnsteinError: if Newton's method does not converge.
        """
        explicit = x + self._noise(sde, x, t, s, stream)
        h = float(s - t)
        y = explicit
        shape = x.shape

        def residual(point: Tensor) -> Tensor:
            drift = sde.drift(point.reshape(1, *shape[1:]), s)[0]
            return point - h * drift.reshape(-1)

        jacobian = torch.func.vmap(torch.func.jacrev(residual))
        for k in range(self.max_iterations):
            flat = y.reshape(len(x), -1)
            error = flat - explicit.reshape(len(x), -1) - h * sde.drift(y, s).reshape(len(x), -1)
            change = torch.linalg.solve(jacobian(flat), error)
            y = (flat - change).reshape(shape)
            if bool((change.abs() <= self.tol * (1 + flat.abs())).all()):
                return Step(y, evaluations=2 * (k + 1))  # (3)
        raise OrnsteinError(
            f"{self}: Newton's method did not converge from t={float(t):g} to {float(s):g}:"
            " shorten the step"
        )
