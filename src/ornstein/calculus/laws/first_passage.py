"""First passages and highest points: laws that hold for the whole path, in closed form.

Let T be the first time that ``X_t = mu t + sigma B_t`` is at a > 0, and M_t its maximum up to t.
``M_t >= a`` says that ``T <= t``. Paths that have met a are as likely to be above as below it if mu
= 0 (reflection); a change of measure (Girsanov) gives

    P(T <= t) = Phi((mu t - a) / (sigma sqrt t)) + e^{2 mu a / sigma^2} Phi(-(mu t + a) / (sigma sqrt t)),  (1)
    density of T:   a / (sigma sqrt(2 pi t^3)) exp(-(a - mu t)^2 / (2 sigma^2 t)),               (2)

the inverse Gaussian law, with ``P(T < inf) = min(1, e^{2 mu a / sigma^2})``. Between two known ends
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

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import log_ndtr, ndtr

from ornstein.core.numerics.checks import require_positive
from ornstein.reference.common import source

_DOUBLE = torch.float64


def _log_normal_density(z: Tensor) -> Tensor:
    return -z.square() / 2 - math.log(2 * math.pi) / 2


@dataclass(frozen=True)
class BrownianPassage:
    """When ``mu t + sigma B_t`` first is at ``distance > 0``; never, with probability ``1 -
    probability``, if mu < 0.

    Args:
        distance: a, in units of length.
        mu: drift towards the level, length per time.
        sigma: length per root of time.
    """

    distance: float
    mu: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "distance", "sigma")

    @property
    def probability(self) -> float:
        """That the level is ever met, ``min(1, exp(2 mu a / sigma^2))``."""
        return math.exp(min(2 * self.mu * self.distance / self.sigma**2, 0.0))

    @property
    def mean(self) -> float:
        """``a / mu`` if mu > 0, else infinite."""
        return self.distance / self.mu if self.mu > 0 else math.inf

    @property
    def var(self) -> float:
        """``a sigma^2 / mu^3`` if mu > 0, else infinite."""
        return self.distance * self.sigma**2 / self.mu**3 if self.mu > 0 else math.inf

    def cdf(self, t: Tensor) -> Tensor:
        """``P(T <= t)`` (1); 0 at t = 0."""
        t = t.double()
        root = self.sigma * t.sqrt()
        before, after = (self.mu * t - self.distance) / root, -(self.mu * t + self.distance) / root
        return (
            ndtr(before) + (2 * self.mu * self.distance / self.sigma**2 + log_ndtr(after)).exp()
        )  # (1)

    def log_prob(self, t: Tensor) -> Tensor:
        """Log of the density (2), per time, in nats."""
        t = t.double()
        scale = math.log(self.distance / self.sigma)
        return (
            scale
            - 1.5 * t.log()
            + _log_normal_density((self.distance - self.mu * t) / (self.sigma * t.sqrt()))
        )  # (2)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """n exact draws, ``inf`` for never; draw i depends on the seed and i only.

        ``(a - |mu| T)^2 / (sigma^2 T)`` is the square of a normal number: solve for T and take the
        smaller root r with probability ``a / (a + |mu| r)``, else ``a^2 / (mu^2 r)``.
        """
        a, mu = self.distance, abs(self.mu)
        w = self.sigma**2 * source(seed, 0).normal((n,), _DOUBLE).square()
        u, lives = (source(seed, k).uniform((n,), _DOUBLE) for k in (1, 2))
        small = (
            2 * a**2 / (2 * a * mu + w + (w * (4 * a * mu + w)).sqrt())
        )  # the root that does not cancel, also for mu = 0
        other = a**2 / (mu**2 * small) if mu else torch.full_like(small, math.inf)
        time = torch.where(u * (a + mu * small) <= a, small, other)
        return torch.where(lives < self.probability, time, math.inf)


@dataclass(frozen=True)
class BrownianMaximum:
    """The law of ``max_{u <= t} (mu u + sigma B_u)``, at least 0.

    Args:
        t: time.
        mu: drift, length per time.
        sigma: length per root of time.
    """

    t: float
    mu: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "t", "sigma")

    def cdf(self, m: Tensor) -> Tensor:
        """``P(M <= m) = 1 - P(T_m <= t)`` (1); 0 below 0."""
        m, root = m.double(), self.sigma * math.sqrt(self.t)
        met = (2 * self.mu * m / self.sigma**2 + log_ndtr(-(self.mu * self.t + m) / root)).exp()
        return torch.where(m > 0, ndtr((m - self.mu * self.t) / root) - met, 0.0)  # (1)

    def log_prob(self, m: Tensor) -> Tensor:
        """Log-density at m >= 0 in nats: the derivative of `cdf`."""
        m, root, rate = m.double(), self.sigma * math.sqrt(self.t), 2 * self.mu / self.sigma**2
        normal = math.log(2 / root) + _log_normal_density((m - self.mu * self.t) / root)
        tail = rate * m + log_ndtr(
            -(self.mu * self.t + m) / root
        )  # e^{2 mu m / sigma^2} phi(..) equals the other phi
        return (normal.exp() - rate * tail.exp()).log()

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n 2"]:
        """n exact draws of ``(M_t, X_t)``: the end, then the maximum between both ends (3); draw i
        depends on the seed and i only."""
        end = self.mu * self.t + self.sigma * math.sqrt(self.t) * source(seed, 0).normal(
            (n,), _DOUBLE
        )
        return torch.stack(
            [
                _highest(0.0, end, self.sigma**2 * self.t, source(seed, 1).uniform((n,), _DOUBLE)),
                end,
            ],
            1,
        )


def _highest(start: float, end: Tensor | float, var: float, u: Tensor) -> Tensor:
    """The m at which (3) is ``1 - u``."""
    gap = end - start
    return (start + end + (gap**2 - 2 * var * torch.log1p(-u)).sqrt()) / 2  # (3)


@dataclass(frozen=True)
class BridgeMaximum:
    """The law (3) of the highest point of a Brownian motion between two known ends.

    Args:
        start, end: positions at the ends.
        duration: h, time between them.
        sigma: length per root of time.
    """

    start: float = 0.0
    end: float = 0.0
    duration: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "duration", "sigma")

    @property
    def _var(self) -> float:
        return self.sigma**2 * self.duration

    def cdf(self, m: Tensor) -> Tensor:
        """``P(M <= m)``; 0 below both ends."""
        m = m.double()
        inside = -torch.expm1(-2 * (m - self.start) * (m - self.end) / self._var)  # (3)
        return torch.where(m >= max(self.start, self.end), inside, 0.0)

    def log_prob(self, m: Tensor) -> Tensor:
        """Log-density in nats, ``log(2 (2 m - a - b) / var) - 2 (m - a) (m - b) / var``; minus
        infinity below both ends."""
        m = m.double()
        value = (2 * (2 * m - self.start - self.end) / self._var).log() - 2 * (m - self.start) * (
            m - self.end
        ) / self._var
        return torch.where(m >= max(self.start, self.end), value, -torch.inf)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """n exact draws, by inversion of (3); draw i depends on the seed and i only."""
        return _highest(self.start, self.end, self._var, source(seed, 0).uniform((n,), _DOUBLE))


@dataclass(frozen=True)
class OUPassage:
    """When ``dX = -theta X dt + sigma dB`` first meets its mean, 0, from ``distance`` away. It
    always does.

    Args:
        distance: |x|, in units of length.
        theta: rate of return, per unit of time.
        sigma: length per root of time.
    """

    distance: float
    theta: float = 1.0
    sigma: float = 2**0.5

    def __post_init__(self) -> None:
        require_positive(self, "distance", "theta", "sigma")

    def _log_z(self, t: Tensor) -> Tensor:
        """Log of ``z = |x| / sqrt(y(t))``."""
        log_y = (
            2 * self.theta * t
            + (-torch.expm1(-2 * self.theta * t)).log()
            - math.log(2 * self.theta)
        )
        return math.log(self.distance / self.sigma) - log_y / 2

    def cdf(self, t: Tensor) -> Tensor:
        """``P(T <= t) = 2 Phi(-|x| / sqrt(y(t)))``; 0 at t = 0."""
        return 2 * ndtr(-self._log_z(t.double()).exp())

    def log_prob(self, t: Tensor) -> Tensor:
        """Log-density per time, in nats: ``2 phi(z) z theta / (1 - e^{-2 theta t})``, z as in
        `cdf`."""
        t, log_z = t.double(), self._log_z(t.double())
        fresh = -torch.expm1(-2 * self.theta * t)
        return math.log(2 * self.theta) + _log_normal_density(log_z.exp()) + log_z - fresh.log()

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """n exact draws: ``z(T)`` is the modulus of a normal number; draw i depends on the seed and
        i only."""
        z = source(seed, 0).normal((n,), _DOUBLE)
        return torch.log1p(2 * self.theta * (self.distance / (self.sigma * z)).square()) / (
            2 * self.theta
        )
