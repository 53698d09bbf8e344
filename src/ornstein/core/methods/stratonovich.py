"""Methods for equations in Stratonovich's sense, where products with dB are taken mid-step.

They serve equations that come from physics or geometry, and networks as vector fields; Heun's
version is the default of this library in Stratonovich's sense. All of them need nothing but
``F(x, t) = a(x, t) h + g(x, t) dB`` for one increment dB of the step, h = s - t:

    EulerHeun               y = x + g dB,               x' = x + a h + 1/2 [g(x) + g(y)] dB      (1)
    StratonovichHeun        y = x + F(x, t),            x' = x + 1/2 [F(x, t) + F(y, s)]         (2)
    StratonovichMidpoint    y = x + 1/2 F(x, t),        x' = x + F(y, (t + s) / 2)               (3)
    ReversibleHeun          z' = 2 x - z + F(z, t),     x' = x + 1/2 [F(z, t) + F(z', s)]        (4)

The last one remembers z, evaluates once per step, and can be run backwards to where it came from:
(x, z) follows from (x', z') by the same formulas with -F. Strong order 1 where the noise commutes
(diagonal, scalar, additive), else 1/2. Kloeden and Platen 1992, section 4.9 and 15.5; Rumelin 1982;
Kidger et al. 2021 (Efficient and accurate gradients for neural SDEs), algorithm 1.
"""

__all__ = ["EulerHeun", "ReversibleHeun", "StratonovichHeun", "StratonovichMidpoint"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import STRATONOVICH, STRONG_ONE_COMMUTING, SDEMethod, SolverOrders
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


class _Coefficients:
    """Drift and diffusion of an equation at one point, to be multiplied by h and dB."""

    def __init__(self, sde: Equation, x: Tensor, t: Tensor, noisy: bool) -> None:
        self.driving = driving(sde)
        self.drift = sde.drift(x, t)
        self.diffusion = sde.diffusion(x, t) if noisy else None
        self.like = x

    def noise(self, increment: Tensor | None) -> Tensor:
        """Return the noise term ``g dB`` of a step, zeros for an ODE."""
        if self.diffusion is None or increment is None:
            return torch.zeros_like(self.like)
        return self.driving.apply(self.diffusion, increment)

    def force(self, h: Tensor, increment: Tensor | None) -> Tensor:
        """Return the increment ``F = a h + g dB`` of the state."""
        return self.drift * h + self.noise(increment)


@dataclass(frozen=True)
class _Stratonovich(SDEMethod):
    """Base class of the four Stratonovich methods: their orders, and the increment of a step."""

    solves = SolverOrders(STRATONOVICH, STRONG_ONE_COMMUTING, weak=1)

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Draw the increment of the Brownian motion and take one step with it."""
        increment = stream.increment(t, s) if self.noisy(sde) else None
        return self._advance(sde, x, t, s, per_sample(s - t, x), increment, memory)

    def _advance(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, h: Tensor, dB: Tensor | None,
        memory: Any,
    ) -> Step:  # fmt: skip
        """Take one step with the increment dB; None for an ODE."""
        raise NotImplementedError


@dataclass(frozen=True)
class EulerHeun(_Stratonovich):
    """The Euler-Heun method: Euler's step for the drift, Heun's for the noise.

    ``y = x + g dB, x' = x + a h + [g(x) + g(y)] dB / 2``: one drift and two diffusions per step.
    """

    order: int = 1

    def _advance(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, h: Tensor, dB: Tensor | None,
        memory: Any,
    ) -> Step:  # fmt: skip
        at_start = _Coefficients(sde, x, t, dB is not None)
        noise = at_start.noise(dB)
        ahead = noise if dB is None else driving(sde).apply(sde.diffusion(x + noise, s), dB)
        return Step(x + at_start.drift * h + (noise + ahead) / 2)  # (1)


@dataclass(frozen=True)
class StratonovichHeun(_Stratonovich):
    """Heun's method (the trapezoidal rule) for Stratonovich equations; order 2 without noise.

    ``y = x + F(x, t), x' = x + [F(x, t) + F(y, s)] / 2`` with ``F = a h + g dB``. Without noise it
    is Heun's method in t. Rumelin 1982.
    """

    order: int = 2

    def _advance(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, h: Tensor, dB: Tensor | None,
        memory: Any,
    ) -> Step:  # fmt: skip
        force = _Coefficients(sde, x, t, dB is not None).force(h, dB)
        ahead = _Coefficients(sde, x + force, s, dB is not None).force(h, dB)
        return Step(x + (force + ahead) / 2, evaluations=2)  # (2)


@dataclass(frozen=True)
class StratonovichMidpoint(_Stratonovich):
    """The explicit midpoint rule for Stratonovich equations; order 2 without noise.

    ``y = x + F(x, t) / 2, x' = x + F(y, (t + s) / 2)`` with ``F = a h + g dB``.
    """

    order: int = 2

    def _advance(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, h: Tensor, dB: Tensor | None,
        memory: Any,
    ) -> Step:  # fmt: skip
        y = x + _Coefficients(sde, x, t, dB is not None).force(h, dB) / 2
        middle = _Coefficients(sde, y, (t + s) / 2, dB is not None)
        return Step(x + middle.force(h, dB), evaluations=2)  # (3)


@dataclass(frozen=True)
class ReversibleHeun(_Stratonovich):
    """The reversible Heun method: one evaluation per step, reversible up to rounding.

    ``z' = 2 x - z + F(z, t), x' = x + [F(z, t) + F(z', s)] / 2`` with ``F = a h + g dB``; order 2
    without noise. The memory is z with drift and diffusion there. Kidger et al. 2021, algorithm 1.
    """

    order: int = 2

    def _advance(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, h: Tensor, dB: Tensor | None,
        memory: Any,
    ) -> Step:  # fmt: skip
        at_z = memory or _Coefficients(sde, x, t, dB is not None)
        force = at_z.force(h, dB)
        ahead = _Coefficients(sde, 2 * x - at_z.like + force, s, dB is not None)
        y = x + (force + ahead.force(h, dB)) / 2
        return Step(y, memory=ahead, evaluations=1 if memory else 2)  # (4)
