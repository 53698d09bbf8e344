"""Brownian motion with drift, geometric Brownian motion, and the Brownian bridge, with exact laws.

``X_t = x + mu t + sigma B_t`` has independent normal increments. Its exponential, with ``mu -
sigma^2 / 2`` for mu, solves ``dX = mu X dt + sigma X dB`` (Ito). Conditioned to be at b at time T,
with h = t - s,

    X_t | X_s = x  ~  N(x + (b - x) h / (T - s), sigma^2 h (T - t) / (T - s)),                   (1)

whatever mu was. When such a process first meets a level, and how far it gets, is in
`ornstein.calculus.laws.first_passage`.
"""

__all__ = ["Brownian", "BrownianBridge", "GeometricBrownian", "LogNormal"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.laws.exact_process import ExactProcess, elapsed
from ornstein.calculus.laws.first_passage import BridgeMaximum, BrownianMaximum, BrownianPassage
from ornstein.core.numerics.checks import require_positive
from ornstein.core.numerics.gaussian import Gaussian, per_sample, sum_event
from ornstein.core.processes.linear import Time, as_time
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Brownian(ExactProcess):
    """Brownian motion with drift, ``dX = mu dt + sigma dB`` in every entry, independently.

    It has no stationary law.

    Args:
        mu: drift, length per time.
        sigma: length per root of time.
    """

    mu: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "sigma")

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the constant drift ``mu`` in every entry."""
        return torch.full_like(x, self.mu)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """Return the constant diffusion ``sigma``, a scalar tensor."""
        return torch.full((), self.sigma, dtype=x.dtype)

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> Gaussian:
        """Return the law ``N(x_s + mu h, sigma^2 h)`` of the state h = t - s later."""
        h = elapsed(s, t)
        return Gaussian(x_s + per_sample(self.mu * h, x_s), per_sample(self.sigma * h.sqrt(), x_s))

    def entropy(self, t: Time) -> Tensor:
        """Return the entropy ``log(2 pi e sigma^2 t) / 2`` in nats per entry, from a point.

        It grows without bound.
        """
        return (2 * math.pi * math.e * self.sigma**2 * as_time(t).double()).log() / 2

    def passage(self, distance: float) -> BrownianPassage:
        """Return the law of the first time at which the process is ``distance`` above its start.

        Args:
            distance: length; negative for a level below the start.
        """
        return BrownianPassage(abs(distance), self.mu * math.copysign(1.0, distance), self.sigma)

    def maximum(self, t: float) -> BrownianMaximum:
        """Return the law of the highest point above the start up to time t."""
        return BrownianMaximum(t, self.mu, self.sigma)


@dataclass(frozen=True)
class LogNormal:
    """The law of ``exp(Y)`` for Gaussian Y, independent in every entry.

    Args:
        log: the law of Y.
    """

    log: Gaussian

    @property
    def mean(self) -> Tensor:
        """The mean of the law, ``exp(m + s^2 / 2)``."""
        return (self.log.mean + self.log.std.square() / 2).exp()

    @property
    def var(self) -> Tensor:
        """The variance of the law, ``mean^2 (exp(s^2) - 1)``."""
        return self.mean.square() * torch.expm1(self.log.std.square())

    def draw(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """Return the state ``exp(m + s z)`` of standard normal numbers z."""
        return self.log.draw(z).exp()

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the log-density in nats, the normal log-density of log x minus ``log x``."""
        return self.log.log_prob(x.log()) - sum_event(x.log())


@dataclass(frozen=True)
class GeometricBrownian(ExactProcess):
    """Geometric Brownian motion, ``dX = mu X dt + sigma X dB`` on x > 0, in every entry.

    The solution is ``X_t = x exp((mu - sigma^2 / 2) t + sigma B_t)``; on a `BrownianPath` the draws
    are the strong solution on that path. Osborne 1959; Black and Scholes 1973.

    Args:
        mu: growth of the mean, per unit of time.
        sigma: volatility, per root of time.
    """

    mu: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "sigma")

    @property
    def log(self) -> Brownian:
        """The process of log X, a Brownian motion with drift ``mu - sigma^2 / 2``."""
        return Brownian(self.mu - self.sigma**2 / 2, self.sigma)

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the drift ``mu x`` of the process."""
        return self.mu * x

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the diffusion ``sigma x`` of the process."""
        return self.sigma * x

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> LogNormal:
        """Return the law of x_t, ``log x_t ~ N(log x_s + (mu - sigma^2 / 2) h, sigma^2 h)``.

        Raises:
            OrnsteinError: if an entry of x_s is not positive.
        """
        if not bool((x_s > 0).all()):
            raise OrnsteinError(
                f"geometric Brownian motion from {float(x_s.min())}: states are positive; shift or"
                " take logs yourself"
            )
        return LogNormal(self.log.transition(x_s.log(), s, t))

    def entropy(self, t: Time, start: float = 1.0) -> Tensor:
        """Return the entropy in nats at time t of one entry that was at ``start``.

        It is the entropy of log X plus ``E[log X_t]``.
        """
        return self.log.entropy(t) + math.log(start) + self.log.mu * as_time(t).double()

    def passage(self, start: float, level: float) -> BrownianPassage:
        """Return the law of the first time at which the process meets a level.

        Args:
            start: the state at time 0, positive.
            level: the level, positive.

        Raises:
            OrnsteinError: unless both are positive.
        """
        if not (start > 0 and level > 0):
            raise OrnsteinError(
                f"from {start} to {level}: both must be positive, for so is the process"
            )
        return self.log.passage(math.log(level / start))


@dataclass(frozen=True)
class BrownianBridge(ExactProcess):
    """A Brownian motion of variance ``sigma^2`` per unit of time that is at ``end`` at time T.

    `orn.Bridge` is the bridge to 0, as a `LinearSDE`.

    Args:
        end: the state of all paths at time T.
        sigma: length per root of time.
        T: the time at which the paths meet.
    """

    end: float = 0.0
    sigma: float = 1.0
    T: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "sigma", "T")

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the drift ``(end - x) / (T - t)`` of the bridge."""
        return (self.end - x) / per_sample(self.T - as_time(t), x)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """Return the constant diffusion ``sigma``, a scalar tensor."""
        return torch.full((), self.sigma, dtype=x.dtype)

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> Gaussian:
        """Return the law of x_t given x_s, for s < T and s <= t <= T.

        With h = t - s it is ``N(x + (b - x) h / (T - s), sigma^2 h (T - t) / (T - s))``.

        Raises:
            OrnsteinError: if a time is beyond T.
        """
        h = elapsed(s, t)
        left = self.T - as_time(s).double()
        if bool((left <= 0).any() | (h > left).any()):
            raise OrnsteinError(
                f"a transition from s={s} to t={t}: the bridge ends at T={self.T}, needs s < T and"
                " t <= T"
            )
        part = h / left
        std = self.sigma * (h * (1 - part)).sqrt()
        return Gaussian(x_s + (self.end - x_s) * per_sample(part, x_s), per_sample(std, x_s))  # (1)

    def covariance(self, s: Time, t: Time) -> Tensor:
        """Return ``Cov(X_s, X_t) = sigma^2 min(s, t) (T - max(s, t)) / T``, from a point."""
        s, t = as_time(s).double(), as_time(t).double()
        return self.sigma**2 * torch.minimum(s, t) * (self.T - torch.maximum(s, t)) / self.T

    def entropy(self, t: Time) -> Tensor:
        """Return the entropy ``log(2 pi e Var X_t) / 2`` in nats per entry, from a point at time 0.

        It rises until T / 2, then falls.
        """
        return (2 * math.pi * math.e * self.covariance(t, t)).log() / 2

    def maximum(self, start: float = 0.0) -> BridgeMaximum:
        """Return the law of the highest point between time 0, at ``start``, and T."""
        return BridgeMaximum(start, self.end, self.T, self.sigma)
