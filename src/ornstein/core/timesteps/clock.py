"""Clocks: variables of interpolation for the output of a network, in multistep methods.

Notation: ``r = sigma / alpha`` is the noise-to-signal ratio, which falls from infinity or a large
value at T to 0 at the data. A clock is a monotone function c(r). Interpolating a quantity q through
the values it had at ``c_0, ..., c_p`` is exact where q is a polynomial of degree p in c, so a good
clock is one in which the denoiser is nearly linear. An integral over r becomes

    int f(r) dr = int f(r(c)) r'(c) dc,                                                          (1)

for which a clock provides its inverse and the slope of the inverse.
"""

__all__ = ["Asinh", "Clock", "Index", "Log", "Ratio", "Time"]

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_positive
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import OrnsteinError


@runtime_checkable
class Clock(Protocol):
    """A monotone function c of the noise-to-signal ratio r of a process.

    It may be infinite where the ratio is 0 or infinite.
    """

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        """Return the clock c at times whose noise-to-signal ratios are given too."""
        ...

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ratio ``r(c)`` and its derivative ``r'(c)``, elementwise."""
        ...


@dataclass(frozen=True)
class Log(Clock):
    """The clock ``c = log r``, minus half the log-SNR, of DPM-Solver and DEIS.

    It is infinite at both ends.
    """

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return ratio.log()

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        ratio = value.exp()
        return ratio, ratio


@dataclass(frozen=True)
class Ratio(Clock):
    """The clock ``c = r``, the noise level of EDM, of LMS in k-diffusion."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return ratio

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        return value, torch.ones_like(value)


@dataclass(frozen=True)
class Asinh(Clock):
    """The clock ``c = asinh(r / width)``, logarithmic above ``width`` and linear below.

    So it is finite at the data.

    Args:
        width: noise-to-signal ratio below which the output of the denoiser hardly changes, in the
            units of the data.
    """

    width: float

    def __post_init__(self) -> None:
        usual = "about a seventh of the data's standard deviation"
        require_positive(self, "width", usual=usual)

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return (ratio / self.width).asinh()

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        return self.width * value.sinh(), self.width * value.cosh()


@dataclass(frozen=True)
class Time(Clock):
    """The clock ``c = t``, the time of the process, of "tAB" in DEIS."""

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        return times

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        ratio, slope = torch.func.jvp(sde.ratio, (value,), (torch.ones_like(value),))[:2]
        return ratio, slope


@dataclass(frozen=True)
class Index(Clock):
    """The clock that counts the steps of the grid, whatever their length.

    It gives the Adams-Bashforth coefficients of the textbook (PNDM).
    """

    def value(self, sde: LinearSDE, times: Tensor, ratio: Tensor) -> Tensor:
        index = torch.arange(len(times), dtype=times.dtype)
        return index.reshape(-1, *[1] * (times.ndim - 1)).expand(times.shape)

    def inverse(self, sde: LinearSDE, value: Tensor) -> tuple[Tensor, Tensor]:
        raise OrnsteinError(
            "the index of a step says nothing between steps: use it with"
            " weights=orn.methods.exponential_weights.even"
        )
