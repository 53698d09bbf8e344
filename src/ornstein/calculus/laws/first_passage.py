"""Laws of first passage times and of maxima of Brownian motion, in closed form.

Let T be the first time that ``X_t = mu t + sigma B_t`` is at a > 0, and M_t its maximum up to t.
``M_t >= a`` says that ``T <= t``. Paths that have met a are as likely to be above as below it if mu
= 0 (reflection); a change of measure (Girsanov) gives

    P(T <= t) = Phi((mu t - a) / (sigma sqrt t))
                + e^{2 mu a / sigma^2} Phi(-(mu t + a) / (sigma sqrt t)),                        (1)
    density of T:   a / (sigma sqrt(2 pi t^3)) exp(-(a - mu t)^2 / (2 sigma^2 t)),               (2)

the inverse Gaussian law, with ``P(T < inf) = min(1, e^{2 mu a / sigma^2})``. Between two given ends
a and b a time h apart,

    P(M >= m) = exp(-2 (m - a) (m - b) / (sigma^2 h)),    m >= max(a, b).                        (3)

An Ornstein-Uhlenbeck process is a Brownian motion in another time, ``e^{theta t} X_t = x + W(y)``,
``y = sigma^2 (e^{2 theta t} - 1) / (2 theta)``; so it first meets its mean when W has gone the
distance |x|: (1) with mu = 0 at time y. Schroedinger 1915; Michael, Schucany and Haas 1976;
Karatzas and Shreve 1991, section 3.5. Times and levels are tensors of any shape, in float64.
"""

__all__ = ["BridgeMaximum", "BrownianMaximum", "BrownianPassage", "OUPassage"]

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import log_ndtr, ndtr

from ornstein.core.numerics.checks import require_positive
from ornstein.reference.common import source

_DOUBLE = torch.float64


_SQUARE, _ROOT, _EVER = 0, 1, 2  # keys of the draws of a passage: normal, which root, whether
_END, _MAXIMUM = 0, 1  # keys of the draws of a maximum: the end, and the maximum given the end


def _log_normal_density(z: Tensor) -> Tensor:
    """Return the log-density of the standard normal law."""
    return -z.square() / 2 - math.log(2 * math.pi) / 2


def _returned(distance: Tensor | float, t: Tensor | float, mu: float, sigma: float) -> Tensor:
    """Return the second term of (1): the probability of having met the level and being below it.

    It is ``e^{2 mu a / sigma^2} Phi(-(mu t + a) / (sigma sqrt t))``, without overflow.
    """
    t = torch.as_tensor(t, dtype=_DOUBLE)
    beyond = -(mu * t + distance) / (sigma * t.sqrt())
    return (2 * mu * distance / sigma**2 + log_ndtr(beyond)).exp()  # (1)


@dataclass(frozen=True)
class _PositiveParameters:
    """A law some of whose parameters must be positive; a subclass names them in `_positive`."""

    _positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        require_positive(self, *self._positive)


@dataclass(frozen=True)
class BrownianPassage(_PositiveParameters):
    """The law of the first time at which ``mu t + sigma B_t`` is at a level above its start.

    If mu < 0 the level is never met, with probability ``1 - probability``.

    Args:
        distance: a > 0, of the level from the start, in units of length.
        mu: drift towards the level, length per time.
        sigma: length per root of time.
    """

    distance: float
    mu: float = 0.0
    sigma: float = 1.0
    _positive = ("distance", "sigma")

    @property
    def probability(self) -> float:
        """The probability that the level is ever met, ``min(1, exp(2 mu a / sigma^2))``."""
        return math.exp(min(2 * self.mu * self.distance / self.sigma**2, 0.0))

    @property
    def mean(self) -> float:
        """The mean passage time, ``a / mu`` if mu > 0, else infinite."""
        return self.distance / self.mu if self.mu > 0 else math.inf

    @property
    def var(self) -> float:
        """The variance of the passage time, ``a sigma^2 / mu^3`` if mu > 0, else infinite."""
        return self.distance * self.sigma**2 / self.mu**3 if self.mu > 0 else math.inf

    def cdf(self, t: Tensor) -> Tensor:
        """Return the probability ``P(T <= t)`` of a passage up to time t; 0 at t = 0."""
        t = t.double()
        above = ndtr((self.mu * t - self.distance) / (self.sigma * t.sqrt()))
        return above + _returned(self.distance, t, self.mu, self.sigma)  # (1)

    def log_prob(self, t: Tensor) -> Tensor:
        """Return the log-density of the passage time, per time, in nats.

        The density is ``a / (sigma sqrt(2 pi t^3)) exp(-(a - mu t)^2 / (2 sigma^2 t))``.
        """
        t = t.double()
        scale = math.log(self.distance / self.sigma)
        z = (self.distance - self.mu * t) / (self.sigma * t.sqrt())
        return scale - 1.5 * t.log() + _log_normal_density(z)  # (2)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """Draw n passage times without error, ``inf`` where the level is never met.

        ``(a - |mu| T)^2 / (sigma^2 T)`` is the square of a normal number: solve for T and take the
        smaller root r with probability ``a / (a + |mu| r)``, else ``a^2 / (mu^2 r)``. Draw i
        depends on the seed and i only.
        """
        a = self.distance
        mu = abs(self.mu)
        w = self.sigma**2 * source(seed, _SQUARE).normal((n,), _DOUBLE).square()
        u, ever = (source(seed, k).uniform((n,), _DOUBLE) for k in (_ROOT, _EVER))
        # the root in the form that does not cancel, also for mu = 0
        small = 2 * a**2 / (2 * a * mu + w + (w * (4 * a * mu + w)).sqrt())
        large = a**2 / (mu**2 * small) if mu else torch.full_like(small, math.inf)
        time = torch.where(u * (a + mu * small) <= a, small, large)
        return torch.where(ever < self.probability, time, math.inf)


@dataclass(frozen=True)
class BrownianMaximum(_PositiveParameters):
    """The law of the maximum ``max_{u <= t} (mu u + sigma B_u)``, which is at least 0.

    Args:
        t: time.
        mu: drift, length per time.
        sigma: length per root of time.
    """

    t: float
    mu: float = 0.0
    sigma: float = 1.0
    _positive = ("t", "sigma")

    def cdf(self, m: Tensor) -> Tensor:
        """Return the probability ``P(M <= m) = 1 - P(T_m <= t)``; 0 below 0."""
        m = m.double()
        below = ndtr((m - self.mu * self.t) / (self.sigma * math.sqrt(self.t)))
        returned = _returned(m, self.t, self.mu, self.sigma)
        return torch.where(m > 0, below - returned, 0.0)  # (1)

    def log_prob(self, m: Tensor) -> Tensor:
        """Return the log-density at m >= 0 in nats, the derivative of `cdf`."""
        m = m.double()
        root = self.sigma * math.sqrt(self.t)
        rate = 2 * self.mu / self.sigma**2
        normal = math.log(2 / root) + _log_normal_density((m - self.mu * self.t) / root)
        # e^{2 mu m / sigma^2} phi(-(mu t + m) / root) equals phi((m - mu t) / root)
        tail = rate * m + log_ndtr(-(self.mu * self.t + m) / root)
        return (normal.exp() - rate * tail.exp()).log()

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n 2"]:
        """Draw n pairs ``(M_t, X_t)`` of the maximum and the end without error, ``(n, 2)``.

        The end is drawn first, then the maximum between both ends. Draw i depends on the seed and i
        only.
        """
        z = source(seed, _END).normal((n,), _DOUBLE)
        u = source(seed, _MAXIMUM).uniform((n,), _DOUBLE)
        end = self.mu * self.t + self.sigma * math.sqrt(self.t) * z
        return torch.stack([_highest(0.0, end, self.sigma**2 * self.t, u), end], 1)


def _highest(start: float, end: Tensor | float, var: float, u: Tensor) -> Tensor:
    """Return the quantile of the maximum of a bridge, the m at which (3) is ``1 - u``."""
    gap = end - start
    return (start + end + (gap**2 - 2 * var * torch.log1p(-u)).sqrt()) / 2  # (3)


@dataclass(frozen=True)
class BridgeMaximum(_PositiveParameters):
    """The law of the highest point of a Brownian motion between two given ends.

    ``P(M >= m) = exp(-2 (m - a) (m - b) / (sigma^2 h))`` for m above both ends a and b.

    Args:
        start, end: positions at the ends.
        duration: h, time between them.
        sigma: length per root of time.
    """

    start: float = 0.0
    end: float = 0.0
    duration: float = 1.0
    sigma: float = 1.0
    _positive = ("duration", "sigma")

    @property
    def _var(self) -> float:
        """The variance ``sigma^2 h`` of the increment without conditioning."""
        return self.sigma**2 * self.duration

    def cdf(self, m: Tensor) -> Tensor:
        """Return the probability ``P(M <= m)`` of a maximum below m; 0 below both ends."""
        m = m.double()
        inside = -torch.expm1(-2 * (m - self.start) * (m - self.end) / self._var)  # (3)
        return torch.where(m >= max(self.start, self.end), inside, 0.0)

    def log_prob(self, m: Tensor) -> Tensor:
        """Return the log-density in nats; minus infinity below both ends.

        It is ``log(2 (2 m - a - b) / var) - 2 (m - a) (m - b) / var``.
        """
        m = m.double()
        slope = (2 * (2 * m - self.start - self.end) / self._var).log()
        value = slope - 2 * (m - self.start) * (m - self.end) / self._var
        return torch.where(m >= max(self.start, self.end), value, -torch.inf)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """Draw n maxima without error, by inversion of the distribution function.

        Draw i depends on the seed and i only.
        """
        return _highest(self.start, self.end, self._var, source(seed, 0).uniform((n,), _DOUBLE))


@dataclass(frozen=True)
class OUPassage(_PositiveParameters):
    """The law of the first time at which an Ornstein-Uhlenbeck process meets its mean.

    The process is ``dX = -theta X dt + sigma dB``; it meets its mean 0 with probability 1.

    Args:
        distance: |x| of the start from the mean, in units of length.
        theta: rate of return, per unit of time.
        sigma: length per root of time.
    """

    distance: float
    theta: float = 1.0
    sigma: float = 2**0.5
    _positive = ("distance", "theta", "sigma")

    def _log_z(self, t: Tensor) -> Tensor:
        """Return the logarithm of ``z = |x| / sqrt(y(t))``."""
        fresh = -torch.expm1(-2 * self.theta * t)
        log_y = 2 * self.theta * t + fresh.log() - math.log(2 * self.theta)
        return math.log(self.distance / self.sigma) - log_y / 2

    def cdf(self, t: Tensor) -> Tensor:
        """Return the probability ``P(T <= t) = 2 Phi(-|x| / sqrt(y(t)))``; 0 at t = 0."""
        return 2 * ndtr(-self._log_z(t.double()).exp())

    def log_prob(self, t: Tensor) -> Tensor:
        """Return the log-density per time in nats, ``2 phi(z) z theta / (1 - e^{-2 theta t})``.

        Here ``z = |x| / sqrt(y(t))``, as in `cdf`.
        """
        t = t.double()
        log_z = self._log_z(t)
        fresh = -torch.expm1(-2 * self.theta * t)
        return math.log(2 * self.theta) + _log_normal_density(log_z.exp()) + log_z - fresh.log()

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """Draw n passage times without error: ``z(T)`` is the modulus of a normal number.

        Draw i depends on the seed and i only.
        """
        z = source(seed, 0).normal((n,), _DOUBLE)
        y = (self.distance / (self.sigma * z)).square()
        return torch.log1p(2 * self.theta * y) / (2 * self.theta)
