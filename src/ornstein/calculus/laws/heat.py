"""The heat equation with drift, ``d_t c = -v d_x c + D d_xx c``: its solution from a point, on the
line and on intervals.

A Fourier transform in x turns the equation into ``F' = -(D k^2 + i k v) F``, one number for each k;
transformed back,

    K(x, t) = exp(-(x - v t)^2 / (4 D t)) / sqrt(4 pi D t),                                      (1)

the normal law of mean v t and variance 2 D t. On an interval of length L, with y = x - low, only
some k fit. If both ends absorb, ``c = 0``, or reflect, ``v c - D d_x c = 0``, then ``c = exp(h (y -
y_0)) u`` with ``h = v / (2 D)`` leaves an equation without drift, ``d_t u = D d_yy u - D h^2 u``,
whose modes are sin(k y), or ``cos(k y) + (h / k) sin(k y)`` beside ``exp(h y)``, with k = n pi / L:

    absorbing   c = e^{h (y - y_0)} 2/L sum_n sin(k y) sin(k y_0) e^{-D (k^2 + h^2) t},          (2)
    reflecting  c = 2 h e^{2 h y} / (e^{2 h L} - 1) + e^{h (y - y_0)} 2/L sum_n phi_k(y) phi_k(y_0)
    e^{-D (k^2 + h^2) t},
                phi_k(y) = (k cos(k y) + h sin(k y)) / sqrt(k^2 + h^2),                          (3)
    periodic    c = 1/L sum_n cos(k (y - y_0 - v t)) e^{-D k^2 t},  k = 2 pi n / L, n of both signs.  (4)

For short times the same is a sum of kernels (1), one for each *image* of the start behind the ends.
Carslaw and Jaeger 1959, chapters 2 and 14.
"""

__all__ = ["Interval", "Killed", "Reflected", "Ring", "kernel"]

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import log_ndtr

from ornstein.errors import OrnsteinError

_SHORT = 0.1  # of D t / L^2: below, a few images do; above, a few modes
_FALL = 40.0  # exp(-40): where a mode is no longer counted


def _require_spread(diffusion: float, t: float) -> None:
    if not (diffusion > 0 and 0 < t < math.inf):
        raise OrnsteinError(
            f"diffusion={diffusion}, t={t}: both must be positive; at t = 0 the law is a point and"
            " has no density"
        )


def kernel(x: Tensor, t: float, diffusion: float, velocity: float = 0.0) -> Tensor:
    """The heat kernel (1): density at x, of any shape, at time t from the origin; per length.

    Raises:
        OrnsteinError: unless diffusion and t are positive.
    """
    _require_spread(diffusion, t)
    return (-(x - velocity * t).square() / (4 * diffusion * t)).exp() / math.sqrt(
        4 * math.pi * diffusion * t
    )  # (1)


@dataclass(frozen=True)
class Interval(ABC):
    """Diffusion with drift on ``[low, high]``; what happens at the ends is the subclass.

    Args:
        diffusion: D, length^2 per time.
        low, high: ends.
        velocity: v, length per time.
    """

    diffusion: float
    low: float = 0.0
    high: float = 1.0
    velocity: float = 0.0

    def __post_init__(self) -> None:
        if not (self.diffusion > 0 and self.low < self.high):
            name = type(self).__name__
            raise OrnsteinError(
                f"{name}({self.diffusion}, {self.low}, {self.high}): needs diffusion > 0 and low <"
                " high"
            )

    @property
    def length(self) -> float:
        """``high - low``."""
        return self.high - self.low

    @property
    def _lean(self) -> float:
        """``h = v / (2 D)``."""
        return self.velocity / (2 * self.diffusion)

    def density(self, x: Float[Tensor, " n"], t: float, start: float) -> Float[Tensor, " n"]:
        """Density at x, in the interval, at time t from a point inside it; float64, per length.

        By images for short times and by modes for long ones, accurate to about 1e-13 of the largest
        value.

        Raises:
            OrnsteinError: if t is not positive, or x or the start lies outside.
        """
        _require_spread(self.diffusion, t)
        if not self.low <= start <= self.high or bool(((x < self.low) | (x > self.high)).any()):
            raise OrnsteinError(
                f"x and start={start} must lie in [{self.low}, {self.high}]: there is nothing"
                " outside"
            )
        y, y0 = x.double() - self.low, start - self.low
        short = self.diffusion * t < _SHORT * self.length**2
        return self._by_images(y, t, y0) if short else self._by_modes(y, t, y0)

    def _wave_numbers(self, t: float) -> Tensor:
        """``n pi / L`` for n = 1 .. as far as modes count at time t, ``(m, 1)``."""
        count = math.ceil(self.length / math.pi * math.sqrt(_FALL / (self.diffusion * t))) + 1
        return math.pi / self.length * torch.arange(1, count + 1, dtype=torch.float64)[:, None]

    def _images(self, t: float) -> Tensor:
        """Multiples of 2 L that images are moved by, ``(m, 1)``."""
        count = (
            math.ceil(
                (math.sqrt(4 * _FALL * self.diffusion * t) + abs(self.velocity) * t)
                / (2 * self.length)
            )
            + 1
        )
        return 2 * self.length * torch.arange(-count, count + 1, dtype=torch.float64)[:, None]

    @abstractmethod
    def _by_modes(self, y: Tensor, t: float, y0: float) -> Tensor: ...

    @abstractmethod
    def _by_images(self, y: Tensor, t: float, y0: float) -> Tensor: ...


@dataclass(frozen=True)
class Killed(Interval):
    """Absorbing ends: whoever reaches an end is gone (2); what is left is the `survival`."""

    def _gauge(self, y: Tensor, t: float, y0: float) -> Tensor:
        return (self._lean * (y - y0) - self.diffusion * self._lean**2 * t).exp()

    def _by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k = self._wave_numbers(t)
        modes = (k * y).sin() * (k * y0).sin() * (-self.diffusion * k.square() * t).exp()
        return self._gauge(y, t, y0) * 2 / self.length * modes.sum(0)  # (2)

    def _by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        at = self._images(t)
        images = kernel(y - y0 - at, t, self.diffusion) - kernel(y + y0 - at, t, self.diffusion)
        return self._gauge(y, t, y0) * images.sum(0)

    def survival(self, t: float, start: float) -> float:
        """Probability of not having met an end by time t: the integral of (2), or of its images."""
        _require_spread(self.diffusion, t)
        h, y0, L = self._lean, start - self.low, self.length
        if self.diffusion * t < _SHORT * L**2:
            return float(self._surviving_image(y0, t, y0) - self._surviving_image(-y0, t, y0))
        k = self._wave_numbers(t)[:, 0]
        sign = torch.ones_like(k)
        sign[1::2] = -1
        decay = -self.diffusion * (k.square() + h**2) * t
        # int_0^L e^{h y} sin(k y) dy = k (1 - (-1)^n e^{h L}) / (k^2 + h^2)
        integral = (
            k / (k.square() + h**2) * ((decay - h * y0).exp() + sign * (decay + h * (L - y0)).exp())
        )
        return float((2 / L * (k * y0).sin() * integral).sum())

    def _surviving_image(self, at: float, t: float, y0: float) -> Tensor:
        """The integral over the interval of the kernels at ``at`` and 2 L, 4 L ... to both sides,
        times the factor of (2).

        ``e^{h (y - y_0) - D h^2 t} K(y - a, t)`` is ``e^{h (a - y_0)}`` times the kernel with
        drift.
        """
        a, root = at + self._images(t)[:, 0], math.sqrt(2 * self.diffusion * t)
        low, high = (-a - self.velocity * t) / root, (self.length - a - self.velocity * t) / root
        low, high = (
            torch.where(low > 0, -high, low),
            torch.where(low > 0, -low, high),
        )  # in the lower tail, which has all digits
        gauge = self._lean * (a - y0)
        return ((gauge + log_ndtr(high)).exp() - (gauge + log_ndtr(low)).exp()).sum()

    def mean_exit_time(self, start: float) -> float:
        """Mean time to the first end: ``(L (1 - e^{-2 h y_0}) / (1 - e^{-2 h L}) - y_0) / v``;
        ``y_0 (L - y_0) / (2 D)`` if v = 0."""
        h, L = abs(self._lean), self.length
        y0 = start - self.low if self.velocity > 0 else self.high - start
        if h * L < 1e-6:  # where that cancels; the next term is of relative order (h L)^2
            return y0 * (L - y0) / (2 * self.diffusion) * (1 + h * (L - 2 * y0) / 3)
        return (L * math.expm1(-2 * h * y0) / math.expm1(-2 * h * L) - y0) / abs(self.velocity)


@dataclass(frozen=True)
class Reflected(Interval):
    """Reflecting ends: no flux through the ends (3): mass stays, and the law tends to
    `stationary`."""

    def stationary(self, x: Tensor) -> Tensor:
        """``2 h e^{2 h y} / (e^{2 h L} - 1)``: uniform without drift, else heaped up at the end
        that the drift points to."""
        rate, y = (
            abs(2 * self._lean),
            (x.double() - self.low if self._lean < 0 else self.high - x.double()),
        )
        if rate * self.length < 1e-300:
            return torch.full_like(y, 1 / self.length)
        return rate * (-rate * y).exp() / -math.expm1(-rate * self.length)

    def _require_gentle(self) -> None:
        peclet = abs(self.velocity) * self.length / self.diffusion
        if peclet > 25:  # terms of size exp(peclet / 2) add up to a density of size one
            raise OrnsteinError(
                f"Reflected: |v| L / D = {peclet:.3g} at a time below {_SHORT} L^2 / D: up to 25"
                " the modes keep 10 digits or more; take a later time, or a kernel(...) while no"
                " end is near"
            )

    def _by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k, h = self._wave_numbers(t), self._lean

        def phi(y: Tensor | float) -> Tensor:
            return (k * (k * y).cos() + h * (k * y).sin()) / (k.square() + h**2).sqrt()

        modes = (h * (y - y0) - self.diffusion * (k.square() + h**2) * t).exp() * phi(y) * phi(y0)
        return self.stationary(y + self.low) + 2 / self.length * modes.sum(0)  # (3)

    def _by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        if self.velocity:  # behind a reflecting end the image of a start that drifts is no kernel, so these are modes too
            self._require_gentle()
            return self._by_modes(y, t, y0)
        at = self._images(t)
        return (
            kernel(y - y0 - at, t, self.diffusion) + kernel(y + y0 - at, t, self.diffusion)
        ).sum(0)


@dataclass(frozen=True)
class Ring(Interval):
    """Periodic ends: who leaves at one end comes back at the other (4)."""

    def _by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k = 2 * self._wave_numbers(t)
        modes = (k * (y - y0 - self.velocity * t)).cos() * (-self.diffusion * k.square() * t).exp()
        return (1 + 2 * modes.sum(0)) / self.length  # (4)

    def _by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        at = self._images(t) / 2
        return kernel(y - y0 - at, t, self.diffusion, self.velocity).sum(0)

    def evolve(self, c: Float[Tensor, "*batch n"], t: float) -> Float[Tensor, "*batch n"]:
        """Any concentration, given at the n points ``low + i L / n``, at time t >= 0 later: each
        Fourier mode by its factor.

        Exact for what n points can carry, wave numbers below ``pi n / L``.
        """
        n = c.shape[-1]
        k = 2 * math.pi / self.length * torch.arange(n // 2 + 1, dtype=torch.float64)
        factor = torch.polar((-self.diffusion * k.square() * t).exp(), -k * self.velocity * t)
        return torch.fft.irfft(torch.fft.rfft(c.double()) * factor, n).to(c.dtype)
