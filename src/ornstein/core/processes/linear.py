"""A linear SDE is two functions of time; everything else follows from them.

Notation: data at t = 0, noise at t = T; ``x_t | x_0 ~ N(alpha_t x_0, sigma_t^2 I)``. With the
log-SNR ``lambda_t = 2 (log alpha_t - log sigma_t)`` the process that has these marginals is ``dX =
f X dt + g dB`` with

    f = (log alpha)',     g^2 = (sigma^2)' - 2 f sigma^2 = -lambda' sigma^2,                     (1)

and of the noise at t the fraction ``tau(s, t) = 1 - exp(lambda_t - lambda_s)`` has entered since s
< t. Hence

    x_t | x_s       ~ N(alpha_t / alpha_s x_s, sigma_t^2 tau),                                   (2)
    x_s | x_t, x_0  ~ N(r x_t + c x_0, sigma_s^2 eta^2 tau),                                     (3)
    r = sigma_s / sigma_t sqrt(1 - eta^2 tau),    c = alpha_s (1 - sqrt((1 - eta^2 tau)(1 - tau))),

where eta = 1 is Bayes' theorem (DDPM) and eta = 0 the deterministic DDIM map. Both ends of time are
finite without an
epsilon: sigma_0 = 0, and alpha_T = 0 where the process destroys the data completely. Sohl-Dickstein
et al. 2015; Ho et al. 2020, eq. 4-7; Song et al. 2021 (DDIM), eq. 7; Kingma et al. 2021, eq. 1-5.

Times are scalars (0-d tensors or floats) or ``(b,)``. Grids are float64 on the CPU: 0-d times do
not promote the dtype of x.
"""

__all__ = ["LinearSDE"]

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.errors import OrnsteinError

Time = Tensor | float


def as_time(t: Time) -> Tensor:
    """A float becomes a 0-d float64 tensor; a tensor stays what it is."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


def _derivative(fn: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """``fn'(t)`` elementwise, by forward mode."""
    return torch.func.jvp(fn, (t,), (torch.ones_like(t),))[1]


class LinearSDE(ABC):
    """``dX = f(t) X dt + g(t) dB`` given by ``log_alpha`` and ``log_sigma``.

    A subclass is a frozen dataclass of floats that defines these two (elementwise in t). It may
    override `alpha`, `f`, `g2` or `time` with a closed form, for speed or because (1) is ``0 *
    inf`` at an end; the tests hold every override to what it replaces.
    """

    T: float

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """Log of the factor on the data."""

    @abstractmethod
    def log_sigma(self, t: Tensor) -> Tensor:
        """Log of the standard deviation of the noise."""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, from which a checkpoint rebuilds the process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @property
    def pinned(self) -> bool:
        """Whether all paths meet in one point (the origin) at T, as those of a bridge do."""
        return False

    def alpha(self, t: Time) -> Tensor:
        """Factor on the data; in [0, 1]."""
        return self.log_alpha(as_time(t)).exp()

    def sigma(self, t: Time) -> Tensor:
        """Standard deviation of the noise."""
        return self.log_sigma(as_time(t)).exp()

    def log_snr(self, t: Time) -> Tensor:
        """``lambda_t = 2 (log alpha_t - log sigma_t)``: decreasing, ``+inf`` without noise,
        ``-inf`` without signal."""
        t = as_time(t)
        return 2 * (self.log_alpha(t) - self.log_sigma(t))

    def ratio(self, t: Time) -> Tensor:
        """Noise-to-signal ratio ``sigma_t / alpha_t = exp(-lambda_t / 2)``: 0 without noise."""
        return (-self.log_snr(t) / 2).exp()

    def f(self, t: Time) -> Tensor:
        """Drift coefficient, ``(log alpha)'`` (1), per unit of time."""
        return _derivative(self.log_alpha, as_time(t))  # (1)

    def g2(self, t: Time) -> Tensor:
        """Squared diffusion coefficient, ``-lambda' sigma^2`` (1), variance per unit of time."""
        t = as_time(t)
        return -_derivative(self.log_snr, t) * self.sigma(t).square()  # (1)

    def tau(self, s: Time, t: Time) -> Tensor:
        """Fraction of the noise variance at t that is new since s; s <= t; in [0, 1]."""
        return -torch.expm1(self.log_snr(t) - self.log_snr(s))

    def polar(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """``(cos, sin, scale)`` with ``alpha = cos / scale``, ``sigma = sin / scale``, ``cos^2 +
        sin^2 = 1``.

        The coordinates in which no coefficient is infinite at either end. ``scale`` is 0 at a
        pinned end, where x is 0.
        """
        t = as_time(t)
        log_snr, norm = self.log_snr(t), (self.alpha(t).square() + self.sigma(t).square()).sqrt()
        scale = torch.where(norm > 0, 1 / norm, torch.zeros_like(norm))
        # by exp: torch.sigmoid and torch.hypot round differently at the end of a batch, and a
        # sample must not see its batch
        return 1 / (1 + (-log_snr).exp()).sqrt(), 1 / (1 + log_snr.exp()).sqrt(), scale

    def flow(self, t: Time) -> tuple[Tensor, Tensor]:
        """``(a, b)`` of the probability-flow ODE ``dx/dt = a x + b E[x_0 | x_t]``: ``a = (log
        sigma)'``, ``b = alpha' - a alpha``.

        Finite wherever sigma > 0, also where alpha = 0. Song et al. 2021, eq. 13, with the score
        written by Tweedie.
        """
        t = as_time(t)
        a = _derivative(self.log_sigma, t)
        return a, _derivative(self.alpha, t) - a * self.alpha(t)

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """``f(t) x``: this process seen as an SDE that noises."""
        return per_sample(self.f(t), x) * x

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """``g(t)``, shaped to multiply a batch."""
        return per_sample(self.g2(t).sqrt(), x)

    def marginal(self, x0: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """``x_t | x_0``, in one step."""
        return Gaussian(per_sample(self.alpha(t), x0) * x0, per_sample(self.sigma(t), x0))

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> Gaussian:
        """``x_t | x_s`` for s < t: the exact noising kernel (2)."""
        s, t = as_time(s), as_time(t)
        ratio = (self.log_alpha(t) - self.log_alpha(s)).exp()
        std = self.sigma(t) * self.tau(s, t).sqrt()
        return Gaussian(per_sample(ratio, x_s) * x_s, per_sample(std, x_s))  # (2)

    def posterior(
        self,
        x_t: Float[Tensor, "b *event"],
        x0: Gaussian | Tensor,
        s: Time,
        t: Time,
        eta: float = 1.0,
    ) -> Gaussian:
        """``x_s | x_t`` for s < t when ``x_0 | x_t`` is the Gaussian ``x0``: the exact generating
        kernel.

        (3) integrated over ``x0``: the mean is ``r x_t + c x0.mean``, the variance ``eta^2
        (sigma_s^2 tau + c^2 x0.std^2)``.

        Args:
            x_t: state at t.
            x0: a Gaussian, or a tensor when x_0 is known exactly.
            s, t: times, s < t; s = 0 gives ``x0`` itself.
            eta: 1 keeps the law of the process (DDPM), 0 is deterministic (DDIM).
        """
        s, t = as_time(s), as_time(t)
        mean, std = (
            (x0.mean, x0.std)
            if isinstance(x0, Gaussian)
            else (x0, torch.zeros((), dtype=x_t.dtype))
        )
        decay = self.log_snr(t) - self.log_snr(s)
        tau = -torch.expm1(decay)
        kept = torch.log1p(-(eta**2) * tau) / 2
        log_sigma_t = self.log_sigma(t)
        noise_free = log_sigma_t == -torch.inf  # a pinned end: x_t carries no information
        r = torch.where(noise_free, 0.0, (self.log_sigma(s) - log_sigma_t + kept).exp())
        c = -self.alpha(s) * torch.expm1(kept + decay / 2)
        r, c = per_sample(r, x_t), per_sample(c, x_t)
        new = per_sample(eta * self.sigma(s) * tau.sqrt(), x_t)
        return Gaussian(r * x_t + c * mean, torch.hypot(new.to(std.dtype), eta * c * std))  # (3)

    def prior(self, shape: Sequence[int], var: float = 1.0) -> Gaussian:
        """The start law ``N(0, alpha_T^2 var + sigma_T^2)`` on ``shape = (b, *event)``; var is that
        of the data.

        Exact for Gaussian data with mean zero and this variance; a point mass (std 0) for a pinned
        process.
        """
        T = as_time(self.T)
        std = torch.hypot(self.alpha(T) * var**0.5, self.sigma(T))
        return Gaussian(torch.zeros(tuple(shape)), std)

    def times(
        self, n: int, spacing: "Callable[[LinearSDE, int], Tensor] | None" = None
    ) -> Float[Tensor, " {n}+1"]:
        """A grid of ``n`` steps from T down to 0, float64; by default uniform in the angle
        ``atan(sigma / alpha)``.

        Args:
            n: number of steps, at least 1.
            spacing: a member of `ornstein.spacing`, or any function ``(sde, n) -> (n + 1,)``.
        """
        if n < 1:
            raise OrnsteinError(
                f"a grid of {n} steps: at least 1 step is needed, usually 10 to 100"
            )
        if spacing is not None:
            return spacing(self, n)
        cos, sin, _ = self.polar(as_time(self.T))
        angle = torch.atan2(sin, cos) * torch.linspace(1, 0, n + 1, dtype=torch.float64)
        times = self.time(-2 * angle.tan().log())
        times[0], times[-1] = self.T, 0.0
        return times

    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which the log-SNR has the given values, float64, clamped to [0, T]; bisection
        without a closed form."""
        target = log_snr.double()
        low, high = torch.zeros_like(target), torch.full_like(target, self.T)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.log_snr(middle) > target
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2
