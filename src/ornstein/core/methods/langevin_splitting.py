"""Underdamped Langevin dynamics and its splittings.

Position q and velocity v with stationary density proportional to ``rho(q) N(v; 0, 1)``,

    dq = v dt,    dv = (score(q) - friction v) dt + sqrt(2 friction) dB:                         (1)

A moves by the velocity, B kicks by the score, O is the exact Ornstein-Uhlenbeck step of the
velocity, U solves A and O together. The letters of a method's name are its step, each of them over
h or h / 2. Leimkuhler and Matthews 2013 (BAOAB); Bussi and Parrinello 2007 (OBABO); Zapatero 2017
and Sanz-Serna and Zygalakis 2021 (UBU, strong order 2).
"""

__all__ = ["BAOAB", "OBABO", "UBU", "Underdamped"]

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import ADDITIVE, NoiseType
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Underdamped:
    """(1). A state is ``(b, 2, *event)``: positions first, then velocities.

    Args:
        score: ``(b, *event) -> (b, *event)``, gradient of the log-density of the position.
        friction: per unit of time, positive.
    """

    score: Callable[[Tensor], Tensor]
    friction: float = 1.0

    def __post_init__(self) -> None:
        if not self.friction > 0:
            raise OrnsteinError(
                f"Underdamped(friction={self.friction}): positive, per unit of time; usually 0.1"
                " to 10"
            )

    @property
    def driving(self) -> NoiseType:
        """The diffusion is a constant, 0 for positions."""
        return ADDITIVE

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """``(v, score(q) - friction v)``."""
        q, v = x.unbind(1)
        return torch.stack([v, self.score(q) - self.friction * v], 1)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """``(0, sqrt(2 friction))``."""
        return torch.tensor([0.0, math.sqrt(2 * self.friction)], dtype=x.dtype).reshape(
            1, 2, *(1 for _ in x.shape[2:])
        )


@dataclass(frozen=True)
class _Splitting(Method):
    """What the three share: time runs upwards."""

    order: int = 2

    def noisy(self, sde: Any) -> bool:
        """Always."""
        return True

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses other equations, and time that runs downwards."""
        if not isinstance(sde, Underdamped) or times.ndim > 1 or bool(times[0] > times[-1]):
            raise OrnsteinError(
                f"{self} solves Underdamped equations on a grid (n,) of increasing times, not"
                f" {type(sde).__name__}"
            )

    def step(
        self, sde: Underdamped, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step; the score at its end is kept where the next step begins with it."""
        q, v = x.unbind(1)
        q, v, memory = self.split(sde, q, v, float(s - t), stream, memory)
        return Step(torch.stack([q, v], 1), memory=memory)

    @abstractmethod
    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """The letters over a time h: position, velocity, and the score at the new position where
        the next step begins with it."""


def _refresh(sde: Underdamped, v: Tensor, h: float, z: Tensor) -> Tensor:
    """O: ``e^(-friction h) v + sqrt(1 - e^(-2 friction h)) z``."""
    return math.exp(-sde.friction * h) * v + math.sqrt(-math.expm1(-2 * sde.friction * h)) * z


@dataclass(frozen=True)
class BAOAB(_Splitting):
    """B A O A B: the positions of a Gaussian have exactly its variance, whatever the step below
    stability. One score per step."""

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """One step of length h."""
        v = v + h / 2 * (sde.score(q) if score is None else score)
        q = q + h / 2 * v
        v = _refresh(sde, v, h, stream.normal()[:, 1])
        q = q + h / 2 * v
        score = sde.score(q)
        return q, v + h / 2 * score, score


@dataclass(frozen=True)
class OBABO(_Splitting):
    """O B A B O: velocity Verlet between two half refreshments. One score per step."""

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """One step of length h."""
        z = stream.normal()
        v = _refresh(sde, v, h / 2, z[:, 0]) + h / 2 * (sde.score(q) if score is None else score)
        q = q + h * v
        score = sde.score(q)
        return q, _refresh(sde, v + h / 2 * score, h / 2, z[:, 1]), score


@dataclass(frozen=True)
class UBU(_Splitting):
    """U B U: half a step without the score, solved exactly in both q and v, a kick, the other half.
    One score per step.

    Over h the exact solution is ``v' = e v + n_v`` and ``q' = q + (1 - e) / c v + n_q``, ``e =
    exp(-c h)``, with jointly normal n whose covariance is ``Var n_v = 1 - e^2``, ``Cov = (1 - e)^2 / c``, ``Var n_q = (2 c h - 3 + 4 e - e^2) / c^2``.  (2)
    """

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """One step of length h."""
        q, v = _glide(sde, q, v, h / 2, stream.normal())
        q, v = _glide(sde, q, v + h * sde.score(q), h / 2, stream.normal())
        return q, v, None


def _glide(sde: Underdamped, q: Tensor, v: Tensor, h: float, z: Tensor) -> tuple[Tensor, Tensor]:
    c, e = sde.friction, math.exp(-sde.friction * h)
    gone, y = -math.expm1(-c * h), c * h
    var_q = (
        (2 * y - 3 + 4 * e - e**2) / c**2
        if y > 0.02
        else (2 / 3 * y**3 - y**4 / 2 + 7 / 30 * y**5) / c**2
    )
    std_v, covariance = math.sqrt(-math.expm1(-2 * y)), gone**2 / c  # (2)
    share = covariance / std_v
    left = math.sqrt(max(var_q - share**2, 0.0))
    return q + gone / c * v + share * z[:, 1] + left * z[:, 0], e * v + std_v * z[:, 1]
