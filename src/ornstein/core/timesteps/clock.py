"""Clocks: the variables in which the output of a network is taken for a polynomial.

Notation: ``r = sigma / alpha`` is the noise-to-signal ratio, which falls from infinity or a large
value at T to 0 at the data. A clock is a monotone function c(r). Interpolating a quantity q through
the values it had at ``c_0, ..., c_p`` is exact where q is a polynomial of degree p in c, so a good
clock is one in which the denoiser bends little. An integral over r becomes

    int f(r) dr = int f(r(c)) r'(c) dc,                                                          (1)

for which a clock knows its inverse and the slope of it.
"""

__all__ = ["Asinh", "Clock", "Index", "Log", "Ratio", "Time"]

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import OrnsteinError


@runtime_checkable
class Clock(Protocol):
    """A monotone function of the noise-to-signal ratio; may be infinite where the ratio is 0 or
    infinite."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        """c at the times, whose ratios are given too; same shape."""
        ...

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        """``r(c)`` and ``r'(c)`` (1), elementwise."""
        ...


@dataclass(frozen=True)
class Log:
    """``c = log r``, minus half the log-SNR: the clock of DPM-Solver and DEIS. Infinite at both
    ends."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return ratio.log()

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        ratio = value.exp()
        return ratio, ratio


@dataclass(frozen=True)
class Ratio:
    """``c = r``, the noise level of EDM: the clock of LMS in k-diffusion."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return ratio

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        return value, torch.ones_like(value)


@dataclass(frozen=True)
class Asinh:
    """``c = asinh(r / width)``: logarithmic above ``width``, linear below it, and so finite at the
    data.

    Args:
        width: noise-to-signal ratio below which the denoiser has nothing left to find, in the units
            of the data.
    """

    width: float

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise OrnsteinError(
                f"Asinh(width={self.width}): positive and finite, about a seventh of the data's"
                " standard deviation"
            )

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return (ratio / self.width).asinh()

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        return self.width * value.sinh(), self.width * value.cosh()


@dataclass(frozen=True)
class Time:
    """``c = t``, the time of the process: the clock of "tAB" in DEIS."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return times

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        def ratio(t: Tensor) -> Tensor:
            return (-sde.log_snr(t) / 2).exp()

        found, slope = torch.func.jvp(ratio, (value,), (torch.ones_like(value),))[:2]
        return found, slope


@dataclass(frozen=True)
class Index:
    """c counts the steps of the grid, whatever their length: the Adams-Bashforth coefficients of
    the textbook (PNDM)."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        index = torch.arange(len(times), dtype=times.dtype)
        return index.reshape(-1, *[1] * (times.ndim - 1)).expand(times.shape)

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        raise OrnsteinError(
            "the index of a step says nothing between steps: use it with weights=orn.methods.exponential_weights.even"
        )
