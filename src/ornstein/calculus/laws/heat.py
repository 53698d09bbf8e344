"""The heat equation with drift, ``d_t c = -v d_x c + D d_xx c``, solved from a point source.

A Fourier transform in x turns the equation into ``F' = -(D k^2 + i k v) F``, one number for each k;
transformed back,

    K(x, t) = exp(-(x - v t)^2 / (4 D t)) / sqrt(4 pi D t),                                      (1)

the normal law of mean v t and variance 2 D t. On an interval of length L, with y = x - low, only
discrete k are possible. If both ends absorb, ``c = 0``, or reflect, ``v c - D d_x c = 0``, then
``c = exp(h (y - y_0)) u`` with ``h = v / (2 D)`` leaves an equation without drift, ``d_t u =
D d_yy u - D h^2 u``, whose modes are sin(k y), or ``cos(k y) + (h / k) sin(k y)`` with ``exp(h
y)``, for k = n pi / L:

    absorbing   c = e^{h (y - y_0)} 2/L sum_n sin(k y) sin(k y_0) e^{-D (k^2 + h^2) t},          (2)
    reflecting  c = 2 h e^{2 h y} / (e^{2 h L} - 1)
                    + e^{h (y - y_0)} 2/L sum_n phi_k(y) phi_k(y_0) e^{-D (k^2 + h^2) t},
                phi_k(y) = (k cos(k y) + h sin(k y)) / sqrt(k^2 + h^2),                          (3)
    periodic    c = 1/L sum_n cos(k (y - y_0 - v t)) e^{-D k^2 t},
                k = 2 pi n / L, n of both signs.                                                 (4)

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

_SHORT = 0.1  # value of D t / L^2 below which few images suffice, and above which few modes
_LOG_NEGLIGIBLE = 40.0  # a mode or an image below exp(-40) of the largest is left out
_MAX_PECLET = 25  # larger values cancel: terms of size exp(peclet / 2) add up to size one
_SMALL_DRIFT = 1e-6  # value of h L below which the formula with drift would cancel


def _require_spread(diffusion: float, t: float) -> None:
    """Raise `OrnsteinError` unless the diffusion constant and the time are positive."""
    if not (diffusion > 0 and 0 < t < math.inf):
        raise OrnsteinError(
            f"diffusion={diffusion}, t={t}: both must be positive; at t = 0 the law is a point and"
            " has no density"
        )


def kernel(x: Tensor, t: float, diffusion: float, velocity: float = 0.0) -> Tensor:
    """Return the heat kernel at x, the density at time t of diffusion with drift from the origin.

    ``K(x, t) = exp(-(x - v t)^2 / (4 D t)) / sqrt(4 pi D t)``, per length.

    Args:
        x: positions, of any shape.
        t: time, positive.
        diffusion: D, length^2 per time, positive.
        velocity: v, length per time.

    Raises:
        OrnsteinError: unless diffusion and t are positive.
    """
    _require_spread(diffusion, t)
    height = math.sqrt(4 * math.pi * diffusion * t)
    return (-(x - velocity * t).square() / (4 * diffusion * t)).exp() / height  # (1)


@dataclass(frozen=True)
class Interval(ABC):
    """Diffusion with drift on an interval; a subclass says what happens at the ends.

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
        """The length of the interval, ``high - low``."""
        return self.high - self.low

    @property
    def _half_drift(self) -> float:
        """The constant ``h = v / (2 D)`` of the factor that removes the drift."""
        return self.velocity / (2 * self.diffusion)

    def density(self, x: Float[Tensor, " n"], t: float, start: float) -> Float[Tensor, " n"]:
        """Return the density at x at time t from a point inside the interval; float64, per length.

        By images for short times and by modes for long ones, accurate to about 1e-13 of the largest
        value.

        Args:
            x: positions in the interval, ``(n,)``.
            t: time, positive.
            start: the point at time 0.

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
        return self.by_images(y, t, y0) if short else self.by_modes(y, t, y0)

    def _wave_numbers(self, t: float) -> Tensor:
        """Return ``n pi / L`` of the Fourier modes that matter at time t, n >= 1, ``(m, 1)``."""
        count = (
            math.ceil(self.length / math.pi * math.sqrt(_LOG_NEGLIGIBLE / (self.diffusion * t))) + 1
        )
        return math.pi / self.length * torch.arange(1, count + 1, dtype=torch.float64)[:, None]

    def _images(self, t: float) -> Tensor:
        """Return the multiples of 2 L by which images are moved, ``(m, 1)``."""
        reach = math.sqrt(4 * _LOG_NEGLIGIBLE * self.diffusion * t) + abs(self.velocity) * t
        count = math.ceil(reach / (2 * self.length)) + 1
        return 2 * self.length * torch.arange(-count, count + 1, dtype=torch.float64)[:, None]

    @abstractmethod
    def by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        """Return the density at ``low + y`` from ``low + y0`` as a sum of Fourier modes."""

    @abstractmethod
    def by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        """Return the density at ``low + y`` from ``low + y0`` as a sum of images of the kernel."""


@dataclass(frozen=True)
class Killed(Interval):
    """Diffusion on an interval with absorbing ends: paths that reach an end are removed.

    The mass that is left is the `survival`.
    """

    def _gauge(self, y: Tensor, t: float, y0: float) -> Tensor:
        """Return the factor ``e^{h (y - y_0) - D h^2 t}`` that restores the drift."""
        return (self._half_drift * (y - y0) - self.diffusion * self._half_drift**2 * t).exp()

    def by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k = self._wave_numbers(t)
        modes = (k * y).sin() * (k * y0).sin() * (-self.diffusion * k.square() * t).exp()
        return self._gauge(y, t, y0) * 2 / self.length * modes.sum(0)  # (2)

    def by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        shifts = self._images(t)
        images = kernel(y - y0 - shifts, t, self.diffusion) - kernel(
            y + y0 - shifts, t, self.diffusion
        )
        return self._gauge(y, t, y0) * images.sum(0)

    def survival(self, t: float, start: float) -> float:
        """Return the probability of not having met an end by time t.

        It is the integral of the density over the interval, by modes or by images.
        """
        _require_spread(self.diffusion, t)
        h = self._half_drift
        y0 = start - self.low
        L = self.length
        if self.diffusion * t < _SHORT * L**2:
            return float(self._surviving_image(y0, t, y0) - self._surviving_image(-y0, t, y0))
        k = self._wave_numbers(t)[:, 0]
        sign = torch.ones_like(k)
        sign[1::2] = -1
        decay = -self.diffusion * (k.square() + h**2) * t
        # int_0^L e^{h y} sin(k y) dy = k (1 - (-1)^n e^{h L}) / (k^2 + h^2)
        ends = (decay - h * y0).exp() + sign * (decay + h * (L - y0)).exp()
        integral = k / (k.square() + h**2) * ends
        return float((2 / L * (k * y0).sin() * integral).sum())

    def _surviving_image(self, at: float, t: float, y0: float) -> Tensor:
        """Return the integral over the interval of image kernels at ``at`` plus multiples of 2 L.

        The kernels are multiplied by the factor of (2): ``e^{h (y - y_0) - D h^2 t} K(y - a, t)``
        is ``e^{h (a - y_0)}`` times the kernel with drift.
        """
        a = at + self._images(t)[:, 0]
        root = math.sqrt(2 * self.diffusion * t)
        low = (-a - self.velocity * t) / root
        high = (self.length - a - self.velocity * t) / root
        # by symmetry in the lower tail, which has all digits
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
        gauge = self._half_drift * (a - y0)
        return ((gauge + log_ndtr(high)).exp() - (gauge + log_ndtr(low)).exp()).sum()

    def mean_exit_time(self, start: float) -> float:
        """Return the mean time at which a path from a start meets an end.

        It is ``(L (1 - e^{-2 h y_0}) / (1 - e^{-2 h L}) - y_0) / v``, or ``y_0 (L - y_0) / (2 D)``
        if v = 0.
        """
        h = abs(self._half_drift)
        L = self.length
        y0 = start - self.low if self.velocity > 0 else self.high - start
        if h * L < _SMALL_DRIFT:  # the next term is of relative order (h L)^2
            return y0 * (L - y0) / (2 * self.diffusion) * (1 + h * (L - 2 * y0) / 3)
        return (L * math.expm1(-2 * h * y0) / math.expm1(-2 * h * L) - y0) / abs(self.velocity)


@dataclass(frozen=True)
class Reflected(Interval):
    """Diffusion on an interval with reflecting ends: no flux through the ends.

    The mass is constant, and the law tends to `stationary`.
    """

    def stationary(self, x: Tensor) -> Tensor:
        """Return the stationary density ``2 h e^{2 h y} / (e^{2 h L} - 1)`` at x.

        It is uniform without drift, else largest at the end to which the drift points.
        """
        rate = abs(2 * self._half_drift)
        y = x.double() - self.low if self._half_drift < 0 else self.high - x.double()
        if rate * self.length < 1e-300:
            return torch.full_like(y, 1 / self.length)
        return rate * (-rate * y).exp() / -math.expm1(-rate * self.length)

    def _require_moderate_drift(self) -> None:
        """Raise `OrnsteinError` if the sum of modes would lose too many digits to the drift."""
        peclet = abs(self.velocity) * self.length / self.diffusion
        if peclet > _MAX_PECLET:
            raise OrnsteinError(
                f"Reflected: |v| L / D = {peclet:.3g} at a time below {_SHORT} L^2 / D: up to"
                f" {_MAX_PECLET} the modes have 10 digits or more; take a later time, or a"
                " kernel(...) while no end is near"
            )

    def by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k = self._wave_numbers(t)
        h = self._half_drift

        def phi(y: Tensor | float) -> Tensor:
            return (k * (k * y).cos() + h * (k * y).sin()) / (k.square() + h**2).sqrt()

        modes = (h * (y - y0) - self.diffusion * (k.square() + h**2) * t).exp() * phi(y) * phi(y0)
        return self.stationary(y + self.low) + 2 / self.length * modes.sum(0)  # (3)

    def by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        if self.velocity:  # the image of a start that drifts is no kernel, so take modes
            self._require_moderate_drift()
            return self.by_modes(y, t, y0)
        shifts = self._images(t)
        images = kernel(y - y0 - shifts, t, self.diffusion) + kernel(
            y + y0 - shifts, t, self.diffusion
        )
        return images.sum(0)


@dataclass(frozen=True)
class Ring(Interval):
    """Diffusion on an interval with periodic ends, at which paths change sides."""

    def by_modes(self, y: Tensor, t: float, y0: float) -> Tensor:
        k = 2 * self._wave_numbers(t)
        modes = (k * (y - y0 - self.velocity * t)).cos() * (-self.diffusion * k.square() * t).exp()
        return (1 + 2 * modes.sum(0)) / self.length  # (4)

    def by_images(self, y: Tensor, t: float, y0: float) -> Tensor:
        shifts = self._images(t) / 2
        return kernel(y - y0 - shifts, t, self.diffusion, self.velocity).sum(0)

    def evolve(self, c: Float[Tensor, "*batch n"], t: float) -> Float[Tensor, "*batch n"]:
        """Return the concentration a time t >= 0 later, mode by mode in Fourier space.

        The result is exact for what n points can represent, wave numbers below ``pi n / L``.

        Args:
            c: concentrations at the n points ``low + i L / n``, ``(*batch, n)``.
            t: time.
        """
        n = c.shape[-1]
        k = 2 * math.pi / self.length * torch.arange(n // 2 + 1, dtype=torch.float64)
        factor = torch.polar((-self.diffusion * k.square() * t).exp(), -k * self.velocity * t)
        return torch.fft.irfft(torch.fft.rfft(c.double()) * factor, n).to(c.dtype)
