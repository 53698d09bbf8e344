"""Methods for equations in Stratonovich's sense: products with dB are taken in the middle of the
step.

All of them need nothing but ``F(x, t) = a(x, t) h + g(x, t) dB`` for one increment dB of the step,
h = s - t:

    EulerHeun               y = x + g dB,               x' = x + a h + 1/2 [g(x) + g(y)] dB      (1)
    StratonovichHeun        y = x + F(x, t),            x' = x + 1/2 [F(x, t) + F(y, s)]         (2)
    StratonovichMidpoint    y = x + 1/2 F(x, t),        x' = x + F(y, (t + s) / 2)               (3)
    ReversibleHeun          z' = 2 x - z + F(z, t),     x' = x + 1/2 [F(z, t) + F(z', s)]        (4)

The last carries z along, evaluates once per step, and can be run backwards to where it came from:
(x, z) follows from (x', z') by the same formulas with -F. Strong order 1 where the noise commutes
(diagonal, scalar, additive), 1/2 else. Kloeden and Platen 1992, section 4.9 and 15.5; Rumelin 1982;
Kidger et al. 2021 (Efficient and accurate gradients for neural SDEs), algorithm 1.
"""

__all__ = ["EulerHeun", "ReversibleHeun", "StratonovichHeun", "StratonovichMidpoint"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class _Stratonovich(SDEMethod):
    """What the four share."""

    def _jump(self, sde: Equation, t: Tensor, s: Tensor, stream: NoiseStream) -> Tensor | None:
        """dB, if there is any."""
        return stream.increment(t, s) if self.noisy(sde) else None


def _force(sde: Equation, x: Tensor, t: Tensor, h: Tensor, jump: Tensor | None) -> Tensor:
    """F."""
    return sde.drift(x, t) * h + _push(sde, x, t, jump)


def _push(sde: Equation, x: Tensor, t: Tensor, jump: Tensor | None) -> Tensor:
    """``g dB``."""
    return torch.zeros_like(x) if jump is None else driving(sde).apply(sde.diffusion(x, t), jump)


@dataclass(frozen=True)
class EulerHeun(_Stratonovich):
    """(1): one drift, two diffusions."""

    order: int = 1

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        jump = self._jump(sde, t, s, stream)
        first = _push(sde, x, t, jump)
        return Step(
            x
            + sde.drift(x, t) * per_sample(s - t, x)
            + (first + _push(sde, x + first, s, jump)) / 2
        )  # (1)


@dataclass(frozen=True)
class StratonovichHeun(_Stratonovich):
    """(2): order 2 without noise, where it is Heun's method in t."""

    order: int = 2

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (2)."""
        jump, h = self._jump(sde, t, s, stream), per_sample(s - t, x)
        first = _force(sde, x, t, h, jump)
        return Step(x + (first + _force(sde, x + first, s, h, jump)) / 2, evaluations=2)  # (2)


@dataclass(frozen=True)
class StratonovichMidpoint(_Stratonovich):
    """(3): order 2 without noise."""

    order: int = 2

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (3)."""
        jump, h = self._jump(sde, t, s, stream), per_sample(s - t, x)
        return Step(
            x + _force(sde, x + _force(sde, x, t, h, jump) / 2, (t + s) / 2, h, jump), evaluations=2
        )  # (3)


@dataclass(frozen=True)
class ReversibleHeun(_Stratonovich):
    """(4): one evaluation per step, order 2 without noise, reversible up to rounding."""

    order: int = 2

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (4); the memory is z with drift and diffusion there."""
        jump, h, calls = self._jump(sde, t, s, stream), per_sample(s - t, x), 1
        if memory is None:
            memory, calls = (x, *_both(sde, x, t, jump)), 2
        z, a, g = memory
        force = a * h + g(jump)
        z = 2 * x - z + force
        a, g = _both(sde, z, s, jump)
        ahead = a * h + g(jump)
        return Step(x + (force + ahead) / 2, memory=(z, a, g), evaluations=calls)  # (4)


def _both(
    sde: Equation, x: Tensor, t: Tensor, jump: Tensor | None
) -> tuple[Tensor, Callable[[Tensor | None], Tensor]]:
    """a, and g as a function of an increment."""
    a, g = sde.drift(x, t), None if jump is None else sde.diffusion(x, t)
    return (
        a,
        lambda dB: torch.zeros_like(x) if g is None or dB is None else driving(sde).apply(g, dB),
    )
