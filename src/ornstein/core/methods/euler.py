"""Euler's method and its relatives: freeze drift and diffusion over the step. With h = s - t,

    x_s ~ N(x_t + drift(x_t, t) h, diffusion(x_t, t)^2 |h|).                                     (1)

Where the drift grows faster than x, (1) explodes with positive probability whatever the step.
Bounded or taken at the end, it does not:

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

from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.noise_type import Diagonal, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class _Euler(SDEMethod):
    """What the three share."""

    order: int = 1

    def _noise(self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream) -> Tensor:
        """``g dB``."""
        return (
            driving(sde).apply(sde.diffusion(x, t), stream.increment(t, s))
            if self.noisy(sde)
            else torch.zeros_like(x)
        )


@dataclass(frozen=True)
class EulerMaruyama(_Euler):
    """Euler-Maruyama (1): order 1 without noise, strong order 1/2 (1 for additive noise), weak
    order 1.

    Works on every equation in Ito's sense; on the probability-flow ODE it is Euler's method in t
    ("euler" elsewhere).
    """

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1); with diagonal noise and its Gaussian."""
        gap, drift = s - t, sde.drift(x, t)
        h: float | Tensor = per_sample(gap, x) if gap.ndim or gap.requires_grad else gap.item()
        mean = x + drift * h if isinstance(h, Tensor) else torch.add(x, drift, alpha=h)
        if not self.noisy(sde):
            return Step(mean)
        g, noise = sde.diffusion(x, t), driving(sde)
        if not isinstance(noise, Diagonal):
            return Step(mean + noise.apply(g, stream.increment(t, s)))
        z, root = (
            stream.between(t, s),
            h.abs().sqrt() if isinstance(h, Tensor) else math.sqrt(abs(h)),
        )
        moved = (
            mean + g * root * z if isinstance(root, Tensor) else mean.addcmul_(g, z, value=root)
        )  # (1)
        return Step(moved, lambda: Gaussian(x + drift * h, g * root))


@dataclass(frozen=True)
class TamedEuler(_Euler):
    """(2): for drifts that grow faster than x, such as ``x - x^3``; where the drift is small it is
    Euler-Maruyama."""

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step, the norm of the drift taken over the event."""
        h, drift = per_sample(s - t, x), sde.drift(x, t)
        size = per_sample(drift.flatten(1).norm(dim=1) if x.ndim > 1 else drift.abs(), x)
        return Step(x + drift * h / (1 + h.abs() * size) + self._noise(sde, x, t, s, stream))  # (2)


@dataclass(frozen=True)
class ImplicitEuler(_Euler):
    """(3) by Newton's method with the exact Jacobian of every sample: for stiff drifts. Called
    drift-implicit or backward Euler.

    Args:
        tol: of Newton's last step, relative to ``1 + |x|``.
        most: of its steps.
    """

    tol: float = 1e-6
    most: int = 20

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step.

        Raises:
            OrnsteinError: if Newton's method does not converge.
        """
        known = x + self._noise(sde, x, t, s, stream)
        h, y, shape = float(s - t), known, x.shape

        def residual(point: Tensor) -> Tensor:
            drift = sde.drift(point.reshape(1, *shape[1:]), s)[0]
            return point - h * drift.reshape(-1)

        slope = torch.func.vmap(torch.func.jacrev(residual))
        for k in range(self.most):
            flat = y.reshape(len(x), -1)
            off = flat - known.reshape(len(x), -1) - h * sde.drift(y, s).reshape(len(x), -1)
            change = torch.linalg.solve(slope(flat), off)
            y = (flat - change).reshape(shape)
            if bool((change.abs() <= self.tol * (1 + flat.abs())).all()):
                return Step(y, evaluations=2 * (k + 1))  # (3)
        raise OrnsteinError(
            f"{self}: Newton's method found no solution from t={float(t):g} to {float(s):g}:"
            " shorten the step"
        )
