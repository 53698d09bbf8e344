"""Linear SDEs: Gaussian noising processes with exact kernels, given by two functions of time.

Every diffusion model and every sampler of a density in this library noises with such a process. The
data are at t = 0, the noise is at t = T, and ``x_t | x_0 ~ N(alpha_t x_0, sigma_t^2 I)``. With the
log-SNR ``lambda_t = 2 (log alpha_t - log sigma_t)``, the process with these marginals is ``dX =
f X dt + g dB``, where

    f = (log alpha)',     g^2 = (sigma^2)' - 2 f sigma^2 = -lambda' sigma^2.                     (1)

Of the noise variance at t the fraction ``tau(s, t) = 1 - exp(lambda_t - lambda_s)`` has entered
since the time s < t. Hence

    x_t | x_s       ~ N(alpha_t / alpha_s x_s, sigma_t^2 tau),                                   (2)
    x_s | x_t, x_0  ~ N(r x_t + c x_0, sigma_s^2 eta^2 tau),                                     (3)
    r = sigma_s / sigma_t sqrt(1 - eta^2 tau),    c = alpha_s (1 - sqrt((1 - eta^2 tau)(1 - tau))),

where eta = 1 is Bayes' theorem (DDPM) and eta = 0 is the deterministic map of DDIM. Both ends of
time are finite without an epsilon: sigma_0 = 0, and alpha_T = 0 where the process destroys the data
completely. Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 4-7; Song et al. 2021 (DDIM), eq. 7;
Kingma et al. 2021, eq. 1-5.

Times are scalars (0-d tensors or floats) or ``(b,)``, one for each sample. Time grids are float64
on the CPU: times of dimension 0 do not promote the dtype of x.
"""

__all__ = ["LinearSDE", "Time", "as_time"]

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.numerics.roots import bisect
from ornstein.core.processes.constants import check_steps
from ornstein.errors import OrnsteinError

Time = Tensor | float
"""A time of a process: one for the whole batch, a float or 0-d tensor, or ``(b,)``."""

_HALVINGS = 60  # enough for every digit of a double


def as_time(t: Time) -> Tensor:
    """Return a time as a tensor: a float becomes a 0-d float64 tensor, a tensor is not changed."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


def _derivative(fn: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """Return ``fn'(t)`` elementwise, by forward-mode differentiation."""
    return torch.func.jvp(fn, (t,), (torch.ones_like(t),))[1]


class LinearSDE(ABC):
    """A noising process ``dX = f(t) X dt + g(t) dB``, given by ``log_alpha`` and ``log_sigma``.

    A subclass is a frozen dataclass of floats that defines these two functions, elementwise in t.
    It may override `alpha`, `f`, `g2` or `time` by a closed form, for speed or because the general
    formula is ``0 * inf`` at an end; the tests hold every override to the general formula.

    Attributes:
        T: end of time, where the noise is.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Linear(orn.LinearSDE):
        ...     T: float = 1.0
        ...     log_alpha = lambda self, t: -t
        ...     log_sigma = lambda self, t: t.log()
        >>> Linear().times(4).shape
        torch.Size([5])
    """

    T: float

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """Return the logarithm of the factor on the data, ``log alpha_t``."""

    @abstractmethod
    def log_sigma(self, t: Tensor) -> Tensor:
        """Return the logarithm of the standard deviation of the noise, ``log sigma_t``."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which a checkpoint rebuilds the process."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}

    @property
    def pinned(self) -> bool:
        """Whether all paths meet in the origin at T, as the paths of a bridge do."""
        return False

    def alpha(self, t: Time) -> Tensor:
        """Return the factor on the data, ``alpha_t``, in [0, 1]."""
        return self.log_alpha(as_time(t)).exp()

    def sigma(self, t: Time) -> Tensor:
        """Return the standard deviation of the noise, ``sigma_t``, in the units of the data."""
        return self.log_sigma(as_time(t)).exp()

    def log_snr(self, t: Time) -> Tensor:
        """Return the log signal-to-noise ratio, ``lambda_t = 2 (log alpha_t - log sigma_t)``.

        It decreases in t; it is ``+inf`` without noise and ``-inf`` without signal.
        """
        t = as_time(t)
        return 2 * (self.log_alpha(t) - self.log_sigma(t))

    def ratio(self, t: Time) -> Tensor:
        """Return the noise-to-signal ratio ``sigma_t / alpha_t = exp(-lambda_t / 2)``."""
        return (-self.log_snr(t) / 2).exp()

    def f(self, t: Time) -> Tensor:
        """Return the drift coefficient ``f = (log alpha)'``, per unit of time."""
        return _derivative(self.log_alpha, as_time(t))  # (1)

    def g2(self, t: Time) -> Tensor:
        """Return the squared diffusion coefficient ``g^2 = -lambda' sigma^2``, per unit of time."""
        t = as_time(t)
        return -_derivative(self.log_snr, t) * self.sigma(t).square()  # (1)

    def tau(self, s: Time, t: Time) -> Tensor:
        """Return the fraction of the noise variance at t that has entered since s, for s <= t."""
        return -torch.expm1(self.log_snr(t) - self.log_snr(s))

    def polar(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(cos, sin, scale)`` with ``alpha = cos / scale`` and ``sigma = sin / scale``.

        With ``cos^2 + sin^2 = 1`` these are coordinates in which no coefficient is infinite at
        either end. ``scale`` is 0 at a pinned end, where x is 0.
        """
        t = as_time(t)
        log_snr = self.log_snr(t)
        norm = (self.alpha(t).square() + self.sigma(t).square()).sqrt()
        scale = torch.where(norm > 0, 1 / norm, torch.zeros_like(norm))
        # by exp: torch.sigmoid and torch.hypot round differently at the end of a batch, and a
        # sample must not see its batch
        return 1 / (1 + (-log_snr).exp()).sqrt(), 1 / (1 + log_snr.exp()).sqrt(), scale

    def flow(self, t: Time) -> tuple[Tensor, Tensor]:
        """Return ``(a, b)`` of the probability-flow ODE ``dx/dt = a x + b E[x_0 | x_t]``.

        ``a = (log sigma)'`` and ``b = alpha' - a alpha`` are finite wherever sigma > 0, also where
        alpha = 0. Song et al. 2021, eq. 13, with the score written by Tweedie's formula.
        """
        t = as_time(t)
        a = _derivative(self.log_sigma, t)
        return a, _derivative(self.alpha, t) - a * self.alpha(t)

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """Return the drift ``f(t) x`` of the noising equation ``dX = f X dt + g dB``."""
        return per_sample(self.f(t), x) * x

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Tensor:
        """Return the diffusion ``g(t)`` of the noising equation, shaped to multiply a batch."""
        return per_sample(self.g2(t).sqrt(), x)

    def marginal(self, x0: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """Return the law ``N(alpha_t x_0, sigma_t^2)`` of ``x_t`` given the data ``x_0``."""
        return Gaussian(per_sample(self.alpha(t), x0) * x0, per_sample(self.sigma(t), x0))

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> Gaussian:
        """Return the law ``N(alpha_t / alpha_s x_s, sigma_t^2 tau)`` of ``x_t | x_s``, s < t."""
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
        """Return the generating kernel ``x_s | x_t`` for s < t when ``x_0 | x_t`` is Gaussian.

        The conditional law given ``x_0`` and ``x_t``, integrated over ``x_0``: the mean is ``r x_t
        + c x0.mean``, the variance ``eta^2 (sigma_s^2 tau + c^2 x0.std^2)``.

        Args:
            x_t: state at t.
            x0: a Gaussian, or a tensor if ``x_0`` is a point.
            s, t: times, s < t; s = 0 gives ``x0`` itself.
            eta: 1 gives the law of the process (DDPM), 0 is deterministic (DDIM).
        """
        s, t = as_time(s), as_time(t)
        mean, std = (
            (x0.mean, x0.std)
            if isinstance(x0, Gaussian)
            else (x0, torch.zeros((), dtype=x_t.dtype))
        )
        log_decay = self.log_snr(t) - self.log_snr(s)
        tau = -torch.expm1(log_decay)
        log_old = torch.log1p(-(eta**2) * tau) / 2  # sqrt of the old fraction of the noise
        log_sigma_t = self.log_sigma(t)
        noise_free = log_sigma_t == -torch.inf  # a pinned end: x_t carries no information
        r = torch.where(noise_free, 0.0, (self.log_sigma(s) - log_sigma_t + log_old).exp())
        c = -self.alpha(s) * torch.expm1(log_old + log_decay / 2)
        r, c = per_sample(r, x_t), per_sample(c, x_t)
        new = per_sample(eta * self.sigma(s) * tau.sqrt(), x_t)
        return Gaussian(r * x_t + c * mean, torch.hypot(new.to(std.dtype), eta * c * std))  # (3)

    def prior(self, shape: Sequence[int], var: float = 1.0) -> Gaussian:
        """Return the start law ``N(0, alpha_T^2 var + sigma_T^2)`` of generation.

        It is exact for Gaussian data with mean zero and this variance. For a pinned process it is a
        point mass, with a standard deviation of 0.

        Args:
            shape: ``(b, *event)``.
            var: variance of the data.
        """
        T = as_time(self.T)
        std = torch.hypot(self.alpha(T) * var**0.5, self.sigma(T))
        return Gaussian(torch.zeros(tuple(shape)), std)

    def times(
        self, n: int, spacing: "Callable[[LinearSDE, int], Tensor] | None" = None
    ) -> Float[Tensor, " {n}+1"]:
        """Return a grid of ``n`` steps from T down to 0, float64.

        By default the grid is uniform in the angle ``atan(sigma / alpha)``.

        Args:
            n: number of steps, at least 1.
            spacing: a member of `ornstein.spacing`, or any function ``(sde, n) -> (n + 1,)``.

        Raises:
            OrnsteinError: if n is not a positive integer, or the spacing is not a function.
        """
        check_steps(n)
        if isinstance(spacing, str):
            raise OrnsteinError(
                f"spacing={spacing!r} is a name: pass the function that it stands for,"
                f" orn.spacing.named({spacing!r})"
            )
        if spacing is not None and not callable(spacing):
            raise OrnsteinError(
                f"spacing={spacing!r}: pass a member of orn.spacing, or a function (sde, n) ->"
                " times"
            )
        if spacing is not None:
            return spacing(self, n)
        cos, sin, _ = self.polar(as_time(self.T))
        angle = torch.atan2(sin, cos) * torch.linspace(1, 0, n + 1, dtype=torch.float64)
        times = self.time(-2 * angle.tan().log())
        times[0], times[-1] = self.T, 0.0
        return times

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the times at which the log-SNR has the given values, float64, clamped to [0, T].

        By bisection; processes with a closed form override it.
        """
        target = log_snr.double()
        low, high = bisect(
            lambda t: self.log_snr(t) > target,
            torch.zeros_like(target),
            torch.full_like(target, self.T),
            _HALVINGS,
        )
        return (low + high) / 2

    def check_times(self, times: Tensor) -> None:
        """Raise `OrnsteinError` if the process has no law at one of these times.

        Args:
            times: of any shape; negative times, for example, have no noise level.
        """
        undefined = (times < 0) | self.log_snr(times).isnan()
        if bool(undefined.any()):
            raise OrnsteinError(
                f"t={float(times[undefined][0]):g} is outside the time of"
                f" {type(self).__name__}, which runs from 0 (data) to T={float(self.T):g} (noise):"
                " use a grid such as sde.times(20)"
            )
