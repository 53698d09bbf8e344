"""Underdamped Langevin dynamics and its splitting methods BAOAB, OBABO and UBU.

They sample a density rho from its score, with an error of second order in the step. Position q and
velocity v, with the stationary density proportional to ``rho(q) N(v; 0, 1)``, follow

    dq = v dt,    dv = (score(q) - friction v) dt + sqrt(2 friction) dB.                         (1)

A splitting solves parts of (1) in turn: A moves by the velocity, B kicks by the score, O is the
exact Ornstein-Uhlenbeck step of the velocity, U solves A and O together. The letters of a method's
name are its step, each of them over h or h / 2. Leimkuhler and Matthews 2013 (BAOAB); Bussi and
Parrinello 2007 (OBABO); Zapatero 2017 and Sanz-Serna and Zygalakis 2021 (UBU, strong order 2).
"""

__all__ = ["BAOAB", "OBABO", "UBU", "Underdamped"]

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import StochasticMethod
from ornstein.core.numerics.checks import require_positive
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import ADDITIVE, NoiseType
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError

_SERIES_BELOW = 0.02  # friction times step below which Var n_q of (2) is taken from a power series


@dataclass(frozen=True)
class Underdamped:
    """Underdamped Langevin dynamics of a position q and a velocity v.

    ``dq = v dt, dv = (score(q) - friction v) dt + sqrt(2 friction) dB``. A state is ``(b, 2,
    *event)``: positions first, then velocities.

    Args:
        score: ``(b, *event) -> (b, *event)``, gradient of the log-density of the position.
        friction: per unit of time, positive.
    """

    score: Callable[[Tensor], Tensor]
    friction: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "friction", usual="per unit of time, usually 0.1 to 10")

    @property
    def driving(self) -> NoiseType:
        """The type of the noise: additive, as the diffusion is constant."""
        return ADDITIVE

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the drift ``(v, score(q) - friction v)``."""
        q, v = x.unbind(1)
        return torch.stack([v, self.score(q) - self.friction * v], 1)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion, 0 for positions and ``sqrt(2 friction)`` for velocities."""
        return torch.tensor([0.0, math.sqrt(2 * self.friction)], dtype=x.dtype).reshape(
            1, 2, *(1 for _ in x.shape[2:])
        )


@dataclass(frozen=True)
class _Splitting(StochasticMethod):
    """Base class of splitting methods for underdamped Langevin dynamics, on increasing times."""

    order: int = 2

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for other equations, and for decreasing times."""
        if not isinstance(sde, Underdamped) or times.ndim > 1 or bool(times[0] > times[-1]):
            raise OrnsteinError(
                f"{self} solves Underdamped equations on a grid (n,) of increasing times, not"
                f" {type(sde).__name__}"
            )

    def step(
        self, sde: Underdamped, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step; the memory is the score at the end, if the next step reuses it."""
        q, v = x.unbind(1)
        q, v, memory = self.split(sde, q, v, float(s - t), stream, memory)
        return Step(torch.stack([q, v], 1), memory=memory)

    @abstractmethod
    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """Return new position, velocity, and the score there if the next step reuses it."""


def _refresh(sde: Underdamped, v: Tensor, h: float, z: Tensor) -> Tensor:
    """Return the velocity after part O, ``e^(-friction h) v + sqrt(1 - e^(-2 friction h)) z``."""
    return math.exp(-sde.friction * h) * v + math.sqrt(-math.expm1(-2 * sde.friction * h)) * z


@dataclass(frozen=True)
class BAOAB(_Splitting):
    """The splitting B A O A B: its positions have exactly the variance of a Gaussian target.

    This holds for every step below the limit of stability. One score per step. Leimkuhler and
    Matthews 2013.
    """

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        v = v + h / 2 * (sde.score(q) if score is None else score)
        q = q + h / 2 * v
        v = _refresh(sde, v, h, stream.normal()[:, 1])
        q = q + h / 2 * v
        score = sde.score(q)
        return q, v + h / 2 * score, score


@dataclass(frozen=True)
class OBABO(_Splitting):
    """The splitting O B A B O: velocity Verlet between two half refreshments of the velocity.

    One score per step. Bussi and Parrinello 2007.
    """

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        z = stream.normal()
        v = _refresh(sde, v, h / 2, z[:, 0]) + h / 2 * (sde.score(q) if score is None else score)
        q = q + h * v
        score = sde.score(q)
        return q, _refresh(sde, v + h / 2 * score, h / 2, z[:, 1]), score


@dataclass(frozen=True)
class UBU(_Splitting):
    """The splitting U B U, of strong order 2: half a step without score, a kick, the other half.

    One score per step. Without the score (1) is solved exactly in q and v together: with c the
    friction and ``e = exp(-c h)``, ``v' = e v + n_v`` and ``q' = q + (1 - e) / c v + n_q``, where
    the n are jointly normal,

        Var n_v = 1 - e^2,   Cov = (1 - e)^2 / c,   Var n_q = (2 c h - 3 + 4 e - e^2) / c^2.     (2)

    Sanz-Serna and Zygalakis 2021.
    """

    def split(
        self, sde: Underdamped, q: Tensor, v: Tensor, h: float, stream: NoiseStream, score: Any
    ) -> tuple[Tensor, Tensor, Any]:
        q, v = _move_freely(sde, q, v, h / 2, stream.normal())
        q, v = _move_freely(sde, q, v + h * sde.score(q), h / 2, stream.normal())
        return q, v, None


def _move_freely(
    sde: Underdamped, q: Tensor, v: Tensor, h: float, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw position and velocity after the part U of length h, which has no score."""
    c = sde.friction
    e = math.exp(-sde.friction * h)
    decay = -math.expm1(-c * h)
    y = c * h
    var_q = (
        (2 * y - 3 + 4 * e - e**2) / c**2
        if y > _SERIES_BELOW
        else (2 / 3 * y**3 - y**4 / 2 + 7 / 30 * y**5) / c**2
    )
    std_v = math.sqrt(-math.expm1(-2 * y))
    slope = decay**2 / c / std_v  # (2): the covariance over the standard deviation of v
    residual_std = math.sqrt(max(var_q - slope**2, 0.0))
    return q + decay / c * v + slope * z[:, 1] + residual_std * z[:, 0], e * v + std_v * z[:, 1]
